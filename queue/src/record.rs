//! The format of a record, which holds the frames of a batch or of a part of it.
//!
//! ```text
//! offset  size
//!      0     4  magic
//!      4     4  CRC-32 of the body
//!      8     4  length of the body
//!     12     4  number of frames
//!     16     8  number of the first frame
//!     24     8  time, in milliseconds since the Unix epoch
//!     32     4  CRC-32 of the 32 bytes before
//!     36        body: the length of each frame (4 bytes each), then the frames
//! ```
//!
//! Integers are little-endian. The header has its own checksum, so that a reader can
//! trust the length in it and skip a body that is damaged or not needed. After a
//! damaged header, the reader looks for the next intact one.

use std::ops::Range;

use syslog::Batch;

use crate::MAX_NUMBER;

/// The mark at the beginning of a record. Its first byte never occurs in UTF-8, so
/// that a search finds few other candidates.
const MAGIC: [u8; 4] = [0xf5, b'r', b'e', b'c'];

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    body_checksum: u32,
    /// The length of the body in bytes.
    body: u32,
    /// The number of frames, at least one.
    pub(crate) frames: u32,
    /// The number of the first frame.
    pub(crate) first: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) time: u64,
}

impl Header {
    pub(crate) const LENGTH: usize = 36;

    /// Parses the header at the beginning of `bytes`. Returns `None` if it is
    /// incomplete or damaged.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::LENGTH)?;
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|b| u32::from_le_bytes(*b));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|b| u64::from_le_bytes(*b));
        if bytes[..4] != MAGIC || u32_at(32)? != crc32fast::hash(&bytes[..32]) {
            return None;
        }
        let header = Self {
            body_checksum: u32_at(4)?,
            body: u32_at(8)?,
            frames: u32_at(12)?,
            first: u64_at(16)?,
            time: u64_at(24)?,
        };
        let is_valid =
            header.frames > 0 && header.frames <= header.body / 4 && header.first < MAX_NUMBER;
        is_valid.then_some(header)
    }

    /// Finds the first header at or after `from`, and returns its offset too.
    ///
    /// # Errors
    ///
    /// Returns the offset at which to continue when more bytes are available.
    pub(crate) fn search(bytes: &[u8], from: usize) -> Result<(usize, Self), usize> {
        let mut at = from;
        while let Some(found) = memchr::memmem::find(&bytes[at..], &MAGIC) {
            at += found;
            if bytes.len() - at < Self::LENGTH {
                return Err(at);
            }
            if let Some(header) = Self::parse(&bytes[at..]) {
                return Ok((at, header));
            }
            at += 1;
        }
        Err(bytes.len().saturating_sub(MAGIC.len() - 1).max(at))
    }

    /// Returns the length of the whole record in bytes.
    pub(crate) const fn record(&self) -> usize {
        Self::LENGTH + self.body as usize
    }

    /// Returns one past the number of the last frame.
    pub(crate) const fn end(&self) -> u64 {
        self.first.saturating_add(self.frames as u64)
    }

    /// Appends the frames with the number `from` and higher to a batch. `body` begins
    /// directly after the header. Returns whether the body is intact; a damaged body
    /// leaves the batch unchanged.
    pub(crate) fn append_to(&self, batch: &mut Batch, body: &[u8], from: u64) -> bool {
        let Some(body) = body.get(..self.body as usize) else {
            return false;
        };
        if crc32fast::hash(body) != self.body_checksum {
            return false;
        }
        let (table, frames) = body.split_at(4 * self.frames as usize);
        let lengths = table.as_chunks().0.iter().copied().map(u32::from_le_bytes);
        if lengths.clone().map(u64::from).sum::<u64>() != frames.len() as u64 {
            return false;
        }
        let skip = from.saturating_sub(self.first).min(self.frames.into()) as usize;
        let start: usize = lengths
            .clone()
            .take(skip)
            .map(|length| length as usize)
            .sum();
        batch.append_frames(
            &frames[start..],
            lengths.skip(skip).map(|length| length as usize),
        );
        true
    }
}

/// Replaces the content of `head` by the header and the table of lengths of a record
/// with these frames of a batch. The bytes of the frames follow on the disk.
pub(crate) fn encode(
    batch: &Batch,
    frames: Range<usize>,
    first: u64,
    time: u64,
    head: &mut Vec<u8>,
) {
    head.clear();
    head.resize(Header::LENGTH, 0);
    let start = batch.frame_start(frames.start);
    let mut before = start;
    for frame in frames.clone() {
        let end = batch.frame_start(frame + 1);
        head.extend_from_slice(&((end - before) as u32).to_le_bytes());
        before = end;
    }
    let bytes = &batch.bytes()[start..before];
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&head[Header::LENGTH..]);
    checksum.update(bytes);
    let body = head.len() - Header::LENGTH + bytes.len();

    let fields = head.as_mut_slice();
    fields[..4].copy_from_slice(&MAGIC);
    fields[4..8].copy_from_slice(&checksum.finalize().to_le_bytes());
    fields[8..12].copy_from_slice(&(body as u32).to_le_bytes());
    fields[12..16].copy_from_slice(&(frames.len() as u32).to_le_bytes());
    fields[16..24].copy_from_slice(&first.to_le_bytes());
    fields[24..32].copy_from_slice(&time.to_le_bytes());
    let checksum = crc32fast::hash(&fields[..32]);
    fields[32..36].copy_from_slice(&checksum.to_le_bytes());
}
