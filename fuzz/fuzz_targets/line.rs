//! Fuzzes the lines of log files: arbitrary bytes in a container's log must arrive, each line
//! once, as a text or as an invalid line.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use reader::line::Line;
use reader::{Container, Item, Start, Turn};

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(line) = Line::parse(line) {
            assert!(line.time.nanos < 1_000_000_000);
            assert!(line.text.len() <= data.len());
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("0.log"), data).expect("a file");
    let mut container = Container::new(folder.path(), Start::Beginning, 100);
    let (mut buffer, mut now, mut bytes) = ([0; 200], Instant::now(), 0);
    loop {
        let turn = container.turn(&mut buffer, now, None, |item| {
            bytes += match item {
                Item::Text(text) => text.text.len(),
                Item::Invalid(line) => line.len(),
            };
        });
        match turn.expect("the file can be read") {
            Turn::Wait { until: Some(until) } => now = until,
            Turn::Wait { until: None } => break,
            Turn::Ended => panic!("the folder exists"),
            Turn::Read(_) | Turn::Missing(_) => {}
        }
    }
    assert!(bytes <= data.len());
});
