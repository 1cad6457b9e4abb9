//! The parts of a message that is longer than `max_message_size`. Each says in
//! its structured data which part it is, so that none passes for a line of its
//! own.
//!
//! ```text
//! HEADER SP [kubernetes@47450 ...][part@47450 number="1" count="2"] SP the beginn
//! HEADER SP [kubernetes@47450 ...][part@47450 number="2" count="2"] SP ing and the end
//! ```

use std::io::Write;

use syslog::Batch;
use syslog::text::{Measure, count_lossy_parts, push_lossy_within};

use crate::config::PART_SD_ID;

/// Appends the parts of a text and returns their number. `head` is the header and
/// the structured data; the parts have `size` bytes at most, by this measure.
pub(super) fn push(
    batch: &mut Batch,
    head: &[u8],
    bom: &[u8],
    text: &[u8],
    (size, measure): (usize, Measure),
) -> u64 {
    // Structured data ends with a bracket; a NILVALUE gives way to the element.
    let head = head.strip_suffix(b"-").unwrap_or(head);
    let (room, count) = fit(text, size - head.len() - bom.len(), measure);
    let mut rest = text;
    for number in 1..=count {
        let mut frame = batch.frame();
        let out = frame.bytes();
        out.extend_from_slice(head);
        write!(out, r#"[{PART_SD_ID} number="{number}" count="{count}"] "#)
            .expect("memory takes it");
        out.extend_from_slice(bom);
        let used = push_lossy_within(out, rest, room, measure);
        frame.finish();
        rest = &rest[used..];
    }
    count as u64
}

/// Returns how many bytes of text each part holds, and the number of parts, where
/// the element and the text of a part have `room` bytes together.
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
