//! The log files in a container's folder.

use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use crate::file_id::FileId;
use crate::file_name::FileName;
use crate::source::Source;

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: FileName,
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
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
            let inode = entry.ino();
            entries.push(Entry { name, path, inode });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    // A file and its compressed copy exist together for a moment, and have the same content.
    entries.dedup_by(|copy, file| !copy.name.is_later_than(&file.name));
    Ok(Some(entries))
}

/// The maximum number of times that a folder is listed whose files are changing.
const LISTS: usize = 10;

/// Returns the log files like [`list`], but as they are at one time: a listing during a rename
/// may lack the file.
pub(crate) fn list_at_rest(folder: &Path) -> io::Result<Option<Vec<Entry>>> {
    look(folder, |_| Ok(((), false))).map(|((), entries)| entries)
}

/// Looks for something among the log files, again if it was not found and they have changed
/// since they were listed.
pub(crate) fn look<T>(
    folder: &Path,
    mut find: impl FnMut(&[Entry]) -> io::Result<(T, bool)>,
) -> io::Result<(T, Option<Vec<Entry>>)> {
    let mut entries = list(folder)?;
    for _ in 0..LISTS {
        let (result, is_found) = find(entries.as_deref().unwrap_or_default())?;
        if is_found {
            return Ok((result, entries));
        }
        let now = list(folder)?;
        if now == entries {
            return Ok((result, entries));
        }
        entries = now;
    }
    Err(io::Error::other("the files are changing"))
}

/// Finds a file by its identity among those after another one. Returns its index too. Files
/// that begin alike are told apart by their order: all before it were read.
pub(crate) fn find(
    entries: &[Entry],
    after: Option<&FileName>,
    id: &FileId,
) -> Option<(usize, Source)> {
    let later = (0..entries.len()).filter(|index| entries[*index].is_after(after));
    let mut opened = later.filter_map(|index| Some((index, entries[index].open().ok()?)));
    let found = opened.find_map(|(index, mut source)| {
        let is_same = source.beginning_matches(id).unwrap_or(false);
        is_same.then_some((index, source))
    });
    found.or_else(|| find_earlier(entries, after, id))
}

/// Finds a file that was rotated after the node's clock was set back, so that its name is not
/// later than that of the file before it.
fn find_earlier(
    entries: &[Entry],
    after: Option<&FileName>,
    id: &FileId,
) -> Option<(usize, Source)> {
    let is_same = |entry: &Entry| !entry.is_after(after) && entry.inode == id.inode.1;
    let index = entries.iter().position(is_same)?;
    let mut source = entries[index].open().ok()?;
    let is_same = source.inode() == id.inode
        && !id.fingerprint.is_empty()
        && source.beginning_matches(id).unwrap_or(false);
    is_same.then_some((index, source))
}
