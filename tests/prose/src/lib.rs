//! A check of the language in comments and documentation.
//!
//! Documentation opens with a noun phrase ("The maximum size ...") or a verb ("Returns ..."), as
//! in the standard library, and says things in the words of the field. The check finds forms
//! that were common here and that native speakers stumble over.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// Openings of doc comments without a subject, by the words that they begin with.
const OPENINGS: &[&str] = &[
    "What ",
    "Which ",
    "Who ",
    "Whose ",
    "Whom ",
    "How ",
    "One that ",
    "Ones ",
    "One of which ",
    "Those ",
    "That of ",
    "The same,",
    "The same of ",
    "Its ",
    "Says ",
    "Tells ",
    "See the [module]",
];

/// Phrases that have a plainer form.
const PHRASES: &[(&str, &str)] = &[
    (" anew", "again"),
    (" for ever ", "forever"),
    (" for ever,", "forever"),
    (" for ever.", "forever"),
    ("in the place of", "instead of"),
    (" is none of ", "is not in, is not one of"),
    (" is none:", "is missing, is invalid"),
    ("so many of so many", "N of M"),
    (" is another one", "differs, has changed"),
    ("whoever", "the owner, the user, anybody who"),
];

/// A place in the repository with a form to be avoided.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The path and the line number.
    pub location: String,
    /// The line, and the advice.
    pub text: String,
}

/// Checks all Rust sources and Markdown files below a folder.
#[must_use]
pub fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in files(root) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        let found = if is_rust {
            check_rust(&text)
        } else {
            check_phrases(text.lines().enumerate())
        };
        findings.extend(found.into_iter().map(|(number, text)| Finding {
            location: format!("{name}:{number}"),
            text,
        }));
    }
    findings
}

/// Returns the files to check: no build results, no text of others, and not this file, which
/// has to name the forms.
fn files(folder: &Path) -> Vec<PathBuf> {
    const SKIPPED: [&str; 4] = ["target", "LICENSE", "prose", "corpus"];
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || SKIPPED.contains(&name.as_ref()) {
            continue;
        }
        let extension = path.extension().unwrap_or_default();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if extension == "rs" || extension == "md" {
            files.push(path);
        }
    }
    files
}

fn check_rust(text: &str) -> Vec<(usize, String)> {
    let comment = |line: &str| {
        let line = line.trim_start();
        let documentation = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        documentation.map(|text| text.trim().to_owned())
    };
    let mut found = Vec::new();
    let mut before: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let documentation = comment(line);
        if let (Some(text), None) = (&documentation, &before)
            && let Some(opening) = OPENINGS.iter().find(|opening| text.starts_with(**opening))
        {
            let advice =
                format!("{text:?} opens with {opening:?}: name the thing, or begin with a verb");
            found.push((number + 1, advice));
        }
        before = documentation;
    }
    let comments = text.lines().enumerate();
    let comments = comments.filter(|(_, line)| line.trim_start().starts_with("//"));
    found.extend(check_phrases(comments));
    found
}

fn check_phrases<'t>(lines: impl Iterator<Item = (usize, &'t str)>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in lines {
        for (phrase, instead) in PHRASES {
            if line.to_lowercase().contains(phrase) {
                found.push((number + 1, format!("{phrase:?}: say {instead:?}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_documentation_are_plain() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let findings = check(&root.canonicalize().unwrap_or(root));
        let lines: Vec<String> = findings
            .iter()
            .map(|Finding { location, text }| format!("{location}: {text}"))
            .collect();
        assert!(findings.is_empty(), "\n{}", lines.join("\n"));
    }

    #[test]
    fn forms_to_be_avoided_are_found() {
        let text = "/// What it is.\nfn a() {}\n/// Returns it.\n// It begins anew.\n";
        let lines: Vec<usize> = check_rust(text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 4]);
        // Later lines of a comment may begin with any word.
        assert!(check_rust("/// Returns\n/// What it is.\n").is_empty());
    }
}
