//! Benchmarks of many outputs in one process.

use std::time::Duration;

use host::{Host, Run};
use receiver::Receiver;
use rig::event::Format;
use rig::load;
use rig::port::free_port;

use crate::link::{Link, Links, add_output};
use crate::plot::{Content, Plot};
use crate::report::{Report, Target};

const COUNTS: [usize; 5] = [1, 30, 100, 300, 1000];
const MANY: usize = 300;
const IDLE: Duration = Duration::from_secs(10);
/// The time until the backoff between attempts has reached its maximum, 30 s.
const SETTLE: Duration = Duration::from_secs(40);
/// The limit for the additional memory of a stalled output with ten chunks compared
/// with one, in KiB.
const STALLED: f64 = 2048.0;

pub(crate) fn measure(links: &Links, report: &mut Report) {
    connected(links, report);
    down(links, report);
    stalled(links, report);
}

/// Measures outputs that have each sent ten messages and are idle.
fn connected(links: &Links, report: &mut Report) {
    let chunk = [load::chunk(Format::Current, 10, load::USUAL_TEXT)];
    let mut points = Vec::new();
    let mut one = 0.0;
    for count in COUNTS {
        let receiver = links.receiver(Link::Tls);
        let run = outputs(links, count, &receiver.address())
            .rounds(1)
            .idle(IDLE)
            .run(&chunk);
        assert!(
            run.outputs.iter().all(|output| output.ok == 1),
            "{}",
            run.log
        );
        let memory = run.idle_kib as f64;
        points.push((count as f64, memory / 1024.0));
        if count == 1 {
            one = memory;
            continue;
        }
        let each = (memory - one) / (count - 1) as f64;
        let what = |figure| format!("{count} connected, idle TLS sinks: {figure}");
        if count == MANY {
            report.figure(&what("memory per sink"), each, " KiB", Target::AtMost(96.0));
            report.figure(
                &what("idle CPU"),
                idle(&run),
                " % of a core",
                Target::AtMost(0.5),
            );
            // One thread belongs to the host.
            let threads = run.idle_threads as f64 - 1.0;
            report.figure(&what("threads"), threads, "", Target::AtMost(1.0));
            let start = run.start.as_secs_f64() * 1e3;
            report.figure(
                &format!(
                    "Start time: loading of the library and initialization of {count} outputs"
                ),
                start,
                " ms",
                Target::AtMost(100.0),
            );
        } else {
            report.fact(
                &what("memory per sink, idle CPU"),
                &format!("{each:.0} KiB, {:.2} % of a core", idle(&run)),
            );
        }
    }
    report.plot(Plot {
        name: "memory-by-sinks",
        title: "Memory of the process by number of connected, idle TLS sinks",
        y: "MiB",
        content: Content::Lines {
            x: "sinks",
            series: vec![("TLS 1.3".to_owned(), points)],
        },
    });
}

/// Measures outputs whose receivers are all down.
fn down(links: &Links, report: &mut Report) {
    let address = format!("127.0.0.1:{}", free_port());
    let run = outputs(links, MANY, &address)
        .settle(SETTLE)
        .idle(IDLE)
        .run(&[load::chunk(Format::Current, 10, load::USUAL_TEXT)]);
    assert!(
        run.outputs.iter().all(|output| output.retry == 1),
        "{}",
        run.log
    );
    let what = format!("{MANY} unreachable TLS sinks: CPU");
    report.figure(&what, idle(&run), " % of a core", Target::AtMost(1.0));
}

/// Measures an output whose receiver reads nothing: the memory of additional chunks
/// that fail.
fn stalled(links: &Links, report: &mut Report) {
    let receiver = links.receiver(Link::Tcp);
    receiver.pause();
    let grown = peak(links, &receiver, 10) - peak(links, &receiver, 1);
    receiver.resume();
    report.figure(
        "Stalled sink: additional memory for ten chunks instead of one",
        grown.max(0.0),
        " KiB",
        Target::AtMost(STALLED),
    );
}

fn peak(links: &Links, receiver: &Receiver, rounds: u32) -> f64 {
    let mut options = links.options(Link::Tcp, &receiver.address());
    options.extend([
        ("write_timeout", "300ms".to_owned()),
        ("backoff_min", "10ms".to_owned()),
        ("backoff_max", "20ms".to_owned()),
    ]);
    let chunk = [load::chunk(Format::Current, 3000, load::USUAL_TEXT)];
    let host = Host::new().rounds(rounds).pause(Duration::from_millis(50));
    add_output(host, "sink", &options).run(&chunk).peak_kib as f64
}

fn outputs(links: &Links, count: usize, address: &str) -> Host {
    let options = links.options(Link::Tls, address);
    (0..count).fold(Host::new(), |host, number| {
        add_output(host, &format!("sink-{number}"), &options)
    })
}

/// Returns the idle processor time in percent of a core.
fn idle(run: &Run) -> f64 {
    run.idle_cpu.div_duration_f64(IDLE) * 100.0
}
