//! Why a sink is not in force.

use thiserror::Error;

use api::Reason;

/// Why a sink is not in force.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{message}")]
pub struct Refusal {
    /// The kind of problem, for programs.
    pub reason: Reason,
    /// For people: what, its value, and what is allowed.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: &str) -> Self {
        Self {
            reason,
            message: message.to_owned(),
        }
    }

    /// Whether nothing is wrong with the sink: it is not known yet what it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.reason == Reason::NotLookedUp
    }

    /// A stored object that is not one of ours any more.
    pub(crate) fn invalid(problem: &str) -> Self {
        Self::new(
            Reason::InvalidObject,
            &format!("the stored object cannot be read: {problem}"),
        )
    }

    /// A value that cannot be used.
    pub(crate) fn value(field: &str, value: &str, problem: &str) -> Self {
        let shown: String = value.chars().take(100).collect();
        Self::new(
            Reason::InvalidValue,
            &format!("{field} {shown:?}: {problem}"),
        )
    }
}
