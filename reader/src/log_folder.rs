//! The log files in a container's folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::file_id::FileId;
use crate::file_name::FileName;
use crate::source::Source;

/// A file of the folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: FileName,
    pub(crate) path: PathBuf,
}

impl Entry {
    pub(crate) fn open(&self) -> io::Result<Source> {
        Source::open(&self.path, self.name.is_compressed)
    }

    /// Returns whether the file was written after another one, if there was one.
    pub(crate) fn is_after(&self, other: Option<&FileName>) -> bool {
        other.is_none_or(|other| self.name.is_later_than(other))
    }
}

/// Returns the log files in the order in which they were written; none if there is no folder.
pub(crate) fn list(folder: &Path) -> io::Result<Option<Vec<Entry>>> {
    let folder = match folder.read_dir() {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in folder {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(FileName::parse) {
            let path = entry.path();
            entries.push(Entry { name, path });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    // A file and its compressed copy exist together for a moment, and have the same content.
    entries.dedup_by(|copy, file| !copy.name.is_later_than(&file.name));
    Ok(Some(entries))
}

/// Finds a file by its identity among those after another one. Returns its index too.
pub(crate) fn find(
    entries: &[Entry],
    after: Option<&FileName>,
    id: &FileId,
) -> Option<(usize, Source)> {
    let later = (0..entries.len()).filter(|index| entries[*index].is_after(after));
    let mut opened = later.filter_map(|index| Some((index, entries[index].open().ok()?)));
    opened.find_map(|(index, mut source)| {
        let is_same = source.beginning_matches(id).unwrap_or(false);
        is_same.then_some((index, source))
    })
}
