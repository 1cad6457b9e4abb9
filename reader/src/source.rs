//! The bytes of a log file, compressed or not. Positions refer to the uncompressed text.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;
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
    Plain(Arc<File>),
    Compressed(Box<Compressed>),
}

/// A compressed file can be read forwards only.
#[derive(Debug)]
struct Compressed {
    decoder: MultiGzDecoder<FromStart>,
    /// The offset of `unread` in the text.
    at: u64,
    /// Text that was decompressed and not passed yet.
    unread: Vec<u8>,
    /// The reason why there is no more text, in a file that is damaged.
    damage: Option<String>,
}

/// A file from its beginning on, whatever else is read of it.
#[derive(Debug)]
struct FromStart {
    file: Arc<File>,
    at: u64,
}

/// The flags with which a log file is opened: another kind of file, such as a FIFO, must not
/// block the reader, and links are resolved before.
pub(crate) const OPEN: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Returns the error for a file that is not read, whenever it is tried.
pub(crate) fn refusal(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why.into())
}

/// Returns whether an error is one of the file: another attempt would fail too. All others are
/// of the system, such as too many open files.
pub(crate) fn is_of_file(error: &io::Error) -> bool {
    let is_link = Errno::from_io_error(error) == Some(Errno::LOOP);
    error.raw_os_error().is_none() || is_link
}

impl Source {
    /// Opens a file. A symbolic link is refused: a container must not make the reader read
    /// other files.
    pub(crate) fn open(path: &Path, is_compressed: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(OPEN.bits() as i32);
        let file = options.open(path).map_err(|error| {
            if Errno::from_io_error(&error) == Some(Errno::LOOP) {
                refusal("symbolic links are not followed")
            } else {
                error
            }
        })?;
        Self::new(Arc::new(file), is_compressed)
    }

    /// Creates the source of an open file.
    pub(crate) fn new(file: Arc<File>, is_compressed: bool) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(refusal("not a regular file"));
        }
        Ok(Self {
            inode: (metadata.dev(), metadata.ino()),
            bytes: if is_compressed {
                Bytes::Compressed(Box::new(Compressed {
                    decoder: MultiGzDecoder::new(FromStart { file, at: 0 }),
                    at: 0,
                    unread: Vec::new(),
                    damage: None,
                }))
            } else {
                Bytes::Plain(file)
            },
        })
    }

    /// Returns the file's identity at present.
    pub(crate) fn id(&mut self) -> io::Result<FileId> {
        let mut beginning = self.beginning(Fingerprint::COMPLETE)?;
        if Fingerprint::needs_more(&beginning) {
            beginning = self.beginning(Fingerprint::MAX)?;
        }
        Ok(FileId {
            inode: self.inode,
            fingerprint: Fingerprint::new(&beginning),
        })
    }

    /// Returns whether this is the file with an identity. The file may have grown since, or was
    /// compressed.
    pub(crate) fn beginning_matches(&mut self, id: &FileId) -> io::Result<bool> {
        let beginning = self.beginning(id.fingerprint.length().min(Fingerprint::MAX))?;
        // The beginning of an empty file tells nothing.
        let is_known = self.inode == id.inode || !id.fingerprint.is_empty();
        Ok(is_known && id.fingerprint.matches(&beginning))
    }

    /// Returns the beginning of the text, as far as there is any.
    pub(crate) fn beginning(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut beginning = vec![0; length];
        let count = self.read_at(0, &mut beginning)?;
        beginning.truncate(count);
        Ok(beginning)
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
    /// The maximum number of bytes that are decompressed at a time.
    const STEP: usize = 64 * 1024;
    /// The minimum number, unless there are fewer.
    const MIN_STEP: u64 = 4 * 1024;

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
            if self.damage.is_some() {
                break;
            }
            let missing = skipped.saturating_add(buffer.len() as u64);
            let step = missing.clamp(Self::MIN_STEP, Self::STEP as u64);
            let mut step = (&mut self.decoder).take(step);
            match step.read_to_end(&mut self.unread) {
                Ok(0) => break,
                Ok(_) => {}
                // The text before the damage is read.
                Err(error) => self.damage = Some(error.to_string()),
            }
        }
        let count = self.unread.len().min(buffer.len());
        let count = if skipped == 0 { count } else { 0 };
        if let Some(damage) = self.damage.as_ref().filter(|_| count == 0) {
            return Err(io::Error::new(ErrorKind::InvalidData, damage.clone()));
        }
        buffer[..count].copy_from_slice(&self.unread[..count]);
        Ok(count)
    }
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
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

    #[test]
    fn other_than_regular_files_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("0.log");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
        for path in [&*pipe, folder.path(), Path::new("/dev/null")] {
            let error = Source::open(path, false).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file");
            assert!(is_of_file(&error));
        }
    }

    #[test]
    fn a_damaged_file_is_read_as_far_as_possible() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.gz");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(&[b'x'; 1000]).unwrap();
        let packed = encoder.finish().unwrap();
        std::fs::write(&path, &packed[..packed.len() - 300]).unwrap();
        let mut source = Source::open(&path, true).unwrap();
        let mut buffer = [0; 500];
        let count = source.read_at(0, &mut buffer).unwrap();
        let rest = source.read_at(count as u64, &mut buffer).unwrap();
        let length = (count + rest) as u64;
        assert!(length > 600, "{length}");
        for _ in 0..2 {
            assert!(source.read_at(length, &mut buffer).is_err());
        }
        let length_of_text = Source::open(&path, true).unwrap().length_of_text();
        assert_eq!(length_of_text.unwrap(), length);
    }
}
