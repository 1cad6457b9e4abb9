//! The files of a log that Docker rotates.
//!
//! ```text
//! <id>-json.log.2.gz      rotated before, and compressed
//! <id>-json.log.1         rotated last
//! <id>-json.log           the current file
//! ```
//!
//! A rotation renames all of them, so a number tells the order only at one moment. Files are
//! therefore opened as soon as they are found, and the name by which positions refer to a
//! rotated file is the time of its first line, which stays.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::line::{Line, Time};
use crate::link::Target;
use crate::source::{Source, is_of_file};

/// A file of a log.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) name: OsString,
    /// The order among the rotated files; none for the current file.
    pub(crate) rotated: Option<String>,
    pub(crate) is_compressed: bool,
    /// The open file, or the reason why it cannot be opened.
    pub(crate) file: Result<Arc<File>, String>,
}

impl LogFile {
    /// Returns the inode; zero if the file cannot be opened.
    pub(crate) fn inode(&self) -> u64 {
        let metadata = self
            .file
            .as_ref()
            .ok()
            .and_then(|file| file.metadata().ok());
        metadata.map_or(0, |metadata| metadata.ino())
    }
}

/// The number of attempts to find the files between two rotations.
const ATTEMPTS: usize = 10;

/// Returns the files of a log, in the order in which they were written.
///
/// # Errors
///
/// Returns an error if the folder cannot be read.
pub(crate) fn files(target: &Target) -> io::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for _ in 0..ATTEMPTS {
        let names = names(target)?;
        let is_consistent;
        (files, is_consistent) = open(target, &names)?;
        if is_consistent && self::names(target)? == names {
            break;
        }
    }
    files.reverse();
    set_order(&mut files);
    Ok(files)
}

/// The names of a log's files: whether each is compressed, by its number. The current file has
/// the number 0.
type Names = BTreeMap<u32, bool>;

fn names(target: &Target) -> io::Result<Names> {
    let mut names = Names::new();
    for name in target.names()? {
        if let Some((number, is_compressed)) = parse(&target.name, &name) {
            // While Docker compresses a file, its compressed copy is incomplete.
            let is_only = names.entry(number).or_insert(is_compressed);
            *is_only &= is_compressed;
        }
    }
    Ok(names)
}

/// Returns the number of a log's file, and whether it is compressed.
fn parse(log: &OsStr, name: &OsStr) -> Option<(u32, bool)> {
    let rest = name.to_str()?.strip_prefix(log.to_str()?)?;
    if rest.is_empty() {
        return Some((0, false));
    }
    let rest = rest.strip_prefix('.')?;
    let uncompressed = rest.strip_suffix(".gz");
    let number = uncompressed.unwrap_or(rest);
    let is_number = !number.starts_with(['0', '+']);
    let number = number.parse().ok().filter(|_| is_number)?;
    Some((number, uncompressed.is_some()))
}

/// Opens the files, the newest first. Returns whether all of them were found.
///
/// A rotation only increases the numbers, those of the oldest files first. If one happens
/// meanwhile, a file is therefore found again under its next number, or a number is missing.
fn open(target: &Target, names: &Names) -> io::Result<(Vec<LogFile>, bool)> {
    let mut files = Vec::new();
    let mut inodes = HashSet::new();
    let mut is_consistent = true;
    for (number, is_compressed) in names {
        let mut name = target.name.clone();
        if *number > 0 {
            name.push(format!(".{number}"));
        }
        if *is_compressed {
            name.push(".gz");
        }
        let file = match target.open(&name) {
            Ok(file) => {
                let metadata = file.metadata()?;
                if !inodes.insert((metadata.dev(), metadata.ino())) {
                    is_consistent = false;
                    continue;
                }
                Ok(Arc::new(file))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                is_consistent = false;
                continue;
            }
            Err(error) if !is_of_file(&error) => return Err(error),
            Err(error) => Err(error.to_string()),
        };
        files.push(LogFile {
            name,
            rotated: (*number > 0).then(String::new),
            is_compressed: *is_compressed,
            file,
        });
    }
    Ok((files, is_consistent))
}

/// Sets the order of the rotated files, of which the oldest is first. Empty files are removed.
fn set_order(files: &mut Vec<LogFile>) {
    let (mut last, mut repeated) = (String::new(), 0);
    files.retain_mut(|file| {
        let Some(rotated) = &mut file.rotated else {
            return true;
        };
        let beginning = match &file.file {
            Ok(open) => beginning(open, file.is_compressed),
            Err(_) => Beginning::Unknown,
        };
        let time = match beginning {
            Beginning::Empty => return false,
            Beginning::Unknown => String::new(),
            Beginning::Time(time) => format!("{:012}.{:09}", time.seconds.max(0), time.nanos),
        };
        // The time may have been set back, and the parts of a long line have the same.
        if time > last {
            (last, repeated) = (time, 0);
            rotated.clone_from(&last);
        } else {
            repeated += 1;
            *rotated = format!("{last}+{repeated:06}");
        }
        true
    });
}

/// The beginning of a file.
enum Beginning {
    Empty,
    /// The time of the first line.
    Time(Time),
    Unknown,
}

fn beginning(file: &Arc<File>, is_compressed: bool) -> Beginning {
    // Docker escapes parts of 16 KiB.
    for length in [4 * 1024, 128 * 1024] {
        let source = Source::new(Arc::clone(file), is_compressed);
        let Ok(text) = source.and_then(|mut source| source.beginning(length)) else {
            break;
        };
        if text.is_empty() {
            return Beginning::Empty;
        }
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let mut lines = lines.filter_map(|line| Line::parse(line.strip_suffix(b"\n")?));
        if let Some(line) = lines.next() {
            return Beginning::Time(line.time);
        }
        if text.len() < length {
            break;
        }
    }
    Beginning::Unknown
}
