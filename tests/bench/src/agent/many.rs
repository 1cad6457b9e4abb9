//! Benchmarks of hundreds of outputs over TLS, each with a queue.

use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rig::fluent_bit;

use super::{Agent, Logs, Settings};
use crate::link::{Link, Links};
use crate::peers::processor_time;
use crate::report::{Report, Target};

const IDLE: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn measure(links: &Links, report: &mut Report) {
    let what = |count, figure| format!("{count} TLS sinks with queues in Fluent Bit: {figure}");
    if fluent_bit::find().is_none() {
        return report.skip(&what(300, "threads"), "Fluent Bit is not installed");
    }
    for count in [300, 1000] {
        let null = idle(false, links, count);
        let ours = idle(true, links, count);
        let above = |ours: f64, null: f64| (ours - null).max(0.0);
        report.figure(
            &what(count, "additional threads compared with null outputs"),
            above(ours.threads, null.threads),
            "",
            Target::AtMost(1.0),
        );
        report.figure(
            &what(count, "memory per sink"),
            above(ours.memory, null.memory) / count as f64,
            " KiB",
            Target::AtMost(60.0),
        );
        report.detailed(
            &what(count, "additional idle CPU compared with null outputs"),
            above(ours.cpu, null.cpu),
            " % of a core",
            Target::AtMost(1.0),
            &format!(" ({:.2} to {:.2})", null.cpu, ours.cpu),
        );
        report.detailed(
            &what(count, "time until all are connected"),
            ours.start.as_secs_f64(),
            " s",
            Target::AtMost(2.0),
            &format!(" ({} file descriptors)", ours.descriptors),
        );
    }
}

struct Idle {
    threads: f64,
    /// The memory in KiB.
    memory: f64,
    /// The processor time in percent of a core.
    cpu: f64,
    start: Duration,
    descriptors: usize,
}

fn idle(is_ours: bool, links: &Links, count: usize) -> Idle {
    let receiver = links.receiver(Link::Tls);
    let queues = tempfile::tempdir().unwrap();
    let options = links.options(Link::Tls, &receiver.address());
    let outputs = (0..count).fold(String::new(), |mut outputs, number| {
        if !is_ours {
            writeln!(
                outputs,
                "[OUTPUT]\n    Name null\n    Match *\n    Workers 0"
            )
            .unwrap();
            return outputs;
        }
        writeln!(
            outputs,
            "[OUTPUT]\n    Name syslog_sink\n    Match *\n    cluster on\n    queue_path {}\n    \
             queue_name sink-{number}",
            queues.path().display()
        )
        .unwrap();
        for (key, value) in &options {
            writeln!(outputs, "    {key} {value}").unwrap();
        }
        outputs
    });
    let mut logs = Logs::new(1);
    let script = "ulimit -n 20000; exec \"$@\"";
    let begin = Instant::now();
    let agent = Agent::start(Settings {
        wrapper: &["sh", "-c", script, "sh"].map(str::to_owned),
        logs: &logs.path(),
        storage: "filesystem",
        outputs: &outputs,
    });
    let expected = if is_ours { count as u64 } else { 0 };
    while receiver.connections() < expected {
        let connections = receiver.connections();
        assert!(begin.elapsed() < LONG, "{connections} connections");
        thread::sleep(Duration::from_millis(5));
    }
    let start = begin.elapsed();
    thread::sleep(Duration::from_secs(3));
    for _ in 0..10 {
        logs.containers[0].write("2026-03-01T12:00:00.000000000Z", "stdout", "a line");
    }
    while receiver.count() < 10 * expected {
        let count = receiver.count();
        assert!(
            begin.elapsed() < LONG,
            "{count} lines:\n{}",
            agent.fluent_bit.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(3));
    let process = agent.fluent_bit.id();
    let before = processor_time(process);
    thread::sleep(IDLE);
    let cpu = processor_time(process).saturating_sub(before);
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    Idle {
        threads: agent.status("Threads") as f64,
        memory: agent.status("VmRSS") as f64,
        cpu: cpu.div_duration_f64(IDLE) * 100.0,
        start,
        descriptors,
    }
}
