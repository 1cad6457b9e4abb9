//! Sections in YAML. Keys are constants, and every value is quoted.

use std::fmt::Write;

/// A section of the pipeline (an input, a filter, an output), or another list's element.
pub(super) struct Section(String);

impl Section {
    /// Creates a section with the plugin's name.
    pub(super) fn new(name: &str) -> Self {
        let mut section = Self(String::new());
        section.line("    - ", "name", name);
        section
    }

    /// Adds a key.
    pub(super) fn key(mut self, key: &str, value: &str) -> Self {
        self.line("      ", key, value);
        self
    }

    /// Returns the text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, indent: &str, key: &str, value: &str) {
        writeln!(self.0, "{indent}{key}: {}", quoted(value)).expect("a String takes everything");
    }
}

/// Renders a list of sections: the `inputs` or `outputs` of the pipeline.
pub(super) fn list(name: &str, sections: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("  {name}:\n");
    text.extend(sections);
    text
}

/// Quotes a text. JSON's escapes are valid in YAML as well (YAML 1.2, section 5.7).
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
