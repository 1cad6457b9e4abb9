//! The failures of commands, with their exit codes.

use std::process::ExitCode;

use thiserror::Error;

/// The failure of a command.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// A failure explained by its text.
    #[error("{0}")]
    Message(String),
    /// An error of the API server.
    #[error("{what}: {}", message(source))]
    Api {
        /// The attempted operation.
        what: String,
        /// The error.
        source: kube::Error,
    },
    /// The number of sinks that were not converted, or only in part; details are printed
    /// before.
    #[error("{0} sinks could not be converted, or only in part")]
    Incomplete(usize),
    /// A test that failed; its report is printed before.
    #[error("the test failed")]
    TestFailed,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Returns a function that adds the attempted operation to an error of the API server.
    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Message(_) | Self::Api { .. } => 1,
            Self::Incomplete(_) => 3,
            Self::TestFailed => 4,
        })
    }
}

/// Returns the API server's message, or the error of kube-rs with its causes.
fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let next = error.to_string();
                if !text.contains(&next) {
                    text = format!("{text}: {next}");
                }
                cause = error.source();
            }
            text
        }
    }
}
