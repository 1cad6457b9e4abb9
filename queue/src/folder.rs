//! The folder of a queue, and the files in it.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::NUMBERS;
use crate::error::{Context, Error};

/// The end of a segment's file name.
const SEGMENT: &str = ".frames";
const POSITION: &str = "position";
/// A segment that is not needed any more, to be used again.
const SPARE: &str = "spare";
const LOCK: &str = "queue.lock";
/// The content of the lock's file.
const MARK: &[u8; 18] = b"syslog_sink queue\n";

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

    /// Opens the folder of a queue, if nobody has it open and there is nothing
    /// else in it.
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
        let is_ours = |name: &OsStr| {
            let names = [LOCK, POSITION, SPARE].map(OsStr::new);
            names.contains(&name) || first_of(name).is_some()
        };
        let is_queue = is_marked && folder.names()?.iter().all(|name| is_ours(name));
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

    /// Fails if the folder was removed, or its disk is gone.
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

    /// The numbers of the segments' first frames, the lowest first.
    pub(crate) fn segments(&self) -> Result<Vec<u64>, Error> {
        let names = self.names()?;
        let mut found: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
        found.sort_unstable();
        Ok(found)
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

    /// Returns once the disk has the names of the files.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let folder = File::open(&self.path).context("open", &self.path)?;
        folder.sync_all().context("sync", &self.path)
    }

    /// Keeps the file of a segment that is not needed any more. Returns whether that
    /// succeeded.
    pub(crate) fn set_aside(&self, first: u64) -> bool {
        std::fs::rename(self.segment(first), self.path.join(SPARE)).is_ok()
    }

    /// Makes a segment of the file that was set aside. What is in it stays.
    pub(crate) fn reuse_spare(&self, first: u64) -> Option<File> {
        let path = self.segment(first);
        std::fs::rename(self.path.join(SPARE), &path).ok()?;
        writable().open(&path).ok()
    }

    /// The size of the file that was set aside, in bytes.
    pub(crate) fn spare_size(&self) -> u64 {
        std::fs::metadata(self.path.join(SPARE)).map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn remove_spare(&self) {
        // If that fails, the next start removes it.
        let _ = std::fs::remove_file(self.path.join(SPARE));
    }

    pub(crate) fn remove_segment(&self, first: u64) {
        // If that fails, the next start finds the segment below the position.
        let _ = std::fs::remove_file(self.segment(first));
    }
}

fn segment_name(first: u64) -> String {
    format!("{first:020}{SEGMENT}")
}

/// The number of the first frame of the segment with this name.
fn first_of(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    let first = name.strip_suffix(SEGMENT)?.parse().ok()?;
    (first < NUMBERS && segment_name(first) == name).then_some(first)
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
