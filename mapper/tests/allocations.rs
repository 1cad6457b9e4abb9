//! Mapping does not allocate per record: the number of allocations does not depend
//! on the number of records in a chunk.
#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "a test with an allocator that counts its calls"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use mapper::config::{Config, Properties};
use mapper::message::{Mapper, Workspace};
use rig::event::{event, map};
use rmpv::Value;
use syslog::{Batch, Framing};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of the current thread's allocations.
struct Counting;

// SAFETY: every call is forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller upholds the contract of `GlobalAlloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Keys<'a>(&'a [(&'a str, &'a str)]);

impl Properties for Keys<'_> {
    fn get(&self, key: &str) -> Option<String> {
        let mut keys = self.0.iter();
        keys.find(|(name, _)| *name == key)
            .map(|(_, value)| (*value).to_owned())
    }
}

const TAG: &str = "kube.var.log.containers.web-0_shop_nginx-\
                   0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.log";

fn chunk(body: &Value, records: usize) -> Vec<u8> {
    event(1_772_366_400, 0, body.clone()).repeat(records)
}

/// Returns the number of allocations while the second of two equal chunks is mapped.
/// The first chunk grows the buffers.
fn allocations(keys: &[(&str, &str)], body: &Value, records: usize) -> usize {
    let keys = [
        &[
            ("servers", "localhost"),
            ("transport", "tcp"),
            ("cluster", "on"),
        ],
        keys,
    ]
    .concat();
    let mapper = Mapper::new(&Config::parse(&Keys(&keys)).unwrap(), "machine".to_owned());
    let chunk = chunk(body, records);
    let mut batch = Batch::new(Framing::OctetCounting);
    let mut space = Workspace::default();
    let mut count = 0;
    for _ in 0..2 {
        batch.clear();
        let before = COUNT.get();
        let tally = mapper.map_chunk(TAG, &chunk, &mut batch, &mut space);
        count = COUNT.get() - before;
        assert!(tally.messages >= records as u64);
    }
    count
}

/// The records of a chunk come from many pods in turn.
#[test]
fn mapping_does_not_allocate_per_pod() {
    let mapper = |identity| {
        let keys = [
            ("servers", "localhost"),
            ("transport", "tcp"),
            ("cluster", "on"),
            ("identity", identity),
        ];
        Mapper::new(&Config::parse(&Keys(&keys)).unwrap(), "machine".to_owned())
    };
    for identity in ["record", "tag"] {
        let mapper = mapper(identity);
        let (tag, chunk) = rig::load::forwarded(rig::event::Format::Current, 2000, 50, 700);
        let mut batch = Batch::new(Framing::OctetCounting);
        let mut space = Workspace::default();
        let mut count = usize::MAX;
        for _ in 0..2 {
            batch.clear();
            let before = COUNT.get();
            let tally = mapper.map_chunk(&tag, &chunk, &mut batch, &mut space);
            count = COUNT.get() - before;
            assert_eq!(tally.messages, 2000);
        }
        assert_eq!(count, 0, "{identity}");
    }
}

#[test]
fn mapping_does_not_allocate_per_record() {
    let labels = map(vec![
        ("app.kubernetes.io/name", "web".into()),
        ("a-key-that-is-longer-than-an-sd-name-may-be", "v".into()),
        ("quoted", "\"]\\".into()),
    ]);
    let line = map(vec![
        ("log", "a line\n".into()),
        ("stream", "stdout".into()),
        ("level", "warn".into()),
        (
            "kubernetes",
            map(vec![("host", "node-1".into()), ("labels", labels)]),
        ),
    ]);
    let hostile = map(vec![
        ("log", Value::Binary(b"not \xff UTF-8".to_vec())),
        ("cluster_name", "a b_c".into()),
    ]);
    let structured = map(vec![
        ("user", "alice".into()),
        ("list", Value::Array(vec![1.into(), "two".into()])),
    ]);
    let long = map(vec![("log", "x".repeat(20_000).into())]);
    let templates = [
        ("severity", "$level"),
        ("procid", "$pid ?? 'none'"),
        ("message", "[$stream] $log"),
        ("structured_data", r#"[id@1 app="$kubernetes['labels']"]"#),
    ];
    for (keys, body) in [
        (&[][..], &line),
        (&[], &hostile),
        (&[], &structured),
        (&[], &long),
        (&templates, &line),
    ] {
        assert_eq!(allocations(keys, body, 1), 0, "{body}");
        assert_eq!(allocations(keys, body, 500), 0, "{body}");
    }
}
