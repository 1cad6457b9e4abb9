//! A value that stays one, whatever is in it.

use thiserror::Error;

/// A text that can be the value of any key of Fluent Bit.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Value(String);

/// Why a text cannot be a value.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum ValueError {
    /// It could end a line.
    #[error("has the character {0:?}; control characters are not allowed")]
    Control(char),
    /// Fluent Bit would replace it by a variable of the agent's environment.
    #[error("has ${{...}}, which Fluent Bit would replace; write the value itself")]
    Variable,
    /// Fluent Bit would take it for absent, or trim it.
    #[error("begins or ends with a space, or is empty")]
    Blank,
    /// Longer than Fluent Bit reads.
    #[error("has {0} bytes, at most {max} are allowed", max = Value::MAX)]
    TooLong(usize),
}

impl Value {
    /// The most bytes.
    pub(crate) const MAX: usize = 8192;

    /// The value with this text.
    pub(crate) fn new(text: &str) -> Result<Self, ValueError> {
        if let Some(character) = text.chars().find(|c| c.is_control() || is_line_end(*c)) {
            return Err(ValueError::Control(character));
        }
        if text.contains("${") {
            return Err(ValueError::Variable);
        }
        if text.is_empty() || text.trim() != text {
            return Err(ValueError::Blank);
        }
        if text.len() > Self::MAX {
            return Err(ValueError::TooLong(text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What YAML takes for the end of a line besides control characters.
fn is_line_end(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}')
}
