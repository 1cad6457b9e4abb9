//! The format of a segment: a header, followed by records.
//!
//! ```text
//! offset  size
//!      0     7  magic
//!      7     1  version of the format
//!      8     1  framing of the frames
//!      9     3  zero
//!     12     4  CRC-32 of the 12 bytes before
//!     16        records
//! ```
//!
//! The file may have held an earlier segment. Leftover records of that segment have lower
//! numbers than this segment's first frame, and are ignored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use syslog::Framing;

use crate::record::Header;

const MAGIC: &[u8; 7] = b"syslogq";
const VERSION: u8 = 1;

/// The length of a segment's header in bytes.
pub(crate) const HEADER: usize = 16;

/// Encodes a segment's header.
pub(crate) fn header(framing: Framing) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..7].copy_from_slice(MAGIC);
    header[7] = VERSION;
    header[8] = match framing {
        Framing::OctetCounting => 0,
        Framing::Newline => 1,
        Framing::Datagram => 2,
    };
    let checksum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Reads the framing from a segment's header. Returns `None` if the header is
/// damaged, or has a different version of the format.
pub(crate) fn framing(file: &File) -> io::Result<Option<Framing>> {
    let mut bytes = [0; HEADER];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    Ok(
        [Framing::OctetCounting, Framing::Newline, Framing::Datagram]
            .into_iter()
            .find(|framing| header(*framing) == bytes),
    )
}

/// Returns one past the number of the last frame in an intact record, or `first`
/// if the segment has no intact record.
pub(crate) fn end(file: &File, first: u64) -> io::Result<u64> {
    let mut end = first;
    let mut bytes = Vec::new();
    let mut at = HEADER as u64;
    let length = file.metadata()?.len();
    while at + Header::LENGTH as u64 <= length {
        bytes.resize((length - at).min(READ as u64) as usize, 0);
        file.read_exact_at(&mut bytes, at)?;
        let mut offset = 0;
        while offset < bytes.len() {
            offset = match Header::search(&bytes, offset) {
                Ok((found, header)) => {
                    let record_end = found + header.record();
                    // A leftover of the file's earlier segment, or cut off by a kill, so
                    // that its append never returned.
                    if header.first < first || at + record_end as u64 > length {
                        found + 1
                    } else {
                        end = end.max(header.end());
                        record_end
                    }
                }
                Err(next) => {
                    offset = next.max(1);
                    break;
                }
            };
        }
        at += offset as u64;
    }
    Ok(end)
}

/// The size of a read from the disk, in bytes.
pub(crate) const READ: usize = 256 * 1024;
