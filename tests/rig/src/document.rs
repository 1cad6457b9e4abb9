//! Documents in which a program writes a table.

use std::fs;
use std::path::{Path, PathBuf};

const END: &str = "<!-- end of the table -->";

/// Returns the path of a file in the folder of documents.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

/// Replaces the table of a document. The table is enclosed in two lines: a begin line
/// with the make target that writes it, and an end line.
///
/// # Errors
///
/// Returns an error if the document cannot be read or written, or if a line is missing.
pub fn write_table(name: &str, target: &str, table: &str) -> Result<(), String> {
    let begin = format!("<!-- begin of the table: make {target} -->");
    let path = path(name);
    let error = |what: &str| format!("{}: {what}", path.display());
    let document = fs::read_to_string(&path).map_err(|found| error(&found.to_string()))?;
    let (head, rest) = document
        .split_once(&begin)
        .ok_or_else(|| error(&format!("has no {begin}")))?;
    let (_, tail) = rest
        .split_once(END)
        .ok_or_else(|| error(&format!("has no {END} behind it")))?;
    fs::write(&path, format!("{head}{begin}\n{table}{END}{tail}"))
        .map_err(|found| error(&found.to_string()))
}
