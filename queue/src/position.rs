//! The file with the position of the delivery.
//!
//! ```text
//! offset  size
//!      0     8  magic and version
//!      8     8  generation
//!     16     8  number of the first frame that is kept to be sent again
//!     24     8  number of the first frame that was not acknowledged
//!     32    16  range of unacknowledged frames that were evicted: start and end
//!     48     4  CRC-32 of the 48 bytes before
//! ```
//!
//! The file has two such slots, which are written in turn, so that one of them is
//! always intact, even if the process is killed during a write.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::MAX_NUMBER;
use crate::error::{Context, Error};
use crate::folder::{Folder, writable};

const MAGIC: &[u8; 8] = b"syslogp\x01";
const LENGTH: usize = 52;
/// The distance of the slots in bytes. A slot never crosses a sector boundary.
const SLOT: u64 = 512;

/// The position of the delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the first frame that is kept to be sent again.
    pub(crate) kept: u64,
    /// The number of the first frame that was not acknowledged.
    pub(crate) delivered: u64,
}

/// The content of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    /// The frames that were evicted after they had been read, and before they were
    /// acknowledged.
    pub(crate) evicted_in_flight: Range<u64>,
}

/// The open position file.
#[derive(Debug)]
pub(crate) struct PositionFile {
    path: PathBuf,
    file: File,
    generation: u64,
}

impl PositionFile {
    /// Opens the file. Returns its newest intact slot too, if there is one.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Option<Snapshot>), Error> {
        let path = folder.position();
        let file = writable().open(&path).context("open", &path)?;
        let newest = [0, SLOT]
            .into_iter()
            .filter_map(|offset| read(&file, offset))
            .max_by_key(|(generation, _)| *generation);
        let generation = newest.as_ref().map_or(0, |(generation, _)| *generation);
        let this = Self {
            path,
            file,
            generation,
        };
        Ok((this, newest.map(|(_, snapshot)| snapshot)))
    }

    /// Writes the older slot.
    pub(crate) fn write(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.generation += 1;
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&snapshot.position.kept.to_le_bytes());
        bytes[24..32].copy_from_slice(&snapshot.position.delivered.to_le_bytes());
        bytes[32..40].copy_from_slice(&snapshot.evicted_in_flight.start.to_le_bytes());
        bytes[40..48].copy_from_slice(&snapshot.evicted_in_flight.end.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..48]);
        bytes[48..].copy_from_slice(&checksum.to_le_bytes());
        self.file
            .write_all_at(&bytes, self.generation % 2 * SLOT)
            .context("write", &self.path)
    }

    /// Waits until the disk has the position.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().context("sync", &self.path)
    }
}

/// Reads the generation and the content of a slot. Returns `None` if the slot is
/// missing or damaged.
fn read(file: &File, offset: u64) -> Option<(u64, Snapshot)> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, offset).ok()?;
    let u64_at = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
    if bytes[..8] != *MAGIC || bytes[48..] != crc32fast::hash(&bytes[..48]).to_le_bytes() {
        return None;
    }
    let position = Position {
        kept: u64_at(16)?,
        delivered: u64_at(24)?,
    };
    let generation = u64_at(8)?;
    let evicted_in_flight = u64_at(32)?..u64_at(40)?;
    let is_valid = position.kept <= position.delivered
        && position.delivered < MAX_NUMBER
        && evicted_in_flight.end <= position.delivered
        && generation < MAX_NUMBER;
    is_valid.then_some((
        generation,
        Snapshot {
            position,
            evicted_in_flight,
        },
    ))
}
