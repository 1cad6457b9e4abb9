//! The delivery of a queue that was filled while the receiver was down: its speed and
//! memory.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use faults::namespace::{Namespace, Weather};
use receiver::{Options, Receiver};
use rig::fluent_bit;
use syslog::{Batch, Framing};

use super::{Agent, Logs, Settings, ours};
use crate::link::{self, Link, Links};
use crate::reference::Reference;
use crate::report::{Report, Target};

/// The bytes of a backlog, unless `BACKLOG_GB` sets a larger one.
const GIGABYTE: u64 = 1_000_000_000;
const LONG: Duration = Duration::from_secs(600);
/// The number of messages in a batch, and the length of their texts.
const FRAMES: usize = 3000;
const FILL: usize = 457;

pub(crate) fn measure(links: &Links, report: &mut Report) {
    let gigabytes = std::env::var("BACKLOG_GB")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let what = format!("Backlog of {gigabytes} GB");
    if fluent_bit::find().is_none() {
        return report.skip(&what, "Fluent Bit is not installed");
    }
    let mut batch = batch();
    for trip in [0, 100] {
        let network = match Namespace::new() {
            Ok(network) => network,
            Err(skipped) => return report.skip(&what, &skipped.0),
        };
        network.set_weather(Weather {
            delay: Duration::from_millis(trip / 2),
            ..Weather::default()
        });
        let rounds = gigabytes * GIGABYTE / batch.bytes().len() as u64;
        let bytes = rounds * batch.bytes().len() as u64;
        let Drain { time, memory } = drain(links, &network, &mut batch, rounds);
        let bare = bare(links, &network, &batch, rounds);
        let speed = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
        report.detailed(
            &format!("{what}, TCP, round trip of {trip} ms: speed relative to a bare loop"),
            bare.div_duration_f64(time),
            "",
            Target::AtLeast(0.9),
            &format!(
                " ({:.0} MB/s, bare loop {:.0} MB/s)",
                speed(time),
                speed(bare)
            ),
        );
        report.figure(
            &format!("{what}, TCP, round trip of {trip} ms: memory above idle"),
            memory,
            " MiB",
            Target::AtMost(32.0),
        );
    }
}

struct Drain {
    time: Duration,
    /// The memory in MiB.
    memory: f64,
}

fn drain(links: &Links, network: &Namespace, batch: &mut Batch, rounds: u64) -> Drain {
    let logs = Logs::new(1);
    let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = |receiver: &Receiver, queues| {
        let address = format!("{}:{}", network.here(), receiver.port());
        Agent::start(Settings {
            wrapper: &network.wrapper(),
            logs: &logs.path(),
            storage: "filesystem",
            outputs: &ours(&address, queues),
        })
    };
    let idle = {
        let receiver = receiver(links, network);
        let agent = start(&receiver, empty.path());
        thread::sleep(Duration::from_secs(3));
        agent.status("VmRSS")
    };
    let options = queue::Options {
        framing: Framing::OctetCounting,
        limit: u64::MAX,
        sync: false,
    };
    let (writer, reader) = queue::open(&full.path().join("sink/0"), options).unwrap();
    for _ in 0..rounds {
        // The queue is not read yet, so the frames stay in it.
        writer.append(batch, SystemTime::now()).unwrap();
    }
    drop((writer, reader));
    let receiver = receiver(links, network);
    let agent = start(&receiver, full.path());
    let begin = Instant::now();
    let count = rounds * FRAMES as u64;
    let (mut first, mut peak) = (None, 0);
    while receiver.count() < count {
        assert!(
            begin.elapsed() < LONG,
            "{} frames arrived",
            receiver.count()
        );
        if receiver.count() > 0 {
            first.get_or_insert_with(Instant::now);
        }
        peak = agent.status("VmRSS").max(peak);
        thread::sleep(Duration::from_millis(10));
    }
    Drain {
        time: first.unwrap_or(begin).elapsed(),
        memory: peak.saturating_sub(idle) as f64 / 1024.0,
    }
}

/// Returns the time that a bare loop takes for the same number of bytes.
fn bare(links: &Links, network: &Namespace, batch: &Batch, rounds: u64) -> Duration {
    let receiver = receiver(links, network);
    let address = format!("{}:{}", network.here(), receiver.port());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), batch.bytes()).unwrap();
    let wrapper = network.wrapper();
    let begin = Instant::now();
    let status = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap())
        .args([Reference::MODE, &address, "262144", "16384", "0"])
        .arg(rounds.to_string())
        .arg(file.path())
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    while receiver.count() < rounds * FRAMES as u64 {
        assert!(
            begin.elapsed() < LONG,
            "{} frames arrived",
            receiver.count()
        );
        thread::sleep(Duration::from_millis(10));
    }
    begin.elapsed()
}

fn receiver(links: &Links, network: &Namespace) -> Receiver {
    link::start(Options {
        keep: false,
        address: network.here().parse().unwrap(),
        ..Options::new(links.listen(Link::Tcp))
    })
}

fn batch() -> Batch {
    let mut batch = Batch::new(Framing::OctetCounting);
    for _ in 0..FRAMES {
        let mut frame = batch.frame();
        let message = format!("<14>1 - node-1 web - - - {:x>FILL$}", "");
        frame.bytes().extend_from_slice(message.as_bytes());
        frame.finish();
    }
    batch
}
