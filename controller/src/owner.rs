//! Owner reference for everything the controller creates: its own Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource};

use crate::settings::Settings;

/// Returns the owner reference to the Deployment in the settings, if it exists.
///
/// # Errors
///
/// Returns an error if the API server cannot be reached.
pub(crate) async fn owner(
    client: &Client,
    settings: &Settings,
) -> kube::Result<Option<OwnerReference>> {
    let Some(name) = &settings.deployment else {
        return Ok(None);
    };
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &settings.namespace);
    let found = deployments.get_opt(name).await?;
    if found.is_none() {
        tracing::warn!(
            deployment = name,
            "owner Deployment not found, objects have no owner reference"
        );
    }
    Ok(found.and_then(|found| found.owner_ref(&())))
}
