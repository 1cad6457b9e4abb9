//! Queues on disk in a real Fluent Bit.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use receiver::{Listen, Options, Receiver};
use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::wait::{self, BOUND};

use super::fluent_bit::{Agent, LONG, TIMES, fill, parts, with_kills};
use super::{neighbours, receiver, receiver_at};
use crate::load::{Counts, Load, texts};
use crate::mount::{self, Disk, Frozen};
use crate::namespace::{Namespace, Weather};
use crate::{Outcome, Skipped};

/// Returns an output with a queue, for all tags.
fn output(name: &str, address: &str, state: &Path) -> String {
    output_of("*", name, address, state)
}

/// Returns an output with a queue, for some tags.
fn output_of(tags: &str, name: &str, address: &str, state: &Path) -> String {
    format!(
        "[OUTPUT]
    Name syslog_sink
    Match {tags}
    Alias {name}
    servers {address}
    transport tcp
    cluster on
    backoff_min 50ms
    backoff_max 200ms
    queue_path {state}/queues
    queue_name {name}
    Retry_Limit no_limits
",
        state = state.display(),
    )
}

/// Returns the sum of a metric of the plugin over all labels except the name.
pub(super) fn metric(http_port: u16, metric: &str, name: &str) -> Option<f64> {
    let text = fluent_bit::get(http_port, "/api/v2/metrics/prometheus")?;
    let begin = format!("{metric}{{name=\"{name}\"");
    let lines = text.lines().filter(|line| line.starts_with(&begin));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Some(values.sum())
}

/// Waits until all messages have arrived, or no more arrive.
fn wait_for_all(load: &Load, receiver: &Receiver) {
    let complete = || (load.compare(texts(&receiver.received())).lost == 0).then_some(());
    // The scenario counts the lost messages.
    let _ = wait::until(LONG, complete);
}

/// Waits for all messages, and returns the counts.
fn arrived(load: &Load, receiver: &Receiver) -> Counts {
    wait_for_all(load, receiver);
    load.compare(texts(&receiver.received())).in_any_order()
}

/// Waits until this many messages wait in a queue.
fn wait_for_waiting(agent: &Agent, name: &str, count: usize) {
    let waiting = || {
        let messages = metric(agent.http_port, "syslog_sink_queue_messages", name);
        (messages == Some(count as f64)).then_some(())
    };
    wait::until(BOUND, waiting).unwrap();
}

/// After a kill, Fluent Bit resends the replay buffer and the chunks that it had not
/// deleted.
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
    Ok(with_kills(counts, &load))
}

/// A dead sink and a live one share the chunks of one input. The live one gets no
/// duplicates, the dead one gets everything once it is back.
pub(crate) fn restart_beside_a_dead_sink() -> Outcome {
    let end = |running: FluentBit| {
        running.stop();
    };
    let counts = beside_a_dead_sink(end)?;
    Ok(counts.with_duplicates(0))
}

/// A dead sink and a live one, with kills. Both get the replay buffer again, and the
/// chunks that Fluent Bit had not deleted.
pub(crate) fn kill_beside_a_dead_sink() -> Outcome {
    let counts = beside_a_dead_sink(|mut running| running.kill())?;
    let of_one = with_kills(counts, &Load::USUAL).may_be_duplicated;
    Ok(counts.in_any_order().with_duplicates(2 * of_one))
}

fn beside_a_dead_sink(end: impl Fn(FluentBit)) -> Result<Counts, Skipped> {
    let load = Load::USUAL;
    let live = receiver(Listen::Tcp);
    let port = free_port();
    let (address, dead) = (live.address(), format!("127.0.0.1:{port}"));
    let mut agent = Agent::with_outputs(|state| {
        output("live", &address, state) + &output("dead", &dead, state)
    })?;
    let mut running = agent.start(&[]);
    for (number, part) in parts(&load).enumerate() {
        let sent = Load {
            chunks: part.end,
            ..load
        };
        agent.write(&load, part);
        let complete = || (sent.compare(texts(&live.received())).lost == 0).then_some(());
        wait::until(BOUND, complete).unwrap();
        if number < TIMES {
            end(running);
            running = agent.start(&[]);
        }
    }
    let revived = receiver_at(port, Listen::Tcp);
    wait_for_all(&load, &revived);
    running.stop();
    let arrived = [live, revived].map(|receiver| load.compare(texts(&receiver.received())));
    Ok(neighbours::sum(arrived))
}

/// Returns whether scenarios run as long as they do in production.
fn is_full() -> bool {
    std::env::var_os("RELIABILITY").is_some_and(|value| value == "full")
}

/// Creates the log files of containers.
fn containers(agent: &Agent, count: usize) -> Vec<File> {
    let name = |number| format!("c{number:03}.log");
    (0..count)
        .map(|number| File::create(agent.dir.path().join(name(number))).unwrap())
        .collect()
}

/// Writes one line to each container's log: the line of this round.
fn write_round(files: &mut [File], load: &Load, round: usize) {
    let count = files.len();
    for (number, file) in files.iter_mut().enumerate() {
        let mut line = load.line(round * count + number);
        writeln!(line).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Fluent Bit reloads under load, with one output for each of many containers.
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
            // A signal during a reload would stop Fluent Bit without calling the exit
            // of its outputs.
            running
                .wait_for_log("connected to", outputs * (reloads + 1), BOUND)
                .unwrap();
        }
    }
    wait_for_all(&load, &receiver);
    assert!(!running.has_ended());
    running.stop();
    let counts = load.compare_by(outputs, texts(&receiver.received()));
    Ok(counts.with_duplicates(0))
}

/// Writes a line to each container's log every second, and waits until the lines of
/// each second have arrived. The delay must not grow.
fn write_by_the_second(files: &mut [File], load: &Load, receiver: &Receiver) {
    /// The maximum delay of a message: flush interval, round trip, and a busy machine.
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
        thread::sleep(Duration::from_secs(1).saturating_sub(took));
    }
    eprintln!("  the slowest second arrived after {slowest:?}");
}

/// Many containers and a distant receiver: the chunks do not cost one round trip each.
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
    let counts = load.compare_by(count, texts(&receiver.received()));
    Ok(counts.with_duplicates(0))
}

/// Many containers with a dead sink and a live one: the delay of the live one does not
/// grow.
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
    wait_for_waiting(&agent, "dead", load.total());
    let retries = metric(agent.http_port, "fluentbit_output_retries_total", "dead");
    assert_eq!(retries, Some(0.0));
    running.stop();
    let counts = load.compare_by(tags, texts(&live.received()));
    Ok(counts.with_duplicates(0))
}

/// The queue's disk is full for some time: chunks wait in Fluent Bit and are retried.
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
    // By default Fluent Bit drops a chunk after the second attempt.
    running
        .wait_for_log("failed to flush chunk", 6, BOUND)
        .unwrap();
    let receiver = receiver_at(port, Listen::Tcp);
    fs::remove_file(&filler).unwrap();
    let counts = arrived(&load, &receiver);
    running.stop();
    Ok(counts.with_duplicates(0))
}

/// Runs Fluent Bit until this many chunks wait in the queue.
fn leave_waiting(agent: &mut Agent, load: &Load, chunks: usize) {
    let running = agent.start(&[]);
    agent.write(load, 0..chunks);
    wait_for_waiting(agent, "sink", chunks * load.lines);
    running.stop();
}

/// A sink is deleted while messages wait, and a new owner's sink gets its name and
/// tags: it receives none of the messages, which are deleted.
pub(crate) fn reused_name() -> Outcome {
    let load = Load::USUAL;
    let half = load.chunks / 2;
    let dead = format!("127.0.0.1:{}", free_port());
    let sink = |queue: &str, address: &str, state: &Path| {
        let queue = format!("queue_name {queue}\n    queue_orphan_age 2s");
        output("sink", address, state).replace("queue_name sink", &queue)
    };
    let mut agent = Agent::with_outputs(|state| sink("uid-1", &dead, state))?;
    leave_waiting(&mut agent, &load, half);

    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    agent.configure(|state| sink("uid-2", &address, state));
    let running = agent.start(&[]);
    agent.write(&load, half..load.chunks);
    let deleted = "queues/uid-1 (";
    running.wait_for_log(deleted, 1, BOUND).unwrap();
    assert!(!agent.dir.path().join("state/queues/uid-1").exists());
    let of_new = (load.chunks - half) * load.lines;
    receiver.wait_for(of_new as u64, BOUND).unwrap();
    running.stop();
    let counts = load.compare(texts(&receiver.received()));
    Ok(without(counts, half * load.lines).with_duplicates(0))
}

/// A sink's address changes while messages wait: the new receiver gets them.
pub(crate) fn changed_address() -> Outcome {
    let load = Load::USUAL;
    let half = load.chunks / 2;
    let dead = format!("127.0.0.1:{}", free_port());
    let mut agent = Agent::with_outputs(|state| output("sink", &dead, state))?;
    leave_waiting(&mut agent, &load, half);

    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    agent.configure(|state| output("sink", &address, state));
    let running = agent.start(&[]);
    agent.write(&load, half..load.chunks);
    wait_for_all(&load, &receiver);
    running.stop();
    let counts = load.compare(texts(&receiver.received()));
    Ok(counts.with_duplicates(0))
}

/// Returns an output without a queue.
fn without_queue(address: &str) -> String {
    format!(
        "[OUTPUT]\n    Name syslog_sink\n    Match *\n    Alias other\n    servers {address}\n    \
         transport tcp\n    cluster on\n    Retry_Limit no_limits\n"
    )
}

/// The queue's folder is read-only at the start: chunks wait in Fluent Bit, and another
/// output still delivers.
pub(crate) fn read_only_start() -> Outcome {
    let load = Load::USUAL;
    let (receiver, other) = (receiver(Listen::Tcp), receiver(Listen::Tcp));
    let address = receiver.address();
    let beside = without_queue(&other.address());
    let mut agent = Agent::with_outputs(|state| output("sink", &address, state) + &beside)?;
    let queues = agent.dir.path().join("state/queues");
    fs::create_dir(&queues).unwrap();
    let read_only = mount::wrapper(&format!("mount -t tmpfs -o ro tmpfs {}", queues.display()))?;
    agent.write(&load, 0..load.chunks);
    let running = agent.start(&read_only);
    let problem = format!(
        "[error] [output:syslog_sink:sink] cannot create {}/sink/0: Read-only file system",
        queues.display()
    );
    running.wait_for_log(&problem, 1, BOUND).unwrap();
    wait_for_all(&load, &other);
    assert_eq!(receiver.count(), 0);
    mount::run_inside(
        running.id(),
        &format!("mount -o remount,rw {}", queues.display()),
    );
    let counts = arrived(&load, &receiver);
    running.stop();
    Ok(counts.with_duplicates(0))
}

/// The queue's disk fails and is read-only from then on: chunks wait in Fluent Bit, and
/// another output still delivers.
pub(crate) fn read_only() -> Outcome {
    let load = Load::USUAL;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let other = receiver(Listen::Tcp);
    let beside = without_queue(&other.address());
    let mut agent = Agent::with_outputs(|state| output("sink", &address, state) + &beside)?;
    let queues = agent.dir.path().join("state/queues");
    fs::create_dir(&queues).unwrap();
    let disk = Disk::new()?;
    let wrapper = disk.wrapper(&queues)?;
    let mut running = agent.start(&wrapper);
    let half = load.chunks / 2;
    agent.write(&load, 0..half);
    wait_for_waiting(&agent, "sink", half * load.lines);
    let queues = queues.display();
    // Data that is not yet on the disk would be lost, as in a power failure.
    let error = format!("sync -f {queues} && mount -o remount,abort {queues}");
    mount::run_inside(running.id(), &error);
    agent.write(&load, half..load.chunks);
    wait_for_all(&load, &other);
    let problem = format!("cannot write {queues}/sink/0/");
    running.wait_for_log(&problem, 1, BOUND).unwrap();
    running
        .wait_for_log("; chunks wait in Fluent Bit", 1, BOUND)
        .unwrap();
    running.kill();
    let receiver = receiver_at(port, Listen::Tcp);
    let running = agent.start(&wrapper);
    let counts = arrived(&load, &receiver);
    running.stop();
    Ok(counts.with_duplicates(0))
}

/// The queue's folder is removed with the messages that wait in it. Later chunks wait
/// in Fluent Bit until the next start.
pub(crate) fn removed() -> Outcome {
    let load = Load::USUAL;
    let half = load.chunks / 2;
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut agent = Agent::with_outputs(|state| output("sink", &address, state))?;
    let mut running = agent.start(&[]);
    agent.write(&load, 0..half);
    wait_for_waiting(&agent, "sink", half * load.lines);
    let queues = agent.dir.path().join("state/queues");
    fs::remove_dir_all(&queues).unwrap();
    agent.write(&load, half..load.chunks);
    let problem = format!("cannot find {}/sink/0/queue.lock", queues.display());
    running.wait_for_log(&problem, 1, BOUND).unwrap();
    agent.wait_for_records(load.total());
    running.kill();
    let receiver = receiver_at(port, Listen::Tcp);
    let running = agent.start(&[]);
    let later = (load.chunks - half) * load.lines;
    receiver.wait_for(later as u64, LONG).unwrap();
    running.stop();
    let counts = load.compare(texts(&receiver.received()));
    Ok(without(counts, half * load.lines)
        .in_any_order()
        .with_duplicates(0))
}

/// Subtracts messages that must not arrive from the counts.
fn without(mut counts: Counts, removed: usize) -> Counts {
    assert!(counts.lost >= removed, "{counts:?}");
    counts.sent -= removed;
    counts.lost -= removed;
    counts
}

/// The queue's disk is slow, and blocks completely for some time.
pub(crate) fn slow_disk() -> Outcome {
    /// The disk blocks half of the time, and for long at the end.
    const SPANS: [u64; 6] = [500, 500, 500, 500, 500, 10_000];
    let load = Load::USUAL;
    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    let mut agent = Agent::with_outputs(|state| output("sink", &address, state))?;
    let queues = agent.dir.path().join("state/queues");
    fs::create_dir(&queues).unwrap();
    let disk = Disk::new()?;
    let running = agent.start(&disk.wrapper(&queues)?);
    running.wait_for_log("connected to", 1, BOUND).unwrap();
    let part = load.chunks / SPANS.len();
    for (number, span) in SPANS.into_iter().enumerate() {
        let frozen = Frozen::new(running.id(), &queues);
        agent.write(&load, number * part..(number + 1) * part);
        // The duration itself is tested.
        thread::sleep(Duration::from_millis(span));
        let written = (number + 1) * part * load.lines;
        assert!(
            (receiver.count() as usize) < written,
            "the disk did not block the queue"
        );
        drop(frozen);
        thread::sleep(Duration::from_millis(500));
    }
    agent.write(&load, SPANS.len() * part..load.chunks);
    wait_for_all(&load, &receiver);
    running.stop();
    let counts = load.compare(texts(&receiver.received()));
    Ok(counts.with_duplicates(0))
}
