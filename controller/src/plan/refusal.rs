//! The reason why a sink is not accepted.

use thiserror::Error;

use api::Reason;

/// The reason why a sink is not accepted.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{message}")]
pub struct Refusal {
    /// The kind of problem, for programs.
    pub reason: Reason,
    /// The explanation for people: the field, its value, and what is allowed.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: &str) -> Self {
        Self {
            reason,
            message: message.to_owned(),
        }
    }

    /// Returns whether the sink may be valid: the API server has not answered yet.
    #[must_use]
    pub fn is_not_looked_up(&self) -> bool {
        self.reason == Reason::NotLookedUp
    }

    /// Creates the refusal of a stored object that does not match the schema.
    pub(crate) fn invalid(problem: &str) -> Self {
        Self::new(
            Reason::InvalidObject,
            &format!("the stored object cannot be read: {problem}"),
        )
    }

    /// Creates the refusal of an invalid value.
    pub(crate) fn value(field: &str, value: &str, problem: &str) -> Self {
        let shown: String = value.chars().take(100).collect();
        Self::new(
            Reason::InvalidValue,
            &format!("{field} {shown:?}: {problem}"),
        )
    }
}
