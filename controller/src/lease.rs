//! Leader election by a Lease.
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
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::Error;
use crate::fleet::lasts;
use crate::owner::owner;
use crate::settings::Settings;

/// The name of the Lease.
pub const LEASE: &str = "sink-controller";

/// The times of an election.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The time for which a Lease is valid without renewal.
    pub valid: Duration,
    /// The time without renewal after which a leader stops; less than `valid`.
    pub deadline: Duration,
    /// The interval between renewals, or between checks by a candidate.
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
    /// Returns the maximum time of a request.
    fn patience(&self) -> Duration {
        self.deadline / 3
    }
}

/// A candidate for leadership.
#[allow(missing_debug_implementations, reason = "an API has none")]
pub struct Candidate {
    client: Client,
    settings: Settings,
    api: Api<Lease>,
    identity: String,
    terms: Terms,
    /// The version of another holder's Lease, and when it was first seen.
    seen: Option<(String, Instant)>,
    /// The time of the last renewal before this candidate acquired the Lease.
    renewed_before: Option<Timestamp>,
}

impl Candidate {
    /// Creates a candidate. No other candidate may have the same identity.
    #[must_use]
    pub fn new(client: &Client, settings: &Settings, identity: &str, terms: Terms) -> Self {
        Self {
            client: client.clone(),
            settings: settings.clone(),
            api: Api::namespaced(client.clone(), &settings.namespace),
            identity: identity.to_owned(),
            terms,
            seen: None,
            renewed_before: None,
        }
    }

    /// Waits for leadership. Returns the time from which it counts.
    pub async fn lead(&mut self) -> Instant {
        loop {
            let begun = Instant::now();
            match self.attempt().await {
                Ok(true) => {
                    tracing::info!(identity = self.identity, "acquired leadership");
                    return begun;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot acquire the lease"),
            }
            sleep(self.terms.renew).await;
        }
    }

    /// Returns the time without a leader before this candidate acquired the Lease; none if it
    /// is the first leader.
    #[must_use]
    pub fn time_without_leader(&self) -> Option<Duration> {
        Some(lasts(self.renewed_before?, Timestamp::now()))
    }

    /// Keeps leadership, and returns when it is lost: at the latest a deadline after the
    /// start of the last successful renewal, whatever the API server does.
    pub async fn stay(&mut self, mut renewed: Instant) {
        while let Ok(Some(begun)) = timeout_at(renewed + self.terms.deadline, self.renew()).await {
            renewed = begun;
        }
        tracing::warn!(identity = self.identity, "lost leadership");
    }

    /// Renews the Lease. Returns the time at which the renewal began; none if another
    /// candidate holds the Lease.
    async fn renew(&mut self) -> Option<Instant> {
        loop {
            sleep(self.terms.renew).await;
            let begun = Instant::now();
            match self.attempt().await {
                Ok(true) => return Some(begun),
                Ok(false) => return None,
                Err(error) => tracing::warn!(%error, "cannot renew the lease"),
            }
        }
    }

    /// Releases the Lease, if it is held, so that another candidate need not wait.
    pub async fn resign(&mut self) {
        // Without this, the next leader acquires it as well, only later.
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

    /// Tries to acquire or renew the Lease within the maximum time of a request: an API
    /// server that does not answer must not cause two leaders.
    async fn attempt(&mut self) -> Result<bool, Error> {
        Ok(timeout(self.terms.patience(), self.try_lead()).await??)
    }

    /// Tries to acquire or renew the Lease, and returns whether it is held. Of two
    /// candidates that write the same version of it, the API server accepts one.
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
                let renewed = lease
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.renew_time.as_ref());
                self.renewed_before = renewed.map(|renewed| renewed.0);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use tower::service_fn;

    use super::*;

    /// The time since the Lease was last renewed.
    const PAUSE: Duration = Duration::from_secs(300);

    /// Returns a client of an API server that answers a number of requests, and then none.
    /// It accepts every write.
    fn client_with_answers(count: u32) -> Client {
        let requests_seen = Arc::new(AtomicU32::new(0));
        let answer = move |request: Request<Body>| {
            let requests_seen = Arc::clone(&requests_seen);
            async move {
                if requests_seen.fetch_add(1, Ordering::Relaxed) >= count {
                    std::future::pending::<()>().await;
                }
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(LEASE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(LeaseSpec {
                        holder_identity: Some("we".to_owned()),
                        renew_time: Some(MicroTime(Timestamp::now() - PAUSE)),
                        ..LeaseSpec::default()
                    }),
                };
                drop(request);
                let body = serde_json::to_vec(&lease).unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(body)))
            }
        };
        Client::new(service_fn(answer), "syslog-sink")
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_renewals_stops_at_the_deadline() {
        let terms = Terms::default();
        // The second renewal is begun after twice the time between two.
        for (requests, begun) in [(0, Duration::ZERO), (1, Duration::ZERO), (2, terms.renew)] {
            let client = client_with_answers(requests);
            let mut candidate = Candidate::new(&client, &Settings::default(), "we", terms);
            let start = Instant::now();
            candidate.stay(start).await;
            assert_eq!(
                start.elapsed(),
                begun + terms.deadline,
                "{requests} answers"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_knows_how_long_there_was_none() {
        let client = client_with_answers(100);
        let settings = Settings::default();
        let mut candidate = Candidate::new(&client, &settings, "we", Terms::default());
        assert_eq!(candidate.time_without_leader(), None);
        candidate.lead().await;
        assert!(candidate.time_without_leader() >= Some(PAUSE));
    }
}
