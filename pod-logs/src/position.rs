//! The text of a position, as the outputs keep it.

use positions::Entry;
use reader::Position;

/// Returns the entry of a position.
pub(crate) fn entry(position: &Position) -> Entry {
    Entry {
        place: position.place(),
        position: encode(position),
    }
}

fn encode(position: &Position) -> String {
    serde_json::to_string(position).expect("positions have only texts as keys")
}

/// Parses a position. Returns `None` for any other text, such as a position of another version.
pub(crate) fn decode(text: &str) -> Option<Position> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use reader::container_log;
    use reader::file_id::{FileId, Fingerprint};
    use reader::file_name::FileName;

    use super::*;

    /// The file of positions holds texts of at most 800 bytes.
    #[test]
    fn the_longest_position_is_short_enough() {
        let file = container_log::FilePosition {
            id: FileId {
                inode: (u64::MAX, u64::MAX),
                fingerprint: Fingerprint::new(&[0; 300]),
            },
            offset: u64::MAX,
        };
        let position = Position {
            log: container_log::Position {
                after: FileName::parse("4294967295.log.20260301-120000.gz"),
                file: Some(file),
            },
            passed: reader::assembler::Offsets {
                stdout: u64::MAX,
                stderr: u64::MAX,
            },
            read: u64::MAX,
            before: u64::MAX,
            scale: u64::MAX,
            given_up: u8::MAX,
            is_in_line: true,
        };
        let text = encode(&position);
        assert!(text.len() < 600, "{} bytes: {text}", text.len());
        assert_eq!(decode(&text), Some(position));
    }
}
