//! The processor time of a message in the plugin, compared with a bare loop that writes
//! the same bytes.

use std::time::Duration;

use host::Host;
use receiver::Options;
use rig::event::Format;
use rig::load;

use crate::link::{self, Link, Links};
use crate::reference::Reference;
use crate::report::{Report, Target};

/// The number of records in a chunk of two megabytes, the largest that Fluent Bit
/// passes to an output.
const RECORDS: usize = 3000;
/// The number of times that a run sends the chunk.
const ROUNDS: u32 = 40;
/// The number of runs of each variant, in turns.
const RUNS: usize = 21;
/// The number of pods whose records alternate.
const PODS: usize = 50;

/// The rate at which a run sends the chunk.
#[derive(Clone, Copy)]
struct Pace {
    runs: usize,
    rounds: u32,
    /// The pause between two flushes.
    pause: Duration,
}

const HURRY: Pace = Pace {
    runs: RUNS,
    rounds: ROUNDS,
    pause: Duration::ZERO,
};
/// A rate that the receiver keeps up with, for long enough that segments and buffers
/// are reused.
const STEADY: Pace = Pace {
    runs: 7,
    rounds: 150,
    pause: Duration::from_millis(20),
};
/// The time for a queue to be delivered after the last flush.
const DRAIN: Duration = Duration::from_millis(500);

pub(crate) fn measure(links: &Links, report: &mut Report) {
    for (link, target) in [(Link::Tls, 2.5), (Link::Tcp, 3.0)] {
        for (format, name) in [(Format::Current, "current"), (Format::Old, "old")] {
            let Costs {
                plugin,
                workers,
                bare,
            } = compare(links, link, format);
            report.detailed(
                &format!("CPU time per message, {link}, {name} event format: ratio to a bare loop"),
                plugin / bare,
                "",
                Target::AtMost(target),
                &format!(
                    " ({plugin:.2} us, of which {workers:.2} us in the workers; \
                     bare loop {bare:.2} us)"
                ),
            );
        }
    }
}

/// Measures records that each belong to a different pod than the previous one.
pub(crate) fn of_many_pods(links: &Links, report: &mut Report) {
    let one = load::chunk(Format::Current, RECORDS, load::USUAL_TEXT);
    let many = load::forwarded(Format::Current, RECORDS, load::USUAL_TEXT, PODS);
    let identity = ("identity", "record".to_owned());
    let [one, many] = least(links, HURRY, &[(&one, &[]), (&many, &[identity])]);
    report.detailed(
        "CPU time per message, TLS 1.3, consecutive records of different pods, `identity record`",
        many,
        " us",
        Target::AtMost(0.7),
        &format!(" (records of one pod: {one:.2} us)"),
    );
}

/// Measures an output with a queue on disk.
pub(crate) fn with_queue(links: &Links, report: &mut Report) {
    let chunk = load::chunk(Format::Current, RECORDS, load::USUAL_TEXT);
    let folder = tempfile::tempdir().unwrap();
    let queue = |name: &str, sync: &str| {
        [
            ("queue_path", folder.path().display().to_string()),
            ("queue_name", name.to_owned()),
            ("queue_sync", sync.to_owned()),
        ]
    };
    let (queue, synced) = (queue("queue", "off"), queue("synced", "on"));
    let variants: [Variant<'_>; 3] = [(&chunk, &[]), (&chunk, &queue), (&chunk, &synced)];
    let [direct, queued, synced] = least(links, STEADY, &variants);
    report.detailed(
        "Additional CPU time per message with a queue on disk, TLS 1.3, 150,000 per second",
        queued - direct,
        " us",
        Target::AtMost(0.2),
        &format!(" ({direct:.2} us to {queued:.2} us; with `queue_sync on` {synced:.2} us)"),
    );
    let [direct, queued] = least(links, HURRY, &[(&chunk, &[]), (&chunk, &queue)]);
    report.fact(
        "Additional CPU time per message with a queue on disk, TLS 1.3, first 120,000 at once",
        &format!(
            "{:.2} us ({direct:.2} us to {queued:.2} us)",
            queued - direct
        ),
    );
}

/// A chunk, and the options of the output that sends it.
type Variant<'v> = (&'v (String, Vec<u8>), &'v [(&'static str, String)]);

/// Returns the microseconds per message, delivered over TLS.
fn least<const N: usize>(links: &Links, pace: Pace, variants: &[Variant<'_>; N]) -> [f64; N] {
    let Pace {
        runs,
        rounds,
        pause,
    } = pace;
    let mut costs = [Duration::MAX; N];
    for _ in 0..runs {
        for (cost, (chunk, more)) in costs.iter_mut().zip(variants) {
            let receiver = links.receiver(Link::Tls);
            let mut options = links.options(Link::Tls, &receiver.address());
            options.extend_from_slice(more);
            let host = Host::new().rounds(rounds).pause(pause).idle(DRAIN);
            let run = link::deliver(host, &options, std::slice::from_ref(*chunk));
            assert_eq!(receiver.count(), RECORDS as u64 * u64::from(rounds));
            *cost = run.cpu.saturating_add(run.idle_cpu).min(*cost);
        }
    }
    costs.map(|time| of_message(time, rounds))
}

fn of_message(time: Duration, rounds: u32) -> f64 {
    time.as_secs_f64() * 1e6 / (RECORDS as f64 * f64::from(rounds))
}

/// The costs of a message in microseconds.
struct Costs {
    plugin: f64,
    /// The share of the workers.
    workers: f64,
    bare: f64,
}

fn compare(links: &Links, link: Link, format: Format) -> Costs {
    let chunk = [load::chunk(format, RECORDS, load::USUAL_TEXT)];
    let reference = Reference::new(&bytes_of(links, link, &chunk), links.ca(link).as_deref());
    let (mut plugin, mut workers, mut bare) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let receiver = links.receiver(link);
        let run = links.deliver(Host::new().rounds(ROUNDS), link, &receiver, &chunk);
        plugin = plugin.min(run.cpu);
        workers = workers.min(run.workers_cpu);
        bare = bare.min(reference.run(&receiver.address(), ROUNDS));
    }
    Costs {
        plugin: of_message(plugin, ROUNDS),
        workers: of_message(workers, ROUNDS),
        bare: of_message(bare, ROUNDS),
    }
}

/// Returns the bytes that the plugin sends for a chunk.
fn bytes_of(links: &Links, link: Link, chunk: &[(String, Vec<u8>)]) -> Vec<u8> {
    let receiver = link::start(Options::new(links.listen(link)));
    links.deliver(Host::new().rounds(1), link, &receiver, chunk);
    receiver.wait_for_the_end();
    let frames = receiver.received();
    assert_eq!(frames.len(), RECORDS);
    frames
        .into_iter()
        .flat_map(|frame| [format!("{} ", frame.raw.len()).into_bytes(), frame.raw].concat())
        .collect()
}
