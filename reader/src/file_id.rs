//! The identity of a log file: it has to be found again after it was renamed or compressed,
//! and its inode may be used by another file.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The identity of a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct FileId {
    /// The device and the inode; they change when the kubelet compresses the file.
    pub inode: (u64, u64),
    /// The fingerprint of the beginning.
    pub fingerprint: Fingerprint,
}

/// A hash of the beginning of a file's text. A log line has its time in nanoseconds, so two
/// files do not begin alike: a CRI line begins with it, and one of json-file ends with it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The number of bytes: [`Fingerprint::COMPLETE`], or the first line if that is one of
    /// json-file and longer; less in a file that was shorter.
    length: u32,
    hash: u64,
}

impl Fingerprint {
    /// The number of bytes from which on a fingerprint is complete.
    pub const COMPLETE: usize = 256;

    /// The maximum number of bytes of a fingerprint. Docker escapes parts of 16 KiB.
    pub const MAX: usize = 128 * 1024;

    /// Returns the fingerprint of a file that begins with this text.
    #[must_use]
    pub fn new(beginning: &[u8]) -> Self {
        let length = if Self::needs_more(beginning) {
            Self::MAX
        } else {
            let line = memchr::memchr(b'\n', beginning).filter(|_| is_json(beginning));
            line.map_or(0, |at| at + 1).max(Self::COMPLETE)
        };
        Self::of(&beginning[..beginning.len().min(length)])
    }

    /// Returns whether more than this beginning of a file, up to [`Fingerprint::MAX`] bytes,
    /// is necessary for its fingerprint.
    #[must_use]
    pub fn needs_more(beginning: &[u8]) -> bool {
        is_json(beginning) && memchr::memchr(b'\n', beginning).is_none()
    }

    fn of(beginning: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(beginning).into();
        let (hash, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
        Self {
            length: beginning.len() as u32,
            hash: u64::from_be_bytes(*hash),
        }
    }

    /// Returns whether a file that begins with this text, which may have grown since, has
    /// this fingerprint.
    #[must_use]
    pub fn matches(&self, beginning: &[u8]) -> bool {
        let length = self.length();
        beginning.len() >= length && Self::of(&beginning[..length]) == *self
    }

    /// Returns the number of bytes of the beginning.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length as usize
    }

    /// Returns whether the file was long enough to identify it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.length() >= Self::COMPLETE
    }

    /// Returns whether the file was empty, so that every file matches.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

fn is_json(beginning: &[u8]) -> bool {
    beginning.first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_keeps_its_fingerprint() {
        let text = [b'x'; 300];
        for length in [0, 1, 255, 256, 300] {
            let fingerprint = Fingerprint::new(&text[..length]);
            assert!(fingerprint.matches(&text));
            assert_eq!(fingerprint.matches(b"x"), length <= 1, "{length}");
            assert_eq!(fingerprint.is_complete(), length >= 256);
        }
        assert!(!Fingerprint::new(b"abc").matches(b"abd"));
    }

    #[test]
    fn files_of_json_with_the_same_text_differ_in_their_times() {
        let line = |second: u32| {
            let text = "x".repeat(300);
            format!("{{\"log\":\"{text}\\n\",\"time\":\"2026-03-01T12:00:{second:02}Z\"}}\n")
        };
        let (a, b) = (line(1), line(2));
        assert!(!Fingerprint::new(a.as_bytes()).matches(b.as_bytes()));
        let grown = format!("{a}{b}");
        let fingerprint = Fingerprint::new(grown.as_bytes());
        assert_eq!(fingerprint, Fingerprint::new(a.as_bytes()));
        assert_eq!(fingerprint.length(), a.len());
        let is_short = |text: &str| Fingerprint::needs_more(&text.as_bytes()[..256]);
        assert!(is_short(&a) && !is_short(&grown.replace('{', "2")));
    }
}
