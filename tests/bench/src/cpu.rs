//! The processor time of a message behind the ABI, and of the bytes alone.

use std::time::Duration;

use host::Host;
use receiver::Options;
use rig::event::Format;
use rig::load;

use crate::link::{self, Link, Links};
use crate::reference::Reference;
use crate::report::{Report, Target};

/// What Fluent Bit gives an output at most: a chunk of two megabytes.
const RECORDS: usize = 3000;
/// How often a run sends the chunk.
const ROUNDS: u32 = 40;
/// Both are measured so often, in turns.
const RUNS: usize = 21;

pub(crate) fn measure(links: &Links, report: &mut Report) {
    for (link, target) in [(Link::Tls, 2.5), (Link::Tcp, 3.0)] {
        for (format, name) in [(Format::Current, "current"), (Format::Old, "old")] {
            let Costs {
                plugin,
                workers,
                bare,
            } = compare(links, link, format);
            report.detailed(
                &format!("CPU of a message, {link}, {name} event format: ratio to a bare loop"),
                plugin / bare,
                "",
                Target::AtMost(target),
                &format!(
                    " ({plugin:.2} us, of which {workers:.2} us before the sender's thread; \
                     bare {bare:.2} us)"
                ),
            );
        }
    }
}

/// Microseconds of a message.
struct Costs {
    plugin: f64,
    /// The workers' part of it.
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
    let of_message =
        |time: Duration| time.as_secs_f64() * 1e6 / (RECORDS as f64 * f64::from(ROUNDS));
    Costs {
        plugin: of_message(plugin),
        workers: of_message(workers),
        bare: of_message(bare),
    }
}

/// What the plugin sends for a chunk, as a receiver has it.
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
