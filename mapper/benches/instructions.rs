//! The cost of a record on the hot path, in instructions, which are the same in every
//! run. Each part has a limit; exceeding a limit fails `make test`.
//!
//! The limits leave a margin of a tenth for other compiler versions. Lower a limit
//! when its part becomes faster.
#![allow(
    clippy::unwrap_used,
    clippy::must_use_candidate,
    missing_docs,
    reason = "a benchmark, whose macros generate public items"
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

/// Limits the average number of instructions per record.
fn at_most(per_record: u64) -> LibraryBenchmarkConfig {
    let limit = per_record * RECORDS;
    LibraryBenchmarkConfig::default()
        .tool(Callgrind::default().hard_limits([(EventKind::Ir, limit)]))
        .clone()
}

/// The configuration for a tail input, whose tags contain the identity.
struct TailInput;

impl Properties for TailInput {
    fn get(&self, key: &str) -> Option<String> {
        match key {
            "servers" => Some("localhost".to_owned()),
            "transport" => Some("tcp".to_owned()),
            "cluster" => Some("on".to_owned()),
            _ => None,
        }
    }
}

/// The configuration for the forward input, whose records contain the identity.
struct ForwardInput;

impl Properties for ForwardInput {
    fn get(&self, key: &str) -> Option<String> {
        match key {
            "identity" => Some("record".to_owned()),
            key => TailInput.get(key),
        }
    }
}

fn chunk(format: Format) -> (String, Vec<u8>) {
    load::chunk(format, RECORDS as usize, load::USUAL_TEXT)
}

/// A mapper with a chunk, and buffers that have grown to the size that it needs.
struct Warm {
    mapper: Mapper,
    batch: Batch,
    space: Workspace,
    tag: String,
    chunk: Vec<u8>,
}

fn warm(format: Format) -> Warm {
    warmed(&TailInput, chunk(format))
}

/// Prepares a chunk in which consecutive records come from different pods.
fn warm_with_many_pods(pods: usize) -> Warm {
    let chunk = load::forwarded(Format::Current, RECORDS as usize, load::USUAL_TEXT, pods);
    warmed(&ForwardInput, chunk)
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
#[bench::many_pods(args = (50), setup = warm_with_many_pods)]
fn forwarded(mut warm: Warm) -> Warm {
    map(&mut warm);
    warm
}

/// The parts of a message, and the buffers to encode it.
struct Parts {
    second: SecondCache,
    shared_header: Vec<u8>,
    text: Vec<u8>,
    batch: Batch,
}

fn parts() -> Parts {
    let mut batch = Batch::new(Framing::OctetCounting);
    batch.reserve(1_000_000, 2000);
    Parts {
        second: SecondCache::default(),
        shared_header: vec![b'o'; 230],
        text: vec![b'x'; load::USUAL_TEXT],
        batch,
    }
}

#[library_benchmark(config = at_most(550))]
#[bench::usual(setup = parts)]
fn encode(mut parts: Parts) -> Parts {
    let mut out = Vec::with_capacity(1_000_000);
    for number in 0..RECORDS as u32 {
        let prefix = HeaderPrefix {
            pri: Pri::new(Facility::User, Severity::Informational),
            timestamp: Timestamp::from_unix(1_772_366_400, number * 1000).ok(),
        };
        prefix.encode(&mut parts.second, &mut out);
        out.extend_from_slice(&parts.shared_header);
        push_lossy_within(&mut out, &parts.text, 8192, Measure::Escaped);
    }
    black_box(out);
    parts
}

#[library_benchmark(config = at_most(250))]
#[bench::usual(setup = parts)]
fn frame(mut parts: Parts) -> Parts {
    for _ in 0..RECORDS {
        let mut frame = parts.batch.frame();
        frame.bytes().extend_from_slice(&parts.text);
        frame.finish();
    }
    parts
}

library_benchmark_group!(
    name = hot_path,
    benchmarks = [decode, encode, frame, decode_map_encode_frame, forwarded]
);

main!(library_benchmark_groups = hot_path);
