//! Queues on disk, in a real Fluent Bit.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use receiver::{Listen, Options, Receiver};
use rig::fluent_bit;
use rig::port::free_port;
use rig::wait::{self, BOUND};

use super::fluent_bit::{Agent, LONG, TIMES, fill, parts};
use super::{receiver, receiver_at};
use crate::Outcome;
use crate::load::{Counts, Load, texts};
use crate::namespace::{Namespace, Weather};

/// An output with a queue, for everything.
fn output(name: &str, address: &str, state: &Path) -> String {
    output_of("*", name, address, state)
}

/// An output with a queue, for some tags.
fn output_of(tags: &str, name: &str, address: &str, state: &Path) -> String {
    format!(
        "[OUTPUT]
    Name syslog_sink
    Match {tags}
    Alias {name}
    addr {address}
    transport tcp
    cluster on
    backoff_min 50ms
    backoff_max 200ms
    queue_path {state}/queues
    queue_name {name}
",
        state = state.display(),
    )
}

/// A metric of the plugin, summed over its labels but the name.
fn metric(agent: &Agent, metric: &str, name: &str) -> Option<f64> {
    let text = fluent_bit::get(agent.http_port, "/api/v2/metrics/prometheus")?;
    let begin = format!("{metric}{{name=\"{name}\"");
    let lines = text.lines().filter(|line| line.starts_with(&begin));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Some(values.sum())
}

/// Waits until everything is there, or nothing more comes.
fn arrived(load: &Load, receiver: &Receiver) -> Counts {
    let complete = || (load.compare(texts(&receiver.received())).lost == 0).then_some(());
    // What is lost is counted below.
    let _ = wait::until(LONG, complete);
    load.compare(texts(&receiver.received())).in_any_order()
}

/// A killed Fluent Bit sends again what was kept, and not whole chunks.
pub(crate) fn kill() -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    let mut agent = Agent::with_outputs(|state| output("sink", &address, state))?;
    let mut running = agent.start(&[]);
    for (number, part) in parts(&load).enumerate() {
        let before = receiver.count();
        agent.write(&load, part);
        if number < TIMES {
            receiver.wait_for(before + 1, BOUND).unwrap();
            running.kill();
            running = agent.start(&[]);
        }
    }
    let counts = arrived(&load, &receiver);
    running.stop();
    Ok(counts.with_replays(TIMES, &load))
}

/// A dead sink and a live one share the chunks of one input. The live one gets
/// nothing twice, the dead one everything once it is back.
pub(crate) fn restart_beside_a_dead_sink() -> Outcome {
    let load = Load::USUAL;
    let live = receiver(Listen::Tcp);
    let port = free_port();
    let (address, dead) = (live.address(), format!("127.0.0.1:{port}"));
    let mut agent = Agent::with_outputs(|state| {
        output("live", &address, state) + &output("dead", &dead, state)
    })?;
    let mut running = agent.start(&[]);
    for (number, part) in parts(&load).enumerate() {
        let end = (part.end * load.lines) as u64;
        agent.write(&load, part);
        live.wait_for(end, BOUND).unwrap();
        if number < TIMES {
            running.stop();
            running = agent.start(&[]);
        }
    }
    let revived = receiver_at(port, Listen::Tcp);
    let mut counts = arrived(&load, &revived);
    running.stop();
    let of_live = load.compare(texts(&live.received()));
    counts.sent += of_live.sent;
    counts.lost += of_live.lost;
    counts.duplicated += of_live.duplicated;
    Ok(counts.with_duplicates(0))
}

/// Whether scenarios shall take as long as they do in the field.
fn is_full() -> bool {
    std::env::var_os("RELIABILITY").is_some_and(|value| value == "full")
}

/// The log files of containers.
fn containers(agent: &Agent, count: usize) -> Vec<File> {
    let name = |number| format!("c{number:03}.log");
    (0..count)
        .map(|number| File::create(agent.dir.path().join(name(number))).unwrap())
        .collect()
}

/// Has each container write the line that is its turn in this round.
fn write_round(files: &mut [File], load: &Load, round: usize) {
    let count = files.len();
    for (number, file) in files.iter_mut().enumerate() {
        let mut line = load.line(round * count + number);
        writeln!(line).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Fluent Bit reloads under load, with an output for each of many containers.
pub(crate) fn reload() -> Outcome {
    let outputs = if is_full() { 300 } else { 50 };
    let load = Load {
        chunks: 20 * (TIMES + 1),
        lines: outputs,
        length: 100,
    };
    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    let agent = Agent::with_outputs(|state| {
        let output = |number| {
            let name = format!("c{number:03}");
            output_of(&format!("*{name}.log"), &name, &address, state)
        };
        (0..outputs).map(output).collect()
    })?;
    let mut files = containers(&agent, outputs);
    let mut running = agent.start(&[]);
    running
        .wait_for_log("connected to", outputs, BOUND)
        .unwrap();
    for round in 0..load.chunks {
        write_round(&mut files, &load, round);
        if round % 20 == 19 && round + 1 < load.chunks {
            running.reload();
            let reloads = round / 20 + 1;
            running
                .wait_for_log("successful reload done", reloads, BOUND)
                .unwrap();
            // A signal during a reload would end Fluent Bit without its outputs'
            // exit.
            running
                .wait_for_log("connected to", outputs * (reloads + 1), BOUND)
                .unwrap();
        }
    }
    let counts = arrived(&load, &receiver);
    assert!(!running.has_ended());
    running.stop();
    Ok(counts.with_duplicates(0))
}

/// Has the containers write a line each second, and waits until those of each
/// second have arrived, which must not become later and later.
fn write_by_the_second(files: &mut [File], load: &Load, receiver: &Receiver) {
    /// How late a message may be: flush interval, round trip, and a busy machine.
    const LATE: Duration = Duration::from_secs(5);
    let mut slowest = Duration::ZERO;
    for round in 0..load.chunks {
        let start = Instant::now();
        write_round(files, load, round);
        let all = ((round + 1) * files.len()) as u64;
        receiver.wait_for(all, BOUND).unwrap();
        let took = start.elapsed();
        assert!(took < LATE, "round {round}: {took:?}");
        slowest = slowest.max(took);
        std::thread::sleep(Duration::from_secs(1).saturating_sub(took));
    }
    eprintln!("  the slowest second arrived after {slowest:?}");
}

/// Many containers and a receiver that is far away: a chunk of each costs no round
/// trip.
pub(crate) fn far_receiver() -> Outcome {
    let count = 100;
    let load = Load {
        chunks: if is_full() { 60 } else { 10 },
        lines: count,
        length: 100,
    };
    let network = Namespace::new()?;
    network.set_weather(Weather {
        delay: Duration::from_millis(50),
        ..Weather::default()
    });
    let receiver = Receiver::start(Options {
        address: network.here().parse().unwrap(),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let address = receiver.address();
    let agent = Agent::with_outputs(|state| output("sink", &address, state))?;
    let mut files = containers(&agent, count);
    let running = agent.start(&network.wrapper());
    running.wait_for_log("connected to", 1, BOUND).unwrap();
    write_by_the_second(&mut files, &load, &receiver);
    running.stop();
    let counts = load.compare(texts(&receiver.received())).in_any_order();
    Ok(counts.with_duplicates(0))
}

/// Many containers with a dead sink and a live one: the live one's messages come
/// as fast after a while as before.
pub(crate) fn dead_neighbour() -> Outcome {
    let (tags, rounds) = if is_full() { (300, 600) } else { (100, 15) };
    let live = receiver(Listen::Tcp);
    let (address, dead) = (live.address(), format!("127.0.0.1:{}", free_port()));
    let agent = Agent::with_outputs(|state| {
        output("live", &address, state) + &output("dead", &dead, state)
    })?;
    let mut files = containers(&agent, tags);
    let running = agent.start(&[]);
    let load = Load {
        chunks: rounds,
        lines: tags,
        length: 100,
    };
    write_by_the_second(&mut files, &load, &live);
    let waiting = metric(&agent, "syslog_sink_queue_messages", "dead");
    assert_eq!(waiting, Some(load.total() as f64));
    let retries = metric(&agent, "fluentbit_output_retries_total", "dead");
    assert_eq!(retries, Some(0.0));
    running.stop();
    let counts = load.compare(texts(&live.received())).in_any_order();
    Ok(counts.with_duplicates(0))
}

/// The disk of the queue is full for a while: chunks wait in Fluent Bit.
pub(crate) fn disk_full() -> Outcome {
    let load = Load::USUAL;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut agent = Agent::with_outputs(|state| output("sink", &address, state))?;
    let queues = agent.dir.path().join("state/queues");
    fs::create_dir(&queues).unwrap();
    let (running, filler) = agent.start_with_small_disk(&queues)?;
    let third = load.chunks / 3;
    agent.write(&load, 0..third);
    agent.wait_for_records(third * load.lines);
    fill(&filler);
    agent.write(&load, third..load.chunks);
    running
        .wait_for_log("No space left on device", 1, BOUND)
        .unwrap();
    let receiver = receiver_at(port, Listen::Tcp);
    fs::remove_file(&filler).unwrap();
    let counts = arrived(&load, &receiver);
    running.stop();
    Ok(counts.with_duplicates(0))
}
