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

/// A hash of the beginning of a file's text. Lines of CRI begin with times in nanoseconds, so
/// two files do not begin alike. Those of json-file have the time after the text, so files that
/// begin with the same long text are told apart by their order only.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The number of bytes, at most [`Fingerprint::MAX`]; less in a file that was shorter.
    length: u16,
    hash: u64,
}

impl Fingerprint {
    /// The maximum number of bytes of a fingerprint.
    pub const MAX: usize = 256;

    /// Returns the fingerprint of a file that begins with this text.
    #[must_use]
    pub fn new(beginning: &[u8]) -> Self {
        let beginning = &beginning[..beginning.len().min(Self::MAX)];
        let digest: [u8; 32] = Sha256::digest(beginning).into();
        let (hash, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
        Self {
            length: beginning.len() as u16,
            hash: u64::from_be_bytes(*hash),
        }
    }

    /// Returns whether a file that begins with this text, which may have grown since, has
    /// this fingerprint.
    #[must_use]
    pub fn matches(&self, beginning: &[u8]) -> bool {
        let length = usize::from(self.length);
        beginning.len() >= length && Self::new(&beginning[..length]) == *self
    }

    /// Returns whether the file was long enough to identify it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.length as usize == Self::MAX
    }

    /// Returns whether the file was empty, so that every file matches.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
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
}
