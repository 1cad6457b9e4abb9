//! A sink's queue on disk: batches of frames go in at one end, and come out at
//! the other in the same order, over restarts and kills of the process.
//!
//! ```text
//! Writer::append ──> 00000000000000000000.frames   oldest segment
//!                    00000000000000004711.frames
//!                    00000000000000009042.frames   active segment ──> Reader::read
//!                    position                      <── Reader::advance
//!                    queue.lock                    one process at a time
//! ```
//!
//! Frames have consecutive numbers, from zero on for the life of the queue. A
//! segment is named by the number of its first frame, a record holds the number
//! of its first frame, and a position is the number of a frame. So whatever is
//! missing or damaged is a gap in the numbers, and is counted exactly.
//!
//! The segments are kept until their frames are neither to be delivered nor to
//! be sent again. When the queue has reached its limit, its oldest segment is
//! evicted. Several queues can share a [`Budget`]: when they exceed it, the largest
//! one is evicted from.
//!
//! Nothing that is found on the disk is trusted: a record counts only if its
//! checksums match. One that does not costs itself, and a segment that cannot
//! be read costs the frames in it; the frames behind it are still delivered. A
//! record that was cut off by a kill was never acknowledged to anybody, and
//! costs nothing.
#![forbid(unsafe_code)]

mod budget;
mod error;
mod folder;
mod handover;
mod position;
mod reader;
mod record;
mod segment;
mod state;
mod writer;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use syslog::Framing;

pub use self::budget::Budget;
pub use self::error::Error;
use self::folder::Folder;
pub use self::reader::{Chunk, Reader};
use self::state::State;
pub use self::state::Status;
pub use self::writer::Writer;

/// Numbers from here on are damage: no queue lives so long, and none overflows.
const NUMBERS: u64 = 1 << 62;

/// The settings of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The framing of the batches that are read. Frames that were appended with
    /// another one are framed again.
    pub framing: Framing,
    /// The maximum size of all segments, in bytes.
    pub limit: u64,
    /// Whether an append returns only once the disk has the batch, so that a
    /// power failure costs nothing.
    pub sync: bool,
}

/// Deletes the queue in a folder, unless somebody has it open. Returns the bytes
/// of its segments, or `None` if it was left alone, or has other files in it.
///
/// # Errors
///
/// If a file cannot be read or deleted.
pub fn delete(path: &Path) -> Result<Option<u64>, Error> {
    let Some(folder) = Folder::open_unclaimed(path)? else {
        return Ok(None);
    };
    let mut bytes = folder.spare_size();
    for first in folder.segments()? {
        let segment = folder.segment(first);
        bytes += std::fs::metadata(&segment).map_or(0, |metadata| metadata.len());
    }
    folder.delete()?;
    Ok(Some(bytes))
}

/// Opens the queue in a folder, which is created if it is missing.
///
/// # Errors
///
/// If the folder cannot be created, read or written, or another process uses
/// it.
pub fn open(path: &Path, options: Options) -> Result<(Writer, Reader), Error> {
    let folder = Arc::new(Folder::open(path)?);
    let state = State::recover(&folder, options.sync)?;
    let state = Arc::new(Mutex::new(state));
    let active = Arc::default();
    let reader = Reader::new(
        Arc::clone(&folder),
        Arc::clone(&state),
        Arc::clone(&active),
        options.framing,
    );
    Ok((Writer::new(folder, state, active, options), reader))
}
