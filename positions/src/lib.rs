//! The positions of the outputs' queues in each container's log: the contract between the input
//! that reads pod logs and the outputs, in files.
//!
//! ```text
//! input                                         output
//!   <- outputs.rs    <queue_path>/outputs          announced once all outputs are open
//!   -> group.rs      group of records: from, to    ──────────> ledger.rs: taken before?
//!   <- file.rs       <queue_path>/<queue>/positions <───────── after the append to the queue
//!   -> file.rs       <queue_path>/<queue>/start    where the input began for this queue
//! ```
//!
//! The input appends to Fluent Bit's memory, which a kill loses. So it has no position of its
//! own: after a start it begins at the lowest position of the queues that want a container,
//! and each output skips the groups that its queue has.
//!
//! Files are the channel, because the two libraries have no symbols in common, and because
//! the positions have to be on the disk anyway.
#![forbid(unsafe_code)]

mod file;
mod group;
mod ledger;
pub mod outputs;

use std::fs;
use std::io;
use std::path::Path;

pub use self::file::{Container, Entries, Entry, PositionFile, read};
pub use self::group::{Group, KEY};
pub use self::ledger::{Ledger, asked};

/// The name of the file with the positions in the folder of an output's queue.
pub const POSITIONS: &str = "positions";
/// The name of the file with the positions at which the input began for an output.
pub const START: &str = "start";

/// Deletes the files of an output, in the folder of its queue.
///
/// # Errors
///
/// Returns an error if there is a file that cannot be deleted.
pub fn delete(folder: &Path) -> io::Result<()> {
    for name in [POSITIONS, "positions.damaged", START, "start.damaged"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
