//! The throughput of one output in messages per second, with the receiver on the same
//! machine.

use host::Host;
use rig::event::Format;
use rig::load;

use crate::link::{self, Link, Links};
use crate::plot::{Content, Plot};
use crate::report::{Report, Target};

const RECORDS: usize = 3000;
const RUNS: usize = 3;
const WORKERS: [u32; 4] = [1, 2, 4, 8];
/// The lengths of the text, in bytes.
const SIZES: [usize; 9] = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];
/// The bytes of text in a run.
const VOLUME: usize = 200_000_000;

pub(crate) fn measure(links: &Links, report: &mut Report) {
    by_workers(links, report);
    by_size(links, report);
}

fn by_workers(links: &Links, report: &mut Report) {
    let mut series = Vec::new();
    for link in [Link::Tcp, Link::Tls] {
        let points: Vec<(f64, f64)> = WORKERS
            .into_iter()
            .map(|workers| {
                (
                    f64::from(workers),
                    rate(links, link, load::USUAL_TEXT, workers) / 1e6,
                )
            })
            .collect();
        let best = points.iter().map(|point| point.1).fold(0.0, f64::max);
        let each: Vec<String> = points
            .iter()
            .map(|(workers, rate)| format!("{rate:.2} with {workers}"))
            .collect();
        report.detailed(
            &format!("Throughput, {link}, best number of workers"),
            best,
            " M messages/s",
            Target::AtLeast(1.0),
            &format!(" ({})", each.join(", ")),
        );
        series.push((link.to_string(), points));
    }
    report.plot(Plot {
        name: "throughput-by-workers",
        title: "Throughput of one output by number of workers, messages of 486 bytes",
        y: "million messages/s",
        content: Content::Lines {
            x: "workers",
            series,
        },
    });
}

fn by_size(links: &Links, report: &mut Report) {
    let mut series = Vec::new();
    for link in [Link::Tcp, Link::Tls] {
        let points = SIZES
            .into_iter()
            .map(|size| (size as f64, rate(links, link, size, 2) * size as f64 / 1e6))
            .collect();
        series.push((link.to_string(), points));
    }
    report.plot(Plot {
        name: "throughput-by-size",
        title: "Throughput of one output with two workers by text size",
        y: "MB of text/s",
        content: Content::Lines {
            x: "bytes of text",
            series,
        },
    });
}

/// Returns the messages per second.
fn rate(links: &Links, link: Link, text: usize, workers: u32) -> f64 {
    // The text, plus the header and structured data.
    let size = text + 271;
    let records = RECORDS.min(2_000_000 / size);
    let chunk = load::chunk(Format::Current, records, text);
    let chunks = vec![chunk; workers as usize];
    let rounds = (VOLUME / (records * size * workers as usize)).max(1) as u32;
    let messages = records as f64 * f64::from(workers * rounds);
    let run = || {
        let receiver = links.receiver(link);
        let host = Host::new().workers(workers).rounds(rounds);
        let mut options = links.options(link, &receiver.address());
        options.push(("max_message_size", "64K".to_owned()));
        let run = link::deliver(host, &options, &chunks);
        messages / run.wall.as_secs_f64()
    };
    (0..RUNS).map(|_| run()).fold(0.0, f64::max)
}
