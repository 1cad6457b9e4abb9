//! Log files as the kubelet and container runtimes write them.
#![allow(dead_code, reason = "each test uses only a part")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// Creates a file, to which lines are appended.
pub(crate) fn create(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.create_new(true).append(true).open(path).unwrap()
}

/// Returns the text of a file, compressed or not.
pub(crate) fn read(path: &Path) -> String {
    let mut text = String::new();
    let mut file = File::open(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        file.read_to_string(&mut text).unwrap();
    }
    text
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Adds the compressed copy of a file like the kubelet: a temporary file, which is renamed.
pub(crate) fn add_compressed(path: &Path) {
    let name = path.to_str().unwrap();
    let temporary = format!("{name}.tmp");
    fs::write(&temporary, gzip(&fs::read(path).unwrap())).unwrap();
    fs::rename(temporary, format!("{name}.gz")).unwrap();
}

/// Replaces a file by its compressed copy.
pub(crate) fn compress(path: &Path) {
    add_compressed(path);
    fs::remove_file(path).unwrap();
}
