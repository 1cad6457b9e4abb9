//! The file that holds how far the delivery has got.
//!
//! ```text
//! offset  size
//!      0     8  magic and version
//!      8     8  generation
//!     16     8  number of the first frame that is kept to be sent again
//!     24     8  number of the first frame that was not acknowledged
//!     32    16  frames that were evicted under way: the first, and the end
//!     48     4  CRC-32 of the 48 bytes before
//! ```
//!
//! There are two such slots, which are written in turn, so that one of them is
//! intact whatever happens during a write.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::NUMBERS;
use crate::error::{Context, Error};
use crate::folder::{Folder, writable};

const MAGIC: &[u8; 8] = b"syslogp\x01";
const LENGTH: usize = 52;
/// A slot never crosses the border of a disk's sector.
const SLOT: u64 = 512;

/// How far the delivery has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the first frame that is kept to be sent again.
    pub(crate) kept: u64,
    /// The number of the first frame that was not acknowledged.
    pub(crate) delivered: u64,
}

/// The content of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) position: Position,
    /// The frames that were evicted when they had been read and not been
    /// acknowledged.
    pub(crate) evicted_under_way: Range<u64>,
}

#[derive(Debug)]
pub(crate) struct PositionFile {
    path: PathBuf,
    file: File,
    generation: u64,
}

impl PositionFile {
    /// Opens the file, and reads the position if it has one.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Option<Noted>), Error> {
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
        Ok((this, newest.map(|(_, noted)| noted)))
    }

    pub(crate) fn write(&mut self, noted: &Noted) -> Result<(), Error> {
        self.generation += 1;
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&noted.position.kept.to_le_bytes());
        bytes[24..32].copy_from_slice(&noted.position.delivered.to_le_bytes());
        bytes[32..40].copy_from_slice(&noted.evicted_under_way.start.to_le_bytes());
        bytes[40..48].copy_from_slice(&noted.evicted_under_way.end.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..48]);
        bytes[48..].copy_from_slice(&checksum.to_le_bytes());
        self.file
            .write_all_at(&bytes, self.generation % 2 * SLOT)
            .context("write", &self.path)
    }

    /// Returns once the disk has what was written.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().context("sync", &self.path)
    }
}

/// Reads a slot: its generation and what it says. `None` if it is missing or
/// damaged.
fn read(file: &File, offset: u64) -> Option<(u64, Noted)> {
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
    let evicted_under_way = u64_at(32)?..u64_at(40)?;
    let is_valid = position.kept <= position.delivered
        && position.delivered < NUMBERS
        && evicted_under_way.end <= position.delivered
        && generation < NUMBERS;
    is_valid.then_some((
        generation,
        Noted {
            position,
            evicted_under_way,
        },
    ))
}
