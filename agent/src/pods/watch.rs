//! A watch of a node's pods.
//!
//! A list of all pods would be in memory as a whole, and tenants decide how large it is. A
//! watch that starts at any version sends each pod in an event of its own, then the changes.
//! The API server's cache serves it. The first bookmark shows that all pods were sent, and only
//! from then on do the versions of the events order them, so that a watch can be resumed.

use std::mem::Discriminant;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::{WatchEvent, WatchParams};
use kube::core::{Request, Status};
use kube::{Client, Config};
use thiserror::Error;
use tokio::time::timeout;

use crate::pods::state::Pod;

/// The time limit for the beginning of a response.
const RESPONSE: Duration = Duration::from_secs(30);
/// The path of all pods.
const PODS: &str = "/api/v1/pods";
/// The version that stands for any version, such as that of a cache.
const ANY: &str = "0";

/// The reason why a watch has ended, or an event was ignored.
#[derive(Debug, Error)]
pub(super) enum WatchError {
    #[error("no API server is configured")]
    Configuration(#[source] kube::Error),
    #[error("cannot reach the API server")]
    Connection(#[source] kube::Error),
    #[error("the API server did not respond within {} seconds", RESPONSE.as_secs())]
    Timeout,
    #[error("the API server returned the status {code}: {message}")]
    Status { code: u16, message: String },
    #[error("the API server sent an invalid event")]
    Event,
}

/// The kind of an error.
pub(super) type Kind = (Discriminant<WatchError>, u16);

impl WatchError {
    pub(super) const fn kind(&self) -> Kind {
        let code = match self {
            Self::Status { code, .. } => *code,
            _ => 0,
        };
        (std::mem::discriminant(self), code)
    }

    /// Returns whether the API server no longer has the version at which a watch starts.
    pub(super) const fn is_expired(&self) -> bool {
        matches!(self, Self::Status { code: 410, .. })
    }
}

impl From<kube::Error> for WatchError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => status.into(),
            kube::Error::SerdeError(_) => Self::Event,
            error => Self::Connection(error),
        }
    }
}

impl From<Box<Status>> for WatchError {
    fn from(status: Box<Status>) -> Self {
        let Status { code, message, .. } = *status;
        match code {
            // The client takes each object that is not an event for a status.
            0 => Self::Event,
            _ => Self::Status { code, message },
        }
    }
}

/// Returns a client of the API server that KUBECONFIG or a pod's environment names.
pub(super) async fn connect() -> Result<Client, WatchError> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig);
    let client = config.and_then(Client::try_from);
    client.map_err(WatchError::Configuration)
}

/// Watches the pods of a node from a version, or all of them and then the changes.
///
/// # Errors
///
/// Returns an error if the API server cannot be reached, does not respond or rejects the
/// request. Errors of the stream are those of single events, or its end.
pub(super) async fn watch(
    client: &Client,
    node: &str,
    version: Option<&str>,
) -> Result<impl Stream<Item = Result<WatchEvent<Pod>, WatchError>> + use<>, WatchError> {
    let parameters = WatchParams::default().fields(&format!("spec.nodeName={node}"));
    let request = Request::new(PODS)
        .watch_metadata(&parameters, version.unwrap_or(ANY))
        .map_err(kube::Error::BuildRequest)?;
    let response = timeout(RESPONSE, client.request_events(request)).await;
    let events = response.map_err(|_| WatchError::Timeout)??;
    Ok(events.map(|event: kube::Result<_>| event.map_err(WatchError::from)))
}
