//! The folder of a queue, and the files in it.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::MAX_NUMBER;
use crate::error::{Context, Error};

/// The extension of a segment's file name.
const SEGMENT: &str = ".frames";
const POSITION: &str = "position";
/// The file of a delivered segment, which the next segment overwrites.
const SPARE: &str = "spare";
const LOCK: &str = "queue.lock";
/// The content of the lock file.
const MARK: &[u8; 18] = b"syslog_sink queue\n";

/// The folder of a queue, locked for this process.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Holds the lock. The kernel releases it when the process ends or is killed.
    _lock: File,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        create(path).context("create", path)?;
        let lock = path.join(LOCK);
        let file = writable().open(&lock).context("open", &lock)?;
        file.try_lock()
            .map_err(|error| match error {
                TryLockError::Error(error) => error,
                TryLockError::WouldBlock => io::Error::other("another process uses this queue"),
            })
            .context("lock", &lock)?;
        file.write_all_at(MARK, 0).context("write", &lock)?;
        let this = Self {
            path: path.to_owned(),
            _lock: file,
        };
        this.remove_spare();
        Ok(this)
    }

    /// Opens and locks the folder of a queue. Returns `None` if the folder is not
    /// a queue, holds other files too, or is in use.
    pub(crate) fn open_unclaimed(path: &Path) -> Result<Option<Self>, Error> {
        let lock = path.join(LOCK);
        let file = match OpenOptions::new().read(true).write(true).open(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.context("open", &lock)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context("lock", &lock),
        }
        let mut mark = [0; MARK.len()];
        let is_marked = file.read_exact_at(&mut mark, 0).is_ok() && mark == *MARK;
        let folder = Self {
            path: path.to_owned(),
            _lock: file,
        };
        let is_queue_file = |name: &OsStr| {
            let names = [LOCK, POSITION, SPARE].map(OsStr::new);
            names.contains(&name) || parse_segment_name(name).is_some()
        };
        let is_queue = is_marked && folder.names()?.iter().all(|name| is_queue_file(name));
        Ok(is_queue.then_some(folder))
    }

    /// Deletes the files of the queue, and the folder.
    pub(crate) fn delete(self) -> Result<(), Error> {
        for name in self.names()? {
            let path = self.path.join(name);
            std::fs::remove_file(&path).context("delete", &path)?;
        }
        std::fs::remove_dir(&self.path).context("delete", &self.path)
    }

    /// Returns an error if the folder was removed, or its disk was unmounted.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let lock = self.path.join(LOCK);
        std::fs::metadata(&lock).context("find", &lock)?;
        Ok(())
    }

    fn names(&self) -> Result<Vec<OsString>, Error> {
        let entries = std::fs::read_dir(&self.path).context("read", &self.path)?;
        entries
            .map(|entry| Ok(entry.context("read", &self.path)?.file_name()))
            .collect()
    }

    /// Returns the numbers of the segments' first frames, in ascending order.
    pub(crate) fn segments(&self) -> Result<Vec<u64>, Error> {
        let names = self.names()?;
        let mut segments: Vec<u64> = names
            .iter()
            .filter_map(|name| parse_segment_name(name))
            .collect();
        segments.sort_unstable();
        Ok(segments)
    }

    pub(crate) fn position(&self) -> PathBuf {
        self.path.join(POSITION)
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.path.join(segment_name(first))
    }

    /// Opens a segment for reading.
    pub(crate) fn open_segment(&self, first: u64) -> io::Result<File> {
        File::open(self.segment(first))
    }

    /// Creates an empty segment.
    pub(crate) fn create_segment(&self, first: u64) -> Result<File, Error> {
        let path = self.segment(first);
        let mut options = writable();
        options.truncate(true);
        options.open(&path).context("create", &path)
    }

    /// Waits until the disk has the names of the files.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let folder = File::open(&self.path).context("open", &self.path)?;
        folder.sync_all().context("sync", &self.path)
    }

    /// Keeps the file of a delivered segment as the spare file. Returns whether that
    /// succeeded.
    pub(crate) fn keep_as_spare(&self, first: u64) -> bool {
        std::fs::rename(self.segment(first), self.path.join(SPARE)).is_ok()
    }

    /// Turns the spare file into a segment. The file's content stays.
    pub(crate) fn reuse_spare(&self, first: u64) -> Option<File> {
        let path = self.segment(first);
        std::fs::rename(self.path.join(SPARE), &path).ok()?;
        writable().open(&path).ok()
    }

    /// Returns the size of the spare file in bytes, or zero if there is none.
    pub(crate) fn spare_size(&self) -> u64 {
        std::fs::metadata(self.path.join(SPARE)).map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn remove_spare(&self) {
        // After a failure, the next start removes it.
        let _ = std::fs::remove_file(self.path.join(SPARE));
    }

    pub(crate) fn remove_segment(&self, first: u64) {
        // After a failure, the next start removes it, as the position is past it.
        let _ = std::fs::remove_file(self.segment(first));
    }
}

fn segment_name(first: u64) -> String {
    format!("{first:020}{SEGMENT}")
}

/// Returns the number of a segment's first frame, from its file name.
fn parse_segment_name(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    let first = name.strip_suffix(SEGMENT)?.parse().ok()?;
    (first < MAX_NUMBER && segment_name(first) == name).then_some(first)
}

/// Creates a folder that only its owner can read, because it will hold logs.
fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns options that open a file for reading and writing, and create a missing
/// file.
pub(crate) fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}
