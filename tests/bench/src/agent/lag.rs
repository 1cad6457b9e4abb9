//! The time from a line's write to its arrival, for a hundred containers that each
//! write one line per second.

use std::thread;
use std::time::{Duration, Instant};

use faults::namespace::{Namespace, Weather};
use rig::fluent_bit;

use super::arrivals::{Arrivals, now, stamped};
use super::{Agent, Logs, Settings, built_in, ours, quantile};
use crate::link::Links;
use crate::report::{Report, Target};

const CONTAINERS: usize = 100;
const ROUND_TRIPS: [u64; 4] = [0, 20, 100, 300];
/// The spans of time that are measured, in seconds after the start.
const EARLY: u64 = 10;
const LATE: u64 = 60;
const SPAN: u64 = 10;
/// Fluent Bit's flush interval, and the tolerance beyond the interval and the round
/// trip.
const INTERVAL: u64 = 1000;
const ALLOWED: u64 = 300;

pub(crate) fn measure(_: &Links, report: &mut Report) {
    for trip in ROUND_TRIPS {
        let what = format!(
            "Latency from write to arrival after 60 s, round trip of {trip} ms, queue, p99"
        );
        if fluent_bit::find().is_none() {
            return report.skip(&what, "Fluent Bit is not installed");
        }
        match Namespace::new() {
            Ok(network) => behind(&network, trip, &what, report),
            Err(skipped) => return report.skip(&what, &skipped.0),
        }
    }
}

/// Measures the plugin's output and the built-in one, which read the same logs at the
/// same time.
fn behind(network: &Namespace, trip: u64, what: &str, report: &mut Report) {
    network.set_weather(Weather {
        delay: Duration::from_millis(trip / 2),
        ..Weather::default()
    });
    let mut logs = Logs::new(CONTAINERS);
    let queues = tempfile::tempdir().unwrap();
    let here = network.here().parse().unwrap();
    let arrivals = [(); 2].map(|()| Arrivals::listen(here, true));
    let [to_ours, to_built_in] = arrivals.each_ref().map(Arrivals::address);
    let outputs = [ours(&to_ours, queues.path()), built_in(&to_built_in)];
    let agents = outputs.map(|outputs| {
        Agent::start(Settings {
            wrapper: &network.wrapper(),
            logs: &logs.path(),
            storage: "filesystem",
            outputs: &outputs,
        })
    });
    thread::sleep(Duration::from_secs(3));
    let start = now();
    write(&mut logs);
    thread::sleep(Duration::from_secs(3));
    drop(agents);
    let ages = |arrivals: &Arrivals, from: u64| {
        let at = |second| start + second * 1_000_000_000;
        arrivals.ages(at(from)..at(from + SPAN), CONTAINERS * SPAN as usize)
    };
    let [late, peer_late] = arrivals.each_ref().map(|arrivals| ages(arrivals, LATE));
    let early = ages(&arrivals[0], EARLY);
    let ms = |ages: &[Duration], share| quantile(ages, share).as_secs_f64() * 1e3;
    report.detailed(
        what,
        ms(&late, 0.99),
        " ms",
        Target::AtMost((INTERVAL + trip + ALLOWED) as f64),
        &format!(
            " (p50 {:.0} ms; after 10 s {:.0} and {:.0} ms; built-in output {:.0} and {:.0} ms)",
            ms(&late, 0.5),
            ms(&early, 0.5),
            ms(&early, 0.99),
            ms(&peer_late, 0.5),
            ms(&peer_late, 0.99),
        ),
    );
}

/// Writes one line per second for each container, spread over the second.
fn write(logs: &mut Logs) {
    let start = Instant::now();
    let mut line = 0;
    while start.elapsed() < Duration::from_secs(LATE + SPAN) {
        logs.containers[line % CONTAINERS].write(
            "2026-03-01T12:00:00.000000000Z",
            "stdout",
            &stamped(now()),
        );
        line += 1;
        let due = Duration::from_secs(line as u64) / CONTAINERS as u32;
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
}
