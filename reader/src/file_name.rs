//! The names of a container's log files, and their order.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// The name of a log file: `<run>.log`, or after its rotation `<run>.log.<time>`, which may be
/// compressed (`.gz`). Files that Docker has rotated have other names, which change; they are
/// identified by a time too.
///
/// Names are ordered as their contents were written: by the container's run, then rotated
/// files by their time, then the current file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct FileName {
    /// The number of the container's run, which counts its restarts.
    pub run: u32,
    /// The time of the rotation, `YYYYMMDD-hhmmss`, or of the first line of a file that Docker
    /// has rotated; none for the current file.
    pub rotated: Option<String>,
    /// Whether the file is compressed.
    pub is_compressed: bool,
}

/// The length of a rotation's time.
const TIME: usize = "20260301-120000".len();

impl FileName {
    /// Parses a file's name. Returns `None` for other files, such as the one that the kubelet
    /// writes while it compresses (`.tmp`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (run, rest) = name.split_once(".log")?;
        let run = run.parse().ok().filter(|_| !run.starts_with('+'))?;
        if rest.is_empty() {
            return Some(Self {
                run,
                rotated: None,
                is_compressed: false,
            });
        }
        let time = rest.strip_prefix('.')?;
        let uncompressed = time.strip_suffix(".gz");
        let time = uncompressed.unwrap_or(time);
        let is_digit = |(at, byte): (usize, u8)| match at {
            8 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        let is_time = time.len() == TIME && time.bytes().enumerate().all(is_digit);
        is_time.then(|| Self {
            run,
            rotated: Some(time.to_owned()),
            is_compressed: uncompressed.is_some(),
        })
    }
}

impl FileName {
    /// Returns whether the content of this file was written after that of another one. A file
    /// and its compressed copy, which exist together for a moment, have the same content.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.order() > other.order()
    }

    /// Returns whether the files have the same content, although one may be compressed.
    pub(crate) fn has_content_of(&self, other: &Self) -> bool {
        self.order() == other.order()
    }

    fn order(&self) -> (u32, bool, Option<&str>) {
        (self.run, self.rotated.is_none(), self.rotated.as_deref())
    }
}

impl Ord for FileName {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.order().cmp(&other.order());
        order.then(self.is_compressed.cmp(&other.is_compressed))
    }
}

impl PartialOrd for FileName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_files_were_written() {
        let names = [
            "0.log.20260301-120000.gz",
            "0.log.20260301-130000",
            "0.log.20260301-130000.gz",
            "0.log",
            "1.log.20260302-000000",
            "1.log",
            "10.log",
        ];
        let names = names.map(|name| FileName::parse(name).unwrap());
        assert!(names.is_sorted());
        assert!(!names[2].is_later_than(&names[1]) && names[1].is_later_than(&names[0]));
    }

    #[test]
    fn other_files_are_ignored() {
        for name in [
            "0.log.20260301-120000.gz.tmp",
            "0.log.20260301-120000.tmp",
            "0.log.1",
            "0.log.2026030112-0000",
            "+1.log",
            "x.log",
            "0.txt",
            "0.logs",
            ".log",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
