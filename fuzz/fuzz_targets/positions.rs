//! Fuzzes the file of positions: arbitrary bytes must be read without a panic, and a position
//! that is written must be found again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use positions::{Container, Entry, PositionFile};

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("positions");
    std::fs::write(&path, data).expect("a file");
    let (mut file, found) = PositionFile::open(&path).expect("the file can be opened");
    let container = Container {
        uid: "2f6b0c9e-0000-4000-8000-000000000001".to_owned(),
        name: "app".to_owned(),
    };
    let entry = Entry {
        place: 7,
        position: "{}".to_owned(),
    };
    file.set(&container, &entry).expect("the file can be written");
    let again = positions::read(&path).expect("the file can be read");
    let mut entries = again.expect("there is a file").entries;
    assert_eq!(entries.remove(&container), Some(entry));
    for (container, entry) in found.entries {
        assert!(entries.get(&container).is_none_or(|now| *now == entry));
    }
});
