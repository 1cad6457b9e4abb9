//! What a record costs on the hot path, in instructions, which do not depend
//! on the machine's mood. Each part has a ceiling: one that is exceeded fails
//! `make test`.
//!
//! The ceilings leave a tenth for other versions of the compiler. Who makes a
//! part faster lowers its ceiling.
#![allow(
    clippy::unwrap_used,
    clippy::must_use_candidate,
    missing_docs,
    reason = "a benchmark, whose macros make public items"
)]

use std::hint::black_box;

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use mapper::chunk::LogEvents;
use mapper::config::{Config, Properties};
use mapper::message::{Mapper, Workspace};
use rig::event::Format;
use rig::load;
use syslog::text::{Measure, push_lossy_within};
use syslog::{Batch, Facility, Framing, HeaderPrefix, Pri, SecondCache, Severity, Timestamp};

const RECORDS: u64 = 1000;

/// Instructions that a record may take, besides what a chunk takes.
fn at_most(of_record: u64) -> LibraryBenchmarkConfig {
    let limit = of_record * RECORDS;
    LibraryBenchmarkConfig::default()
        .tool(Callgrind::default().hard_limits([(EventKind::Ir, limit)]))
        .clone()
}

struct Defaults;

impl Properties for Defaults {
    fn get(&self, key: &str) -> Option<String> {
        match key {
            "addr" => Some("localhost".to_owned()),
            "transport" => Some("tcp".to_owned()),
            "cluster" => Some("on".to_owned()),
            _ => None,
        }
    }
}

/// The forward input's.
struct OfRecord;

impl Properties for OfRecord {
    fn get(&self, key: &str) -> Option<String> {
        match key {
            "identity" => Some("record".to_owned()),
            key => Defaults.get(key),
        }
    }
}

fn chunk(format: Format) -> (String, Vec<u8>) {
    load::chunk(format, RECORDS as usize, load::USUAL_TEXT)
}

/// A mapper with a batch and memory that have seen such a chunk before.
struct Warm {
    mapper: Mapper,
    batch: Batch,
    space: Workspace,
    tag: String,
    chunk: Vec<u8>,
}

fn warm(format: Format) -> Warm {
    warmed(&Defaults, chunk(format))
}

/// Each record is of another pod than the one before.
fn warm_of_many_pods(pods: usize) -> Warm {
    let chunk = load::forwarded(Format::Current, RECORDS as usize, load::USUAL_TEXT, pods);
    warmed(&OfRecord, chunk)
}

fn warmed(properties: &dyn Properties, (tag, chunk): (String, Vec<u8>)) -> Warm {
    let mut warm = Warm {
        mapper: Mapper::new(&Config::parse(properties).unwrap(), "node".to_owned()),
        batch: Batch::new(Framing::OctetCounting),
        space: Workspace::default(),
        tag,
        chunk,
    };
    map(&mut warm);
    warm.batch.clear();
    warm
}

fn map(warm: &mut Warm) {
    let Warm {
        mapper,
        batch,
        space,
        tag,
        chunk,
    } = warm;
    black_box(mapper.map_chunk(tag, chunk, batch, space));
}

#[library_benchmark(config = at_most(860))]
#[bench::current(args = (Format::Current), setup = chunk)]
#[bench::old(args = (Format::Old), setup = chunk)]
fn decode((tag, chunk): (String, Vec<u8>)) -> (String, Vec<u8>) {
    LogEvents::new(black_box(&chunk), b"log").for_each(|event| {
        black_box(event);
    });
    (tag, chunk)
}

#[library_benchmark(config = at_most(1970))]
#[bench::current(args = (Format::Current), setup = warm)]
#[bench::old(args = (Format::Old), setup = warm)]
fn decode_map_encode_frame(mut warm: Warm) -> Warm {
    map(&mut warm);
    warm
}

#[library_benchmark(config = at_most(3780))]
#[bench::many_pods(args = (50), setup = warm_of_many_pods)]
fn forwarded(mut warm: Warm) -> Warm {
    map(&mut warm);
    warm
}

/// A stamp, what is the same in all messages, and a text.
struct Blank {
    clock: SecondCache,
    shared_header: Vec<u8>,
    text: Vec<u8>,
    batch: Batch,
}

fn blank() -> Blank {
    let mut batch = Batch::new(Framing::OctetCounting);
    batch.reserve(1_000_000, 2000);
    Blank {
        clock: SecondCache::default(),
        shared_header: vec![b'o'; 230],
        text: vec![b'x'; load::USUAL_TEXT],
        batch,
    }
}

#[library_benchmark(config = at_most(550))]
#[bench::usual(setup = blank)]
fn encode(mut blank: Blank) -> Blank {
    let mut out = Vec::with_capacity(1_000_000);
    for number in 0..RECORDS as u32 {
        let stamp = HeaderPrefix {
            pri: Pri::new(Facility::User, Severity::Informational),
            timestamp: Timestamp::from_unix(1_772_366_400, number * 1000).ok(),
        };
        stamp.encode(&mut blank.clock, &mut out);
        out.extend_from_slice(&blank.shared_header);
        push_lossy_within(&mut out, &blank.text, 8192, Measure::Escaped);
    }
    black_box(out);
    blank
}

#[library_benchmark(config = at_most(250))]
#[bench::usual(setup = blank)]
fn frame(mut blank: Blank) -> Blank {
    for _ in 0..RECORDS {
        let mut frame = blank.batch.frame();
        frame.bytes().extend_from_slice(&blank.text);
        frame.finish();
    }
    blank
}

library_benchmark_group!(
    name = hot_path,
    benchmarks = [decode, encode, frame, decode_map_encode_frame, forwarded]
);

main!(library_benchmark_groups = hot_path);
