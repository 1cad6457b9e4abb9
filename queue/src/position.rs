//! The file that holds how far the delivery has got.
//!
//! ```text
//! offset  size
//!      0     8  magic and version
//!      8     8  generation
//!     16     8  number of the first frame that is kept to be sent again
//!     24     8  number of the first frame that was not acknowledged
//!     32     4  CRC-32 of the 32 bytes before
//! ```
//!
//! There are two such slots, which are written in turn, so that one of them is
//! intact whatever happens during a write.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::NUMBERS;
use crate::error::{Context, Error};
use crate::folder::{Folder, writable};

const MAGIC: &[u8; 8] = b"syslogp\x01";
const LENGTH: usize = 36;
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

#[derive(Debug)]
pub(crate) struct PositionFile {
    path: PathBuf,
    file: File,
    generation: u64,
}

impl PositionFile {
    /// Opens the file, and reads the position if it has one.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Option<Position>), Error> {
        let path = folder.position();
        let file = writable().open(&path).context("open", &path)?;
        let newest = [0, SLOT]
            .into_iter()
            .filter_map(|offset| read(&file, offset))
            .max_by_key(|(generation, _)| *generation);
        let generation = newest.map_or(0, |(generation, _)| generation);
        let this = Self {
            path,
            file,
            generation,
        };
        Ok((this, newest.map(|(_, position)| position)))
    }

    pub(crate) fn write(&mut self, position: Position) -> Result<(), Error> {
        self.generation += 1;
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&position.kept.to_le_bytes());
        bytes[24..32].copy_from_slice(&position.delivered.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&checksum.to_le_bytes());
        self.file
            .write_all_at(&bytes, self.generation % 2 * SLOT)
            .context("write", &self.path)
    }
}

/// Reads a slot: its generation and its position. `None` if it is missing or
/// damaged.
fn read(file: &File, offset: u64) -> Option<(u64, Position)> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, offset).ok()?;
    let u64_at = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
    if bytes[..8] != *MAGIC || bytes[32..] != crc32fast::hash(&bytes[..32]).to_le_bytes() {
        return None;
    }
    let position = Position {
        kept: u64_at(16)?,
        delivered: u64_at(24)?,
    };
    let is_valid = position.kept <= position.delivered && position.delivered < NUMBERS;
    is_valid.then_some((u64_at(8)?, position))
}
