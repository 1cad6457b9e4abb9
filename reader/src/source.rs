//! The bytes of a log file, compressed or not. Positions refer to the uncompressed text.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::file_id::{FileId, Fingerprint};

/// An open log file. It can be read to its end whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Source {
    inode: (u64, u64),
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Plain(File),
    Compressed(Box<Compressed>),
}

/// A compressed file can be read forwards only.
#[derive(Debug)]
struct Compressed {
    decoder: MultiGzDecoder<File>,
    /// The offset of `unread` in the text.
    at: u64,
    /// Text that was decompressed and not passed yet.
    unread: Vec<u8>,
}

/// Returns whether an error is one of the file: another attempt would fail too. All others are
/// of the system, such as too many open files.
pub(crate) fn is_of_file(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

impl Source {
    /// Opens a file. A symbolic link is refused: a container must not make the reader read
    /// other files.
    pub(crate) fn open(path: &Path, is_compressed: bool) -> io::Result<Self> {
        // Opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => {
                return Err(io::Error::other("symbolic links are not followed"));
            }
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self {
            inode: (metadata.dev(), metadata.ino()),
            bytes: if is_compressed {
                Bytes::Compressed(Box::new(Compressed {
                    decoder: MultiGzDecoder::new(file),
                    at: 0,
                    unread: Vec::new(),
                }))
            } else {
                Bytes::Plain(file)
            },
        })
    }

    /// Returns the file's identity at present.
    pub(crate) fn id(&mut self) -> io::Result<FileId> {
        let mut beginning = [0; Fingerprint::MAX];
        let length = self.read_at(0, &mut beginning)?;
        Ok(FileId {
            inode: self.inode,
            fingerprint: Fingerprint::new(&beginning[..length]),
        })
    }

    /// Returns whether this is the file with an identity. The file may have grown since, or was
    /// compressed.
    pub(crate) fn beginning_matches(&mut self, id: &FileId) -> io::Result<bool> {
        let mut beginning = [0; Fingerprint::MAX];
        let length = self.read_at(0, &mut beginning)?;
        // The beginning of an empty file tells nothing.
        let is_known = self.inode == id.inode || !id.fingerprint.is_empty();
        Ok(is_known && id.fingerprint.matches(&beginning[..length]))
    }

    /// Returns the offset after the last line feed.
    pub(crate) fn end_of_lines(&mut self) -> io::Result<u64> {
        const STEP: u64 = 64 * 1024;
        let Some(mut end) = self.length()? else {
            return self.length_of_text();
        };
        let mut buffer = vec![0; STEP as usize];
        while end > 0 {
            let start = end.saturating_sub(STEP);
            let count = self.read_at(start, &mut buffer[..(end - start) as usize])?;
            if let Some(last) = memchr::memrchr(b'\n', &buffer[..count]) {
                return Ok(start + last as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }

    /// Returns the length of the text, as far as it can be read.
    pub(crate) fn length_of_text(&mut self) -> io::Result<u64> {
        if let Some(length) = self.length()? {
            return Ok(length);
        }
        let mut buffer = vec![0; Compressed::STEP];
        let mut length = 0;
        loop {
            match self.read_at(length, &mut buffer) {
                Ok(0) => return Ok(length),
                Ok(count) => length += count as u64,
                Err(error) if is_of_file(&error) => return Ok(length),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether the file is compressed.
    pub(crate) const fn is_compressed(&self) -> bool {
        matches!(self.bytes, Bytes::Compressed(_))
    }

    /// Returns the device and the inode.
    pub(crate) const fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// Returns the length of a file that may still grow; none if it is compressed.
    pub(crate) fn length(&self) -> io::Result<Option<u64>> {
        match &self.bytes {
            Bytes::Plain(file) => Ok(Some(file.metadata()?.len())),
            Bytes::Compressed(_) => Ok(None),
        }
    }

    /// Fills the buffer with text from an offset on, as far as there is any. The offset must
    /// not lie before that of an earlier call, except that offset 0 can be read until more
    /// than a fingerprint was read.
    pub(crate) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.bytes {
            Bytes::Plain(file) => {
                let mut filled = 0;
                while filled < buffer.len() {
                    match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                        Ok(0) => break,
                        Ok(count) => filled += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(filled)
            }
            Bytes::Compressed(compressed) => compressed.read_at(offset, buffer),
        }
    }
}

impl Compressed {
    /// The number of bytes that are decompressed at a time.
    const STEP: usize = 64 * 1024;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = offset
            .checked_sub(self.at)
            .ok_or_else(|| io::Error::other("compressed files are read forwards"))?;
        let mut skipped = wanted;
        loop {
            let skip = skipped.min(self.unread.len() as u64);
            self.unread.drain(..skip as usize);
            self.at += skip;
            skipped -= skip;
            if skipped == 0 && self.unread.len() >= buffer.len() {
                break;
            }
            let length = self.unread.len();
            let mut step = (&mut self.decoder).take(Self::STEP as u64);
            if step.read_to_end(&mut self.unread)? == 0 {
                break;
            }
            debug_assert!(self.unread.len() > length);
        }
        let count = self.unread.len().min(buffer.len());
        let count = if skipped == 0 { count } else { 0 };
        buffer[..count].copy_from_slice(&self.unread[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn compressed_files_have_the_offsets_of_their_text() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed.gz"));
        std::fs::write(&plain, &text).unwrap();
        let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::fast());
        encoder.write_all(&text).unwrap();
        encoder.finish().unwrap();
        for (path, is_compressed) in [(plain, false), (packed, true)] {
            let mut source = Source::open(&path, is_compressed).unwrap();
            let id = source.id().unwrap();
            assert!(id.fingerprint.matches(&text));
            let mut buffer = vec![0; 10_000];
            for offset in [0, 5, 5, 9_999, 500_000, 1_199_995, 1_200_000, 2_000_000] {
                let count = source.read_at(offset, &mut buffer).unwrap();
                let rest = text.get(offset as usize..).unwrap_or_default();
                assert_eq!(buffer[..count], rest[..rest.len().min(10_000)], "{offset}");
            }
        }
    }

    #[test]
    fn symbolic_links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("0.log");
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        assert!(Source::open(&link, false).is_err());
    }
}
