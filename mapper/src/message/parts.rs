//! The parts of a message that exceeds `max_message_size`. The structured data of
//! each part has its number, so that a part cannot be mistaken for a separate line.
//!
//! ```text
//! HEADER SP [kubernetes@47450 ...][part@47450 number="1" count="2"] SP the beginn
//! HEADER SP [kubernetes@47450 ...][part@47450 number="2" count="2"] SP ing and the end
//! ```
//!
//! A receiver sees the parts as messages, and a part may begin anywhere in a text. A
//! part therefore has the number of parts as well, and the cut points are determined
//! before the first part is written. All parts have the same room, that of the longest
//! number.

use std::io::Write;

use syslog::Batch;
use syslog::text::{Measure, count_lossy_parts, push_lossy_within};

use crate::config::PART_SD_ID;

/// The size limit of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct SizeLimit {
    /// The maximum size in units of `measure`, without the framing.
    pub(super) size: usize,
    /// The measure of the text.
    pub(super) measure: Measure,
}

/// Splits a text into parts, appends their messages, and returns the number of
/// parts. `head` is the header and the structured data of every part.
pub(super) fn push(
    batch: &mut Batch,
    head: &[u8],
    bom: &[u8],
    text: &[u8],
    SizeLimit { size, measure }: SizeLimit,
) -> u64 {
    // The element replaces a NILVALUE; other structured data ends with a bracket.
    let head = head.strip_suffix(b"-").unwrap_or(head);
    let (room, count) = fit(text, size - head.len() - bom.len(), measure);
    let mut rest = text;
    for number in 1..=count {
        let mut frame = batch.frame();
        let out = frame.bytes();
        out.extend_from_slice(head);
        write!(out, r#"[{PART_SD_ID} number="{number}" count="{count}"] "#)
            .expect("writing to a Vec never fails");
        out.extend_from_slice(bom);
        let used = push_lossy_within(out, rest, room, measure);
        frame.finish();
        rest = &rest[used..];
    }
    count as u64
}

/// Returns the maximum size of each part's text, and the number of parts, given
/// `room` for the part element and the text together.
fn fit(text: &[u8], room: usize, measure: Measure) -> (usize, usize) {
    const ELEMENT: usize = PART_SD_ID.len() + r#"[ number="" count=""] "#.len();
    let mut digits = 1;
    loop {
        let room = room - ELEMENT - 2 * digits;
        let count = count_lossy_parts(text, room, measure);
        let needed = count.checked_ilog10().unwrap_or_default() as usize + 1;
        if needed <= digits {
            return (room, count);
        }
        digits = needed;
    }
}
