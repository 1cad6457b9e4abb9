//! What is wrong with a configuration.

use thiserror::Error;

/// A key whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}{}: {problem}", Shown(.value.as_deref()))]
pub struct ConfigError {
    /// The key, as in the reference.
    pub key: &'static str,
    /// The value, where there is one.
    pub value: Option<String>,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// A value as it is shown: quoted, and no longer than a line of log can bear.
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
