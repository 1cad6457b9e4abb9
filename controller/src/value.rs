//! Values that are safe in Fluent Bit's configuration.

use thiserror::Error;

/// A text that is safe as the value of any key of Fluent Bit.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Value(String);

/// The reason why a text is not a safe value.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum ValueError {
    /// A character that may end the line.
    #[error("has the character {0:?}; control characters are not allowed")]
    Control(char),
    /// A reference that Fluent Bit would replace with an environment variable of the agent.
    #[error("has ${{...}}, which Fluent Bit would replace; write the value itself")]
    Variable,
    /// A blank text, or one with spaces at an end, which Fluent Bit would ignore or trim.
    #[error("begins or ends with a space, or is empty")]
    Blank,
    /// A text longer than Fluent Bit reads.
    #[error("has {0} bytes, at most {max} are allowed", max = Value::MAX)]
    TooLong(usize),
}

impl Value {
    /// The maximum length in bytes.
    pub(crate) const MAX: usize = 8192;

    /// Creates a value.
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

/// Returns whether YAML treats a character as the end of a line, in addition to control
/// characters.
fn is_line_end(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}')
}
