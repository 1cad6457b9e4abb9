//! The plan's objects, in the API server: each is written before what refers
//! to it, so that whatever ends in between leaves nothing half done.
//!
//! ```text
//! lanes -> Secrets of the revision -> DaemonSet -> (all pods have it) -> old Secrets deleted
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agent::{self, AGENT, MANAGED_BY, REVISION};
use crate::plan::{Plan, Settings};
use crate::watch::{LANES, LANES_KEY};

/// Who owns the fields that are written (server-side apply).
pub(crate) const MANAGER: &str = "sink-controller";

/// How far the agents are with a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Agents that are ready and have it.
    pub ready: i32,
    /// Nodes that shall have one.
    pub nodes: i32,
    /// Whether nothing is left to do.
    pub complete: bool,
}

/// Writes what differs, and says how far the agents are.
///
/// # Errors
///
/// Where the API server refuses or cannot be reached.
pub async fn apply(client: &Client, plan: &Plan, settings: &Settings) -> kube::Result<Rollout> {
    let namespace = settings.namespace.as_str();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let revision = plan.revision.as_str();

    write(client, namespace, &lanes(plan, settings)).await?;
    let wanted = agent::secrets(plan, settings);
    for secret in &wanted {
        // Immutable, and named by its content: what is there is right.
        if secrets
            .get_metadata_opt(&secret.name_any())
            .await?
            .is_none()
        {
            write(client, namespace, secret).await?;
        }
    }
    let daemon_set = agent::daemon_set(&wanted, revision, settings);
    let stored: DaemonSet = write(client, namespace, &daemon_set).await?;
    let rollout = rollout(&stored);
    if rollout.complete {
        prune(&secrets, revision).await?;
    }
    Ok(rollout)
}

fn lanes(plan: &Plan, settings: &Settings) -> ConfigMap {
    let text = serde_json::to_string(&plan.lanes).expect("names and numbers");
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(LANES.to_owned()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(BTreeMap::from([(
                MANAGED_BY.0.to_owned(),
                MANAGED_BY.1.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(LANES_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    }
}

/// Server-side apply: the API server changes nothing where nothing differs.
async fn write<K>(client: &Client, namespace: &str, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await
}

fn rollout(daemon_set: &DaemonSet) -> Rollout {
    let Some(status) = &daemon_set.status else {
        return Rollout::default();
    };
    let nodes = status.desired_number_scheduled;
    if status.observed_generation != daemon_set.metadata.generation {
        // It speaks of another revision.
        return Rollout {
            nodes,
            ..Rollout::default()
        };
    }
    let updated = status.updated_number_scheduled.unwrap_or(0);
    // Nobody counts those that are both ready and of the revision. As many are
    // at least, if all that are not ready are of the revision.
    let ready = (updated + status.number_ready - nodes).max(0);
    Rollout {
        ready,
        nodes,
        complete: ready == nodes,
    }
}

/// Deletes the Secrets of other revisions.
async fn prune(secrets: &Api<Secret>, revision: &str) -> kube::Result<()> {
    let (key, value) = MANAGED_BY;
    let selector = format!("{key}={value},{REVISION},{REVISION}!={revision}");
    let old = secrets
        .list_metadata(&ListParams::default().labels(&selector))
        .await?;
    for secret in old {
        tracing::info!(
            secret = secret.name_any(),
            "deleting an old revision of {AGENT}"
        );
        match secrets
            .delete(&secret.name_any(), &DeleteParams::default())
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSetStatus;

    use super::*;

    #[test]
    fn only_agents_that_are_ready_and_have_the_revision_count() {
        for (observed, nodes, updated, ready, expected, complete) in [
            (1, 10, 10, 10, 0, false), // of the generation before
            (2, 10, 0, 10, 0, false),
            (2, 10, 1, 9, 0, false), // the first may be the one that is not
            (2, 10, 5, 9, 4, false),
            (2, 10, 10, 9, 9, false),
            (2, 10, 10, 10, 10, true),
            (2, 0, 0, 0, 0, true),
        ] {
            let mut daemon_set = DaemonSet::default();
            daemon_set.metadata.generation = Some(2);
            daemon_set.status = Some(DaemonSetStatus {
                observed_generation: Some(observed),
                desired_number_scheduled: nodes,
                updated_number_scheduled: Some(updated),
                number_ready: ready,
                ..DaemonSetStatus::default()
            });
            let found = rollout(&daemon_set);
            assert_eq!(
                (found.ready, found.nodes, found.complete),
                (expected, nodes, complete),
                "{updated} updated, {ready} ready"
            );
        }
        // Its own controller has not looked at it yet.
        assert_eq!(rollout(&DaemonSet::default()), Rollout::default());
    }
}
