//! Why a command did not do what it was asked for.

use std::process::ExitCode;

use thiserror::Error;

/// Why a command did not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Something went wrong, which is said so.
    #[error("{0}")]
    Said(String),
    /// The API server answers with an error, or not at all.
    #[error("{what}: {}", of(source))]
    Api {
        /// What was tried.
        what: String,
        /// What went wrong.
        source: kube::Error,
    },
    /// Done, but for some; which is said already.
    #[error("{0} of them have no equal, or not in full")]
    NoEqual(usize),
    /// What the test found is said already.
    #[error("the sink does not work from there")]
    NotReached,
}

impl Failure {
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    /// For an error of the API server while something was tried.
    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Said(_) | Self::Api { .. } => 1,
            Self::NoEqual(_) => 3,
            Self::NotReached => 4,
        })
    }
}

/// What an API server says, without how kube-rs puts it.
fn of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let said = error.to_string();
                if !text.contains(&said) {
                    text = format!("{text}: {said}");
                }
                cause = error.source();
            }
            text
        }
    }
}
