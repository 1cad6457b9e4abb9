//! The removal of the agents' files from a node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::log::{info, warn};
use crate::state::DATABASE;

/// The folder of the sinks' queues.
const QUEUES: &str = "queues";
/// The folder of Fluent Bit's chunks, which configurations with the input `tail` have.
const CHUNKS: &str = "chunks";

/// The reason why a file could not be removed.
#[derive(Debug, Error)]
pub(crate) enum RemovalError {
    #[error("{} is in use or not a queue: uninstall the agents first", .0.display())]
    InUse(PathBuf),
    #[error("{}", .0.chain())]
    Queue(#[from] queue::Error),
    #[error("cannot remove {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Removes all files of the agents from their state folder, and the folder itself if
/// nothing else is in it. Messages that were not delivered are lost.
///
/// # Errors
///
/// Returns an error if a queue is in use or a file cannot be removed. A further attempt
/// removes the remaining files.
pub(crate) fn remove(folder: &Path) -> Result<(), RemovalError> {
    let shown = folder.display();
    if !folder.exists() {
        info(&format!("{shown} does not exist, nothing to remove"));
        return Ok(());
    }
    let mut bytes = 0;
    for sink in folders(&folder.join(QUEUES))? {
        for queue in folders(&sink)? {
            match queue::delete(&queue)? {
                Some(deleted) => bytes += deleted,
                // A failed start leaves an empty folder.
                None => fs::remove_dir(&queue).map_err(|_| RemovalError::InUse(queue))?,
            }
        }
        ignore_missing(&sink, positions::delete(&sink))?;
        ignore_missing(&sink, fs::remove_dir(&sink))?;
    }
    for name in [QUEUES, CHUNKS] {
        let path = folder.join(name);
        ignore_missing(&path, fs::remove_dir_all(&path))?;
    }
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains(DATABASE) {
            ignore_missing(&path, fs::remove_file(&path))?;
        }
    }
    match entries(folder)?.as_slice() {
        [] => ignore_missing(folder, fs::remove_dir(folder))?,
        others => warn(&format!(
            "{shown} not removed: it contains {} files of other programs, {} for example",
            others.len(),
            others[0].display()
        )),
    }
    info(&format!(
        "removed the agents' files from {shown}, including {bytes} bytes of queues"
    ));
    Ok(())
}

/// Returns the folders in a folder.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, RemovalError> {
    let mut paths = entries(folder)?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// Returns the paths in a folder, or an empty list if the folder is missing.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, RemovalError> {
    let failed = |source| RemovalError::File {
        path: folder.to_owned(),
        source,
    };
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(failed)?.path()))
            .collect(),
    }
}

/// Converts the result of a removal. A missing file counts as removed.
fn ignore_missing(path: &Path, result: io::Result<()>) -> Result<(), RemovalError> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RemovalError::File {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use syslog::Framing;

    use super::*;

    const OPTIONS: queue::Options = queue::Options {
        framing: Framing::Newline,
        limit: 1 << 20,
        sync: false,
    };

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn all_files_of_the_agents_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("syslog-sink");
        for file in [
            "lane-0.db",
            "lane-0.db-wal",
            "cluster-all.db.corrupt-20261127T025838.429607Z",
            "chunks/tail.0/1-2.flb",
            "queues/outputs",
            "queues/some-uid/positions",
            "queues/some-uid/positions.damaged",
            "queues/some-uid/start",
            "queues/some-uid/start.damaged",
        ] {
            write(&state.join(file));
        }
        fs::create_dir_all(state.join("queues/another-uid/0")).unwrap();
        let queue = queue::open(&state.join("queues/some-uid/0"), OPTIONS).unwrap();
        let error = remove(&state).unwrap_err();
        assert!(error.to_string().contains("queues/some-uid/0 is in use"));
        assert!(state.join("lane-0.db").exists());

        drop(queue);
        let foreign = state.join("precious");
        write(&foreign);
        remove(&state).unwrap();
        let left: Vec<PathBuf> = entries(&state).unwrap();
        assert_eq!(left, std::slice::from_ref(&foreign));

        fs::remove_file(foreign).unwrap();
        remove(&state).unwrap();
        assert!(!state.exists());
        remove(&state).unwrap();
    }
}
