//! Applies the plan's objects. Each is written before the objects that refer to it, so that
//! an interruption leaves nothing half done.
//!
//! ```text
//! ConfigMaps -> Secrets of the revision -> DaemonSet -> pods that are replaced, and
//!                                                      Secrets that nobody has any more
//! ```
//!
//! A controller that ends in between leaves nothing inconsistent, and the next one continues:
//! a test ends the controller at each request.
//!
//! The `ConfigMap` of the state is written first in each round, with the version that was
//! read. A former leader that does not know its successor yet fails there, and changes
//! nothing. The state contains which revisions were good and which failed, so a new leader
//! repeats no trial.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agent;
use crate::error::Error;
use crate::history::{History, Step};
use crate::names::{EVENTS, HISTORY, MANAGER, STATE};
use crate::owner::owner;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::snapshot::Snapshot;

/// Writes objects on behalf of the leader.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Applier<'a> {
    client: Client,
    settings: &'a Settings,
    /// The owner of all objects.
    owner: Option<OwnerReference>,
    /// The changes found by a dry run; none if objects are really written.
    changes: Option<Mutex<Vec<Change>>>,
}

/// A change to an object that a dry run found.
#[derive(Clone, Debug)]
pub struct Change {
    /// The kind, namespace and name, such as `Secret syslog-sink/name`.
    pub object: String,
    /// The kind of change.
    pub kind: ChangeKind,
}

/// The kind of a change.
#[derive(Clone, Debug)]
pub enum ChangeKind {
    /// The object is missing, and would be created with this content.
    Created(serde_json::Value),
    /// The object would have this content.
    Changed(serde_json::Value),
    /// The object would be deleted.
    Deleted,
}

impl<'a> Applier<'a> {
    /// Creates an applier whose objects are owned by the Deployment in the settings, if it
    /// exists.
    ///
    /// # Errors
    ///
    /// Returns an error if the API server cannot be reached.
    pub async fn new(client: Client, settings: &'a Settings) -> kube::Result<Self> {
        Ok(Self {
            owner: owner(&client, settings).await?,
            client,
            settings,
            changes: None,
        })
    }

    /// Returns an applier for a dry run: the API server validates and answers, and stores
    /// nothing.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub async fn dry(client: Client, settings: &'a Settings) -> kube::Result<Self> {
        Ok(Self {
            changes: Some(Mutex::default()),
            ..Self::new(client, settings).await?
        })
    }

    /// Returns the changes that the dry run found.
    #[must_use]
    pub fn into_changes(self) -> Vec<Change> {
        self.changes.map(Mutex::into_inner).unwrap_or_default()
    }

    /// Writes the objects that differ. `history` and `step` are the next state of the
    /// rollout and the next step.
    ///
    /// # Errors
    ///
    /// Returns an error if the API server rejects a request or cannot be reached, or if the
    /// Secrets of a revision are missing.
    pub async fn apply(
        &self,
        plan: &Plan,
        snapshot: &Snapshot,
        history: &History,
        step: &Step,
    ) -> Result<(), Error> {
        // First of all: a former leader fails here.
        let mut state = self.state(history);
        state.metadata.resource_version = snapshot.state_version.clone();
        self.write(&state).await?;
        self.write(&self.events()).await?;
        self.write(&agent::service_account(self.settings)).await?;
        let stored = &snapshot.stored;

        let daemon_set = if step.revision == plan.revision {
            let (wanted, daemon_set) =
                agent::objects(&plan.configuration, &plan.revision, self.settings);
            for secret in &wanted {
                // Immutable, and named by its content: what is there is right.
                if !stored.contains_key(&secret.name_any()) {
                    self.write(secret).await?;
                }
            }
            daemon_set
        } else {
            let daemon_set = self.daemon_set_of(&step.revision).await?;
            let gone = || Error::Gone(step.revision.clone());
            agent::placed(daemon_set.ok_or_else(gone)?, self.settings)
        };
        let daemon_set = self.write(&daemon_set).await?;
        // Else the pod's successor could be made by the template before.
        if is_observed(&daemon_set) || self.changes.is_some() {
            let pods: Api<Pod> = self.api();
            for pod in &step.replace {
                tracing::info!(pod, revision = step.revision, "replacing an agent");
                self.delete(&pods, pod).await?;
            }
        }

        let needed = snapshot.fleet.revisions().chain(history.revisions());
        let kept: BTreeSet<&String> = needed.chain([&step.revision]).collect();
        let secrets: Api<Secret> = self.api();
        for (name, revision) in stored {
            if !kept.contains(revision) {
                tracing::info!(revision, "deleting a Secret of an unused revision");
                self.delete(&secrets, name).await?;
            }
        }
        Ok(())
    }

    /// Returns the `DaemonSet` of a revision.
    async fn daemon_set_of(&self, revision: &str) -> kube::Result<Option<DaemonSet>> {
        let secrets: Api<Secret> = self.api();
        let first = secrets.get_opt(&agent::secret_name(revision, 0)).await?;
        let (_, daemon_set) = agent::from_secrets(first.into_iter().collect());
        Ok(daemon_set)
    }

    fn state(&self, history: &History) -> ConfigMap {
        let history = serde_json::to_string(history).expect("texts and times");
        ConfigMap {
            metadata: agent::metadata(STATE, self.settings),
            data: Some(BTreeMap::from([(HISTORY.to_owned(), history)])),
            ..ConfigMap::default()
        }
    }

    /// Returns the `ConfigMap` for the position in the Events. Its content is written by
    /// the relay.
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

    /// Writes an object by server-side apply, which changes nothing if nothing differs.
    async fn write<K>(&self, object: &K) -> kube::Result<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned + Serialize,
    {
        let mut object = object.clone();
        object.meta_mut().owner_references = self.owner.clone().map(|owner| vec![owner]);
        let mut parameters = PatchParams::apply(MANAGER).force();
        parameters.dry_run = self.changes.is_some();
        let (api, name): (Api<K>, String) = (self.api(), object.name_any());
        let before = match &self.changes {
            Some(_) => api.get_opt(&name).await?,
            None => None,
        };
        let after = api
            .patch(&name, &parameters, &Patch::Apply(&object))
            .await?;
        if let Some(changes) = &self.changes {
            let (before, now) = (before.as_ref().map(content), content(&after));
            let kind = match before {
                None => Some(ChangeKind::Created(now)),
                Some(before) => (before != now).then_some(ChangeKind::Changed(now)),
            };
            let change = |kind| Change {
                object: self.called::<K>(&name),
                kind,
            };
            changes.lock().extend(kind.map(change));
        }
        Ok(after)
    }

    /// Deletes an object, which may already be gone.
    async fn delete<K>(&self, api: &Api<K>, name: &str) -> kube::Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        if let Some(changes) = &self.changes {
            let (object, kind) = (self.called::<K>(name), ChangeKind::Deleted);
            changes.lock().push(Change { object, kind });
            return Ok(());
        }
        match api.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    fn called<K: Resource<DynamicType = ()>>(&self, name: &str) -> String {
        format!("{} {}/{name}", K::kind(&()), self.settings.namespace)
    }
}

/// Returns the content of an object without the fields of the API server, and without the
/// values of a Secret, whose hash is in its name.
fn content<K>(object: &K) -> serde_json::Value
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let mut object = serde_json::to_value(object).expect("an object is JSON");
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if K::kind(&()) == Secret::kind(&())
        && let Some(data) = object["data"].as_object_mut()
    {
        data.values_mut().for_each(|value| *value = "...".into());
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for written in [
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "uid",
        ] {
            metadata.remove(written);
        }
    }
    object
}

/// Returns whether the `DaemonSet`'s controller has observed the current generation.
fn is_observed(daemon_set: &DaemonSet) -> bool {
    let status = daemon_set.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation);
    observed.is_some() && observed == daemon_set.metadata.generation
}
