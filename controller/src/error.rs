//! Failures of requests to the API server.

use thiserror::Error;
use tokio::time::error::Elapsed;

/// The reason why a round, or a renewal of the Lease, failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server rejects a request, or cannot be reached.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    Late(#[from] Elapsed),
    /// The Secrets of a revision were deleted.
    #[error("cannot roll back to revision {0}: its Secrets are missing")]
    Gone(String),
}
