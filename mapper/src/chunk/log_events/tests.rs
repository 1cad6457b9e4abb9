use proptest::prelude::*;

use super::*;

/// Encodes a record `{"log": text}` with the time of one second and `nanos`.
fn record(format: Format, nanos: u32, text: &str) -> Vec<u8> {
    let mut time = vec![0xd7, 0x00, 0, 0, 0, 1];
    time.extend(nanos.to_be_bytes());
    let mut bytes = match format {
        Format::Old => [&[0x92], time.as_slice()].concat(),
        Format::New => [&[0x92, 0x92], time.as_slice(), &[0x80]].concat(),
    };
    bytes.extend(b"\x81\xa3log\xd9");
    bytes.push(u8::try_from(text.len()).unwrap());
    bytes.extend(text.as_bytes());
    bytes
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Old,
    New,
}

/// Returns the texts of a chunk's records, `marker` for a group marker, and `None`
/// for a damaged event.
fn texts(chunk: &[u8]) -> Vec<Option<String>> {
    LogEvents::new(chunk, b"log")
        .map(|event| match event {
            LogEvent::Record(record) => match record.fields.message {
                Some(Value::Text(text)) => Some(String::from_utf8(text.to_vec()).unwrap()),
                _ => Some(String::new()),
            },
            LogEvent::GroupStart(_) | LogEvent::GroupEnd => Some("marker".to_owned()),
            LogEvent::Damaged => None,
        })
        .collect()
}

fn event_with_time(time: &[u8]) -> LogEvent<'_> {
    let chunk = [&[0x92], time, &[0x80]].concat();
    LogEvents::new(chunk.leak(), b"log").next().unwrap()
}

fn empty_record_at(seconds: i64, nanos: u32) -> LogEvent<'static> {
    let mut events = LogEvents::new(&[0x92, 0x00, 0x80], b"log");
    let Some(LogEvent::Record(record)) = events.next() else {
        panic!("not a record");
    };
    LogEvent::Record(Record {
        time: Some(Time { seconds, nanos }),
        ..record
    })
}

#[test]
fn all_formats_of_time_are_read() {
    let at = empty_record_at;
    for (bytes, expected) in [
        (
            b"\xd7\x00\x69\x00\x00\x00\x00\x00\x00\x07".as_slice(),
            at(0x6900_0000, 7),
        ),
        (b"\xc7\x08\x00\x00\x00\x00\x02\x00\x00\x00\x07", at(2, 7)),
        (b"\x07", at(7, 0)),
        (b"\xce\x69\x00\x00\x00", at(0x6900_0000, 0)),
        (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", at(1, 500_000_000)),
        (b"\xca\x3f\xc0\x00\x00", at(1, 500_000_000)),
    ] {
        assert_eq!(event_with_time(bytes), expected);
    }
}

#[test]
fn events_with_negative_times_are_group_markers() {
    let start = LogEvent::GroupStart(GroupMetadata::default());
    for (bytes, expected) in [
        (
            b"\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00".as_slice(),
            start,
        ),
        (b"\xff", start),
        (
            b"\xd7\x00\xff\xff\xff\xfe\x00\x00\x00\x00",
            LogEvent::GroupEnd,
        ),
        (b"\xd1\xff\x00", LogEvent::GroupEnd),
        (b"\xcb\xbf\xf0\x00\x00\x00\x00\x00\x00", LogEvent::GroupEnd),
    ] {
        assert_eq!(event_with_time(bytes), expected);
    }
}

#[test]
fn a_record_with_an_unknown_time_has_no_time() {
    for bytes in [
        b"\xc0".as_slice(),
        b"\xd7\x00\x00\x00\x00\x01\xff\xff\xff\xff",
        b"\xd4\x00\x01",
        b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let event = event_with_time(bytes);
        assert!(
            matches!(event, LogEvent::Record(Record { time: None, .. })),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_chunk_can_contain_both_formats() {
    let chunk = [record(Format::Old, 1, "old"), record(Format::New, 2, "new")].concat();
    assert_eq!(
        texts(&chunk),
        [Some("old".to_owned()), Some("new".to_owned())]
    );
}

#[test]
fn only_damaged_events_are_lost() {
    let good = record(Format::New, 1, "good");
    for bad in [
        b"\xc0".as_slice(),              // not an array
        b"\x91\x01",                     // too short
        b"\x93\x01\x80\x80",             // too long
        b"\x92\x01\x90",                 // a body that is not a map
        b"\x92\xa4time\x80",             // a time that is a text
        b"\xc1",                         // not msgpack
        b"\x92\x92\xd7\x00\x00\x00\xc1", // ends within the time
    ] {
        let chunk = [good.as_slice(), bad, &good, &good].concat();
        let found = texts(&chunk);
        let valid = found
            .iter()
            .flatten()
            .filter(|text| *text == "good")
            .count();
        assert_eq!(valid, 3, "{bad:?}: {found:?}");
        assert!(found.contains(&None), "{bad:?} was not detected");
    }
}

#[test]
fn records_after_a_corrupt_length_are_found() {
    let good = record(Format::New, 1, "good");
    let mut bad = record(Format::New, 1, "bad");
    let length = bad.len() - "bad".len() - 1;
    bad[length] = 255;
    let chunk = [good.as_slice(), &bad, &good, &good].concat();
    assert_eq!(
        texts(&chunk),
        [
            Some("good".to_owned()),
            None,
            Some("good".to_owned()),
            Some("good".to_owned())
        ]
    );
}

#[test]
fn the_search_for_the_next_record_is_bounded() {
    let chunk = [[0xc1].as_slice(), &[0x92, 0xd7, 0x00].repeat(100_000)].concat();
    assert!(texts(&chunk).iter().all(Option::is_none));
}

proptest! {
    #[test]
    fn a_truncated_chunk_loses_only_its_last_record(
        formats in prop::collection::vec(prop_oneof![Just(Format::Old), Just(Format::New)], 1..8),
        cut: prop::sample::Index,
    ) {
        let records: Vec<Vec<u8>> = formats.iter().map(|f| record(*f, 1, "x")).collect();
        let chunk = records.concat();
        let cut = cut.index(chunk.len());
        let mut end = 0;
        let complete = records.iter().take_while(|r| { end += r.len(); end <= cut }).count();
        let at_boundary = records[..complete].concat().len() == cut;

        let found = texts(&chunk[..cut]);
        prop_assert_eq!(found.iter().flatten().count(), complete);
        prop_assert_eq!(found.iter().filter(|text| text.is_none()).count(), usize::from(!at_boundary));
    }

    #[test]
    fn iteration_over_arbitrary_bytes_ends(bytes: Vec<u8>) {
        LogEvents::new(&bytes, b"log").for_each(drop);
    }
}
