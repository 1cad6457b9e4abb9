//! The time from a flush to its `FLB_OK`, which waits for an acknowledgement.

use std::time::Duration;

use faults::namespace::{Namespace, Weather};
use host::Host;
use receiver::Options;
use rig::event::Format;
use rig::load;

use crate::link::{self, Link, Links};
use crate::plot::{Content, Plot};
use crate::reference;
use crate::report::{Report, Target};

const RECORDS: usize = 10;
const FLUSHES: u32 = 3000;
/// Long enough for the machine's cores to enter a sleep state between two flushes.
const PAUSE: Duration = Duration::from_millis(2);
/// The delay in each direction.
const DELAY: Duration = Duration::from_millis(50);

pub(crate) fn measure(links: &Links, report: &mut Report) {
    let chunk = [load::chunk(Format::Current, RECORDS, load::USUAL_TEXT)];
    let flush = |pause| {
        let receiver = links.receiver(Link::Tls);
        let host = Host::new().rounds(FLUSHES).pause(pause);
        Sorted::new(links.deliver(host, Link::Tls, &receiver, &chunk).flushes)
    };
    let latencies = flush(Duration::ZERO);
    let micros = |latencies: &Sorted, share| latencies.at(share).as_secs_f64() * 1e6;
    let what = |share| format!("Latency of a flush of {RECORDS} records, idle TLS sink, {share}");
    let figures = [("p50", 0.5, 150.0), ("p99", 0.99, 1000.0)];
    for (name, share, target) in figures {
        let target = Target::AtMost(target);
        report.figure(&what(name), micros(&latencies, share), " us", target);
    }
    report.plot(Plot {
        name: "latency",
        title: "Latency of a flush of 10 records, idle TLS sink",
        y: "flushes",
        content: Content::Bars(latencies.histogram()),
    });
    let rested = flush(PAUSE);
    report.fact(
        &what("sleeping cores, p50 and p99"),
        &format!(
            "{:.0} us, {:.0} us",
            micros(&rested, 0.5),
            micros(&rested, 0.99)
        ),
    );
    with_delay(links, report, &chunk);
}

fn with_delay(links: &Links, report: &mut Report, chunk: &[(String, Vec<u8>)]) {
    let what = "Latency with a network delay of 100 ms, p50, in round trips";
    let network = match Namespace::new() {
        Ok(network) => network,
        Err(skipped) => return report.skip(what, &skipped.0),
    };
    network.set_weather(Weather {
        delay: DELAY,
        loss: 0,
        ..Weather::default()
    });
    let receiver = link::start(Options {
        keep: false,
        address: network.here().parse().unwrap(),
        ..Options::new(links.listen(Link::Tcp))
    });
    let host = Host::new().wrapper(&network.wrapper()).rounds(60);
    let flushes = links.deliver(host, Link::Tcp, &receiver, chunk).flushes;
    // A TCP handshake takes one round trip.
    let trips = reference::connects(&receiver.address(), &network.wrapper());
    let (flush, trip) = (Sorted::new(flushes).at(0.5), Sorted::new(trips).at(0.5));
    report.detailed(
        what,
        flush.div_duration_f64(trip),
        "",
        Target::AtMost(1.1),
        &format!(
            " ({:.0} ms to {:.0} ms)",
            flush.as_secs_f64() * 1e3,
            trip.as_secs_f64() * 1e3
        ),
    );
}

struct Sorted(Vec<Duration>);

impl Sorted {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the quantile of the times.
    fn at(&self, share: f64) -> Duration {
        let last = self.0.len() - 1;
        self.0[(last as f64 * share).round() as usize]
    }

    /// Returns the number of times up to each bound.
    fn histogram(&self) -> Vec<(String, f64)> {
        const BOUNDS: [u64; 10] = [40, 60, 80, 100, 125, 150, 200, 300, 500, 1000];
        let mut before = 0;
        let mut bars: Vec<(String, f64)> = BOUNDS
            .into_iter()
            .map(|bound| {
                let below = |time: &Duration| *time <= Duration::from_micros(bound);
                let up_to = self.0.partition_point(below);
                let count = up_to - before;
                before = up_to;
                (format!("<= {bound} us"), count as f64)
            })
            .collect();
        bars.push(("> 1000 us".to_owned(), (self.0.len() - before) as f64));
        bars
    }
}
