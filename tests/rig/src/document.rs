//! Documents with a part that a program writes.

use std::fs;
use std::path::{Path, PathBuf};

const END: &str = "<!-- end of the table -->";

/// A path in the folder of documents.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

/// Replaces a document's table, which is between two lines: one that names
/// the make target that writes it, and an end.
///
/// # Errors
///
/// Where the document cannot be read or written, or has no such lines.
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
