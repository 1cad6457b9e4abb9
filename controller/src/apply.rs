//! The plan's objects, in the API server: each is written before what refers
//! to it, so that whatever ends in between leaves nothing half done.
//!
//! ```text
//! ConfigMaps -> Secrets of the revision -> DaemonSet -> Secrets that nobody has any more
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agent;
use crate::fleet::Agent;
use crate::history::{History, Reach, Step};
use crate::names::{EVENTS, HISTORY, LANES, MANAGED_BY, MANAGER, REVISION, STATE, selector};
use crate::owner::owner;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::snapshot::Snapshot;

/// Writes objects for one who leads.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Applier<'a> {
    client: Client,
    settings: &'a Settings,
    /// With whom everything goes.
    owner: Option<OwnerReference>,
}

impl<'a> Applier<'a> {
    /// One that makes everything the Deployment's of the settings, if there is
    /// such a one.
    ///
    /// # Errors
    ///
    /// Where the API server cannot be asked for it.
    pub async fn new(client: Client, settings: &'a Settings) -> kube::Result<Self> {
        Ok(Self {
            owner: owner(&client, settings).await?,
            client,
            settings,
        })
    }

    /// Writes what differs. `history` and `step` are what comes next.
    ///
    /// # Errors
    ///
    /// Where the API server refuses or cannot be reached.
    pub async fn apply(
        &self,
        plan: &Plan,
        snapshot: &Snapshot,
        history: &History,
        step: &Step,
    ) -> kube::Result<()> {
        self.write(&self.state(plan, history)).await?;
        self.write(&self.events()).await?;
        self.write(&agent::service_account(self.settings)).await?;
        let secrets: Api<Secret> = self.api();
        let ours = format!("{REVISION},{}", selector(MANAGED_BY));
        let labelled = ListParams::default().labels(&ours);
        let stored = secrets.list_metadata(&labelled).await?.items;

        let daemon_set = if step.revision == plan.revision {
            let (wanted, daemon_set) = agent::objects(&plan.files, &plan.revision, self.settings);
            for secret in &wanted {
                // Immutable, and named by its content: what is there is right.
                let name = secret.name_any();
                if !stored.iter().any(|stored| stored.name_any() == name) {
                    self.write(secret).await?;
                }
            }
            daemon_set
        } else if let Some(daemon_set) = self.daemon_set_of(&step.revision).await? {
            daemon_set
        } else {
            let revision = &step.revision;
            tracing::error!(revision, "its Secrets are gone, so it cannot come back");
            return Ok(());
        };
        let most = max_unavailable(step, snapshot, self.settings);
        let ready_seconds = ready_seconds(step, self.settings);
        self.write(&agent::rolled(daemon_set, most, ready_seconds))
            .await?;

        let agents = snapshot.agents.iter().map(|agent| &agent.revision);
        let good = history.good.iter().map(|good| &good.revision);
        let kept: BTreeSet<&String> = agents.chain(good).chain([&step.revision]).collect();
        for secret in stored {
            let revision = secret.labels().get(REVISION);
            if revision.is_some_and(|revision| !kept.contains(revision)) {
                self.delete(&secrets, &secret.name_any()).await?;
            }
        }
        Ok(())
    }

    /// The `DaemonSet` as a revision had it.
    async fn daemon_set_of(&self, revision: &str) -> kube::Result<Option<DaemonSet>> {
        let secrets: Api<Secret> = self.api();
        let first = secrets.get_opt(&agent::secret_name(revision, 0)).await?;
        let (_, daemon_set) = agent::from_secrets(first.into_iter().collect());
        Ok(daemon_set)
    }

    fn state(&self, plan: &Plan, history: &History) -> ConfigMap {
        let lanes = serde_json::to_string(&plan.lanes).expect("names and numbers");
        let history = serde_json::to_string(history).expect("texts and times");
        ConfigMap {
            metadata: agent::metadata(STATE, self.settings),
            data: Some(BTreeMap::from([
                (LANES.to_owned(), lanes),
                (HISTORY.to_owned(), history),
            ])),
            ..ConfigMap::default()
        }
    }

    /// What is in it is written by those who send Events.
    fn events(&self) -> ConfigMap {
        ConfigMap {
            metadata: agent::metadata(EVENTS, self.settings),
            ..ConfigMap::default()
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    /// Server-side apply: the API server changes nothing where nothing differs.
    async fn write<K>(&self, object: &K) -> kube::Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let mut object = object.clone();
        object.meta_mut().owner_references = self.owner.clone().map(|owner| vec![owner]);
        let parameters = PatchParams::apply(MANAGER).force();
        let api: Api<K> = self.api();
        api.patch(&object.name_any(), &parameters, &Patch::Apply(&object))
            .await
            .map(drop)
    }

    async fn delete(&self, secrets: &Api<Secret>, name: &str) -> kube::Result<()> {
        tracing::info!(secret = name, "no agent has this revision any more");
        match secrets.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}

/// How many agents may be without work. Those that are already, on nodes that
/// are down for example, hold nothing up.
fn max_unavailable(step: &Step, snapshot: &Snapshot, settings: &Settings) -> i32 {
    let at_once = match step.reach {
        Reach::One => 1,
        Reach::All => {
            let percent = usize::from(settings.agent.max_unavailable_percent);
            (snapshot.nodes * percent).div_ceil(100).max(1)
        }
    };
    let is_down = |agent: &&Agent| agent.revision != step.revision && agent.ready_since.is_none();
    (at_once + snapshot.agents.iter().filter(is_down).count()) as i32
}

/// For how long an agent has to be ready before the next one is replaced. Else
/// the second node would get what is tried as soon as the first is ready.
fn ready_seconds(step: &Step, settings: &Settings) -> i32 {
    match step.reach {
        Reach::One => settings.pace.settle.as_secs_f64().ceil() as i32,
        Reach::All => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_are_down_hold_nothing_up() {
        let agent = |revision: &str, is_ready: bool| Agent {
            pod: "pod".to_owned(),
            node: "node".to_owned(),
            revision: revision.to_owned(),
            ready_since: is_ready.then(k8s_openapi::jiff::Timestamp::now),
            address: None,
            restarts: 0,
            trouble: None,
        };
        let snapshot = |agents: Vec<Agent>, nodes| Snapshot {
            agents,
            nodes,
            ..Snapshot::default()
        };
        let settings = Settings::default();
        let most = |reach: Reach, snapshot: &Snapshot| {
            let revision = "b".to_owned();
            max_unavailable(&Step { revision, reach }, snapshot, &settings)
        };
        let well = snapshot(vec![agent("a", true); 100], 100);
        assert_eq!(most(Reach::One, &well), 1);
        assert_eq!(most(Reach::All, &well), 5);
        assert_eq!(most(Reach::All, &snapshot(vec![], 0)), 1);
        let down = snapshot(
            vec![agent("a", false), agent("a", true), agent("b", false)],
            3,
        );
        assert_eq!(most(Reach::One, &down), 2);
    }
    #[test]
    fn what_is_tried_has_to_be_ready_for_a_while() {
        let settings = Settings::default();
        let seconds = |reach| {
            let revision = "b".to_owned();
            ready_seconds(&Step { revision, reach }, &settings)
        };
        assert_eq!((seconds(Reach::One), seconds(Reach::All)), (10, 0));
    }
}
