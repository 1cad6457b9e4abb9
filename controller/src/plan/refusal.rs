//! Why a sink is not in force.

use thiserror::Error;

/// Why a sink is not in force.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{message}")]
pub struct Refusal {
    /// A word in camel case, for programs.
    pub reason: String,
    /// For people: what, its value, and what is allowed.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(reason: &str, message: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// A stored object that is not one of ours any more.
    pub(crate) fn invalid(problem: &str) -> Self {
        Self::new(
            "InvalidObject",
            &format!("the stored object cannot be read: {problem}"),
        )
    }

    /// A value that cannot be used.
    pub(crate) fn value(field: &str, value: &str, problem: &str) -> Self {
        let shown: String = value.chars().take(100).collect();
        Self::new("InvalidValue", &format!("{field} {shown:?} {problem}"))
    }
}
