//! The basis of the sender's fixed sizes: the bare loop with other sizes.

use std::time::Duration;

use crate::link::{Link, Links};
use crate::reference::{Reference, Sizes};
use crate::report::Report;

const MESSAGE: usize = 486;
const MESSAGES: usize = 3000;
const ROUNDS: u32 = 40;
const RUNS: usize = 7;
const KIB: usize = 1024;

pub(crate) fn measure(links: &Links, report: &mut Report) {
    let usual = Sizes::default();
    let writes = by([16, 64, 256, 1024], |write| Sizes { write, ..usual });
    for link in [Link::Tcp, Link::Tls] {
        let what = format!("CPU time per message in a bare loop, {link}, by write size in KiB");
        report.fact(&what, &costs(links, link, &writes));
    }
    let records = by([1, 4, 16], |record| Sizes { record, ..usual });
    report.fact(
        "CPU time per message in a bare loop, TLS 1.3, by TLS record size in KiB",
        &costs(links, Link::Tls, &records),
    );
    let buffers = by([64, 256, 1024, 4096], |size| Sizes {
        send_buffer: Some(size),
        ..usual
    });
    let own = costs(links, Link::Tcp, &[(0, usual)]);
    let fixed = costs(links, Link::Tcp, &buffers);
    report.fact(
        "CPU time per message in a bare loop, TCP, by send buffer size in KiB (0: chosen by the kernel)",
        &format!("{own}, {fixed}"),
    );
}

/// Returns the sizes for each number of KiB.
fn by<const N: usize>(kib: [usize; N], sizes: impl Fn(usize) -> Sizes) -> [(usize, Sizes); N] {
    kib.map(|kib| (kib, sizes(kib * KIB)))
}

fn costs(links: &Links, link: Link, sizes: &[(usize, Sizes)]) -> String {
    let line = [vec![b'x'; MESSAGE - 1], b"\n".to_vec()].concat();
    let bytes = line.repeat(MESSAGES);
    let costs: Vec<String> = sizes
        .iter()
        .map(|(kib, sizes)| {
            let reference = Reference::new(&bytes, links.ca(link).as_deref()).with(*sizes);
            let run = || {
                let receiver = links.line_receiver(link);
                reference.run(&receiver.address(), ROUNDS)
            };
            let least = (0..RUNS).map(|_| run()).min().unwrap_or(Duration::MAX);
            let messages = MESSAGES as f64 * f64::from(ROUNDS);
            format!("{kib}: {:.3} us", least.as_secs_f64() * 1e6 / messages)
        })
        .collect();
    costs.join(", ")
}
