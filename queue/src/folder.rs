//! The folder of a queue, and the files in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::NUMBERS;
use crate::error::{Context, Error};

/// The end of a segment's file name.
const SEGMENT: &str = ".frames";

/// A folder that is locked for this process.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Holds the lock, which ends with the process however that ends.
    _lock: File,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        create(path).context("create", path)?;
        let lock = path.join("lock");
        let file = writable().open(&lock).context("open", &lock)?;
        file.try_lock()
            .map_err(|error| match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => io::Error::other("another process uses this queue"),
            })
            .context("lock", &lock)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: file,
        })
    }

    /// Opens a folder that has a lock, if nobody holds it.
    pub(crate) fn open_unclaimed(path: &Path) -> Result<Option<Self>, Error> {
        let lock = path.join("lock");
        let file = match OpenOptions::new().read(true).write(true).open(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.context("open", &lock)?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                path: path.to_owned(),
                _lock: file,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &lock),
        }
    }

    /// The numbers of the segments' first frames, the lowest first.
    pub(crate) fn segments(&self) -> Result<Vec<u64>, Error> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).context("read", &self.path)? {
            let entry = entry.context("read", &self.path)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT));
            let number = number.and_then(|number| number.parse::<u64>().ok());
            found.extend(number.filter(|number| *number < NUMBERS));
        }
        found.sort_unstable();
        Ok(found)
    }

    pub(crate) fn position(&self) -> PathBuf {
        self.path.join("position")
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.path.join(format!("{first:020}{SEGMENT}"))
    }

    /// Opens a segment for reading.
    pub(crate) fn open_segment(&self, first: u64) -> io::Result<File> {
        File::open(self.segment(first))
    }

    /// Creates an empty segment, and the folder again if somebody removed it.
    pub(crate) fn create_segment(&self, first: u64) -> Result<File, Error> {
        let path = self.segment(first);
        let mut options = writable();
        options.truncate(true);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&self.path).context("create", &self.path)?;
                options.open(&path)
            }
            result => result,
        }
        .context("create", &path)
    }

    pub(crate) fn remove_segment(&self, first: u64) {
        // One that cannot be removed is found again at the next start, below
        // the position.
        let _ = std::fs::remove_file(self.segment(first));
    }
}

/// Logs are their owner's: nobody else may read them.
fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file for reading and writing, and creates it if it is missing.
pub(crate) fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}
