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
    let revision = plan.revision();

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
    let daemon_set = agent::daemon_set(&wanted, &revision, settings);
    let stored: DaemonSet = write(client, namespace, &daemon_set).await?;
    let rollout = rollout(&stored);
    if rollout.complete {
        prune(&secrets, &revision).await?;
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
    let seen = status.observed_generation == daemon_set.metadata.generation;
    if !seen {
        return Rollout {
            nodes: status.desired_number_scheduled,
            ..Rollout::default()
        };
    }
    let nodes = status.desired_number_scheduled;
    // A pod that has the revision and is not ready may be among the ready ones
    // only while others that have it not are: the smaller number is safe.
    let ready = status
        .updated_number_scheduled
        .unwrap_or(0)
        .min(status.number_ready);
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
