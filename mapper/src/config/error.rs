//! The error of an invalid configuration.

use thiserror::Error;

/// A configuration key that is missing or has an invalid value.
///
/// Displayed as `key "value": problem`, or `key: problem` if the key is absent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}{}: {problem}", Shown(.value.as_deref()))]
pub struct ConfigError {
    /// The key, as spelled in the reference.
    pub key: &'static str,
    /// The configured value, or `None` if the key is absent.
    pub value: Option<String>,
    /// The problem with the value, and the allowed values.
    pub problem: String,
}

/// Displays a value in quotes, truncated to a length that suits a log line.
struct Shown<'a>(Option<&'a str>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MAX: usize = 200;
        match self.0 {
            None => Ok(()),
            Some(value) if value.len() <= MAX => write!(f, " {value:?}"),
            Some(value) => write!(f, " {:?}...", &value[..value.floor_char_boundary(MAX)]),
        }
    }
}
