//! Whether the logs of containers can be read at all: where they cannot, an agent
//! would be ready and deliver nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Between two looks. A container that ends takes its log away, and for a moment the
/// link to it leads nowhere.
const PAUSE: Duration = Duration::from_millis(200);

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// Why no log can be read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error("cannot read the folder of containers' logs {}: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error(
        "cannot read {}, nor any other log of a container: {error}. Is the folder mounted that it \
         leads to ({})?",
        link.display(),
        target.display()
    )]
    Logs {
        link: PathBuf,
        target: PathBuf,
        error: io::Error,
    },
}

/// Fails where there are logs, and none of them can be opened for `patience`.
pub(crate) fn check(folder: &Path, patience: Duration) -> Result<(), Unreadable> {
    let end = Instant::now() + patience;
    loop {
        match look(folder) {
            Err(_) if Instant::now() < end => sleep(PAUSE),
            found => return found,
        }
    }
}

fn look(folder: &Path) -> Result<(), Unreadable> {
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

/// Returns the path at the end of a chain of links, whether it exists or not. With cri-dockerd,
/// `/var/log/containers` leads to `/var/log/pods`, and that to Docker's own folder.
fn target(link: &Path) -> PathBuf {
    let mut path = link.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = fs::read_link(&path) else {
            break;
        };
        // A relative one starts from the folder of its link.
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}
