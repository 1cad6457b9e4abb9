//! A sink's queue on disk. Batches of frames are read in the order in which they
//! were appended, across restarts and kills of the process.
//!
//! ```text
//! Writer::append ──> 00000000000000000000.frames   oldest segment
//!                    00000000000000004711.frames
//!                    00000000000000009042.frames   active segment ──> Reader::read
//!                    position                      <── Reader::advance
//!                    queue.lock                    one process at a time
//! ```
//!
//! Frames are numbered consecutively, from zero, for the life of the queue. A
//! segment is named after the number of its first frame, a record holds the number
//! of its first frame, and a position is the number of a frame. Missing or damaged
//! data is therefore a gap in the numbers, and is counted exactly.
//!
//! A segment is kept until none of its frames must be delivered or may have to be
//! sent again. When the queue reaches its limit, it evicts its oldest segment.
//! Several queues can share a [`Budget`]: when they exceed it, the largest queue
//! evicts its oldest segments.
//!
//! Data on the disk is not trusted: a record is valid only if its checksums match.
//! An invalid record loses its own frames, and an unreadable segment the frames in
//! it; the frames after it are still delivered. A record that was cut off by a kill
//! loses nothing, because its append never returned.
//!
//! # Design
//!
//! The queue is a custom implementation. None of the crates for queues and write-ahead
//! logs that were evaluated keeps two positions (delivered, and kept to be sent again),
//! evicts the oldest messages at a limit, counts the exact loss of a damaged file, and
//! reads without an asynchronous runtime. The format is small: `record.rs`,
//! `segment.rs` and `position.rs` describe it.
//!
//! After each start, appends go to a new segment, so the data of an earlier process is
//! never modified, and only the last segment is read at the start. A property test compares the queue
//! with a list of frames over restarts, kills during an append, and damaged and
//! truncated files (`tests/model.rs`).
//!
//! # Examples
//!
//! ```
//! use std::time::SystemTime;
//!
//! use queue::Options;
//! use syslog::{Batch, Framing};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! let options = Options {
//!     framing: Framing::Newline,
//!     limit: 64 * 1024 * 1024,
//!     sync: false,
//! };
//! let (writer, mut reader) = queue::open(path, options)?;
//!
//! let mut batch = Batch::new(Framing::Newline);
//! let mut frame = batch.frame();
//! frame.bytes().extend_from_slice(b"<14>1 - - - - - - hello");
//! frame.finish();
//! writer.append(&mut batch, SystemTime::now())?;
//! assert_eq!(writer.status().waiting, 1);
//!
//! let mut scratch = Vec::new();
//! let queued = reader.read(&mut scratch)?.expect("one batch was appended");
//! assert_eq!(queued.batch.bytes(), b"<14>1 - - - - - - hello\n");
//!
//! // The receiver has acknowledged all frames that were read.
//! let delivered = reader.number();
//! reader.advance(delivered, delivered)?;
//! assert_eq!(writer.status().waiting, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub use self::reader::{QueuedBatch, Reader};
use self::state::State;
pub use self::state::Status;
pub use self::writer::Writer;

/// The limit of the frames' numbers. A higher number in a file is damage: no queue
/// lives long enough to reach it.
const MAX_NUMBER: u64 = 1 << 62;

/// The settings of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The framing of the batches that are read. Frames that were appended with a
    /// different framing are converted.
    pub framing: Framing,
    /// The maximum size of all segments, in bytes.
    pub limit: u64,
    /// Whether an append waits until the disk has the batch, so that a power
    /// failure loses nothing.
    pub sync: bool,
}

/// Deletes the queue in a folder, and the folder. Returns the size of its segments
/// in bytes, or `None` if nothing was deleted: because the folder is not a queue,
/// holds other files too, or is in use.
///
/// # Errors
///
/// Returns an error if a file cannot be read or deleted.
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

/// Opens the queue in a folder. A missing folder is created. The reader begins at the first
/// frame that is kept to be sent again.
///
/// # Errors
///
/// Returns an error if the folder cannot be created, read or written, or is in use.
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
