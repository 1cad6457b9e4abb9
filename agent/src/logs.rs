//! The check whether container logs can be read. If none can, the agent would report
//! to be ready but deliver nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use thiserror::Error;

/// The time between attempts. When a pod ends, its folder is removed.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The levels of folders in the folder of pods' logs: pods and containers.
const LEVELS: usize = 2;

/// The reason why no log can be read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("cannot read the folder of pods' logs {}: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error("cannot read any container log, {} for example: {error}", path.display())]
    Logs { path: PathBuf, error: io::Error },
}

/// Checks that at least one log in the folder can be opened, or that there are no
/// logs. Retries until `timeout`.
///
/// # Errors
///
/// Returns an error if the folder or all logs in it cannot be read.
pub(crate) fn check(folder: &Path, timeout: Duration) -> Result<(), Unreadable> {
    let deadline = Instant::now() + timeout;
    loop {
        match check_once(folder) {
            Err(_) if Instant::now() < deadline => sleep(RETRY_INTERVAL),
            result => return result,
        }
    }
}

fn check_once(folder: &Path) -> Result<(), Unreadable> {
    let unreadable = |error| Unreadable::Folder {
        folder: folder.to_owned(),
        error,
    };
    let mut search = Search::default();
    for pod in fs::read_dir(folder).map_err(unreadable)? {
        let pod = pod.map_err(unreadable)?.path();
        search.look_into(&pod, LEVELS);
        if search.found {
            return Ok(());
        }
    }
    match search.first_error {
        None => Ok(()),
        Some((path, error)) => Err(Unreadable::Logs { path, error }),
    }
}

/// The search for a log that can be opened.
#[derive(Debug, Default)]
struct Search {
    found: bool,
    first_error: Option<(PathBuf, io::Error)>,
}

impl Search {
    /// Looks into a folder with this many levels of folders, the lowest of which has the logs.
    fn look_into(&mut self, folder: &Path, levels: usize) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries.flatten(),
            Err(error) => return self.fail(folder, error),
        };
        for entry in entries {
            let path = entry.path();
            if levels > 1 {
                self.look_into(&path, levels - 1);
            } else if path.extension() == Some(OsStr::new("log")) {
                match open(&path) {
                    Ok(_) => self.found = true,
                    Err(error) => self.fail(&path, error),
                }
            }
            if self.found {
                return;
            }
        }
    }

    fn fail(&mut self, path: &Path, error: io::Error) {
        // Other files than folders are not the kubelet's; others have just been removed.
        if !matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) {
            self.first_error
                .get_or_insert_with(|| (path.to_owned(), error));
        }
    }
}

/// Opens a log. With cri-dockerd, it is a symbolic link to Docker's own folder, which has to be
/// mounted as well.
fn open(path: &Path) -> io::Result<File> {
    match (File::open(path), fs::read_link(path)) {
        (Err(_), Ok(target)) => Err(io::Error::other(format!(
            "the link leads to {}, which is not there (agent.linkFolders)",
            target.display()
        ))),
        (opened, _) => opened,
    }
}
