//! Who of several controllers leads: the holder of a Lease.
//!
//! A holder's clock is not trusted. One that does not lead watches whether the
//! Lease changes, and takes it when it did not for as long as it is valid, by
//! its own clock (as client-go does).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use crate::owner::owner;
use crate::settings::Settings;

/// The Lease's name.
pub const LEASE: &str = "sink-controller";

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For how long a Lease is valid that is not renewed.
    pub valid: Duration,
    /// A leader that could not renew it for so long, which is less, stops.
    pub deadline: Duration,
    /// How often it is renewed, or looked at.
    pub renew: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            valid: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            renew: Duration::from_secs(2),
        }
    }
}

impl Terms {
    /// How long an attempt may take.
    fn patience(&self) -> Duration {
        self.deadline / 3
    }
}

/// Why it is not known who leads.
#[derive(Debug, Error)]
enum LeaseError {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("the API server did not answer in time")]
    Late(#[from] Elapsed),
}

/// One that wants to lead.
#[allow(missing_debug_implementations, reason = "an API has none")]
pub struct Candidate {
    client: Client,
    settings: Settings,
    api: Api<Lease>,
    identity: String,
    terms: Terms,
    /// The version of another's Lease, and since when it is that.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// A candidate whose identity no other has.
    #[must_use]
    pub fn new(client: &Client, settings: &Settings, identity: &str, terms: Terms) -> Self {
        Self {
            client: client.clone(),
            settings: settings.clone(),
            api: Api::namespaced(client.clone(), &settings.namespace),
            identity: identity.to_owned(),
            terms,
            seen: None,
        }
    }

    /// Waits until it leads.
    pub async fn lead(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    tracing::info!(identity = self.identity, "leading");
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot ask for the Lease"),
            }
            sleep(self.terms.renew).await;
        }
    }

    /// Leads for as long as it may, and returns when it may not any more.
    pub async fn stay(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.terms.renew).await;
            let begun = Instant::now();
            match self.attempt().await {
                Ok(true) => renewed = begun,
                Err(error) if renewed.elapsed() < self.terms.deadline => {
                    tracing::warn!(%error, "cannot renew the Lease");
                }
                Ok(false) | Err(_) => break,
            }
        }
        tracing::warn!(identity = self.identity, "not leading any more");
    }

    /// Gives the Lease up, if it has it, so that another need not wait.
    pub async fn resign(&mut self) {
        // Whoever is next has it without this as well, only later.
        let _ = timeout(self.terms.patience(), self.give_up()).await;
    }

    async fn give_up(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(LEASE).await else {
            return;
        };
        if holder(&lease) == Some(self.identity.as_str()) {
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            let _ = self
                .api
                .replace(LEASE, &PostParams::default(), &lease)
                .await;
        }
    }

    /// The same, within a part of the time that there is: an API server that
    /// does not answer must not make two leaders.
    async fn attempt(&mut self) -> Result<bool, LeaseError> {
        Ok(timeout(self.terms.patience(), self.try_lead()).await??)
    }

    /// Whether it leads now. Two that want the Lease at once write the same
    /// version of it, and the API server takes one.
    async fn try_lead(&mut self) -> kube::Result<bool> {
        let parameters = PostParams::default();
        let written = match self.api.get_opt(LEASE).await? {
            None => {
                let metadata = ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    owner_references: owner(&self.client, &self.settings)
                        .await?
                        .map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                };
                let lease = self.lease(metadata, None);
                self.api.create(&parameters, &lease).await
            }
            Some(lease) if self.may_take(&lease) => {
                let lease = self.lease(lease.metadata, lease.spec);
                self.api.replace(LEASE, &parameters, &lease).await
            }
            Some(_) => return Ok(false),
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        match holder(lease) {
            None => true,
            Some(holder) if holder == self.identity => true,
            Some(_) => {
                let version = lease.metadata.resource_version.clone().unwrap_or_default();
                match &self.seen {
                    Some((seen, since)) if *seen == version => since.elapsed() >= self.terms.valid,
                    _ => {
                        self.seen = Some((version, Instant::now()));
                        false
                    }
                }
            }
        }
    }

    fn lease(&self, metadata: ObjectMeta, before: Option<LeaseSpec>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let is_first = before.is_none();
        let spec = before.unwrap_or_default();
        let is_ours = spec.holder_identity.as_deref() == Some(self.identity.as_str());
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(self.terms.valid.as_secs().max(1)).ok(),
                acquire_time: if is_ours {
                    spec.acquire_time
                } else {
                    now.clone()
                },
                lease_transitions: Some(
                    spec.lease_transitions.unwrap_or(0) + i32::from(!is_ours && !is_first),
                ),
                renew_time: now,
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}
