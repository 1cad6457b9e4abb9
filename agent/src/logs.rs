//! The check whether container logs can be read. If none can, the agent would report
//! to be ready but deliver nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use thiserror::Error;

/// The time between attempts. When a container ends, its log is removed, and the link
/// to the log dangles for a moment.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// The maximum number of symbolic links to follow, as in the kernel.
const MAX_LINKS: usize = 40;

/// The reason why no log can be read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("cannot read the folder of container logs {}: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error(
        "cannot read any container log, {} for example: {error}; check that the folder of the \
         link's target is mounted ({})",
        link.display(),
        target.display()
    )]
    Logs {
        link: PathBuf,
        target: PathBuf,
        error: io::Error,
    },
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
    let mut first = None;
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let link = entry.map_err(unreadable)?.path();
        if link.extension() != Some(OsStr::new("log")) {
            continue;
        }
        match File::open(&link) {
            Ok(_) => return Ok(()),
            Err(error) => {
                first.get_or_insert_with(|| Unreadable::Logs {
                    target: target(&link),
                    link,
                    error,
                });
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Returns the final target of a chain of symbolic links, whether it exists or not.
/// With cri-dockerd, links in `/var/log/containers` point to links in `/var/log/pods`,
/// which point to Docker's own folder.
fn target(link: &Path) -> PathBuf {
    let mut path = link.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(next) = fs::read_link(&path) else {
            break;
        };
        // A relative target is resolved from the folder of its link.
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}
