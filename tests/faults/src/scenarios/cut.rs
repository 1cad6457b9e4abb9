//! Connections that are reset at a bad moment.

use receiver::Listen;
use rig::pki::Pki;

use super::{ca, receiver};
use crate::Outcome;
use crate::load::Load;
use crate::proxy::Proxy;

pub(crate) fn frame() -> Outcome {
    // Somewhere in a frame's length, its header and its text.
    let cuts = [1, 20_001, 33_333, 50_100, 77_777];
    through(Listen::Tcp, &[("transport", "tcp")], &cuts)
}

pub(crate) fn record() -> Outcome {
    let pki = Pki::new();
    // Behind the handshake, which has less than 2,000 bytes, and not where a
    // record of 16 KiB ends.
    let cuts = [5_000, 20_001, 33_333, 50_100, 77_777];
    through(
        super::tls(pki.server()),
        &[("tls_ca_file", &ca(&pki))],
        &cuts,
    )
}

pub(crate) fn handshake() -> Outcome {
    let pki = Pki::new();
    let cuts = [1, 5, 100, 230, 300];
    through(
        super::tls(pki.server()),
        &[("tls_ca_file", &ca(&pki))],
        &cuts,
    )
}

fn through(listen: Listen, options: &[(&str, &str)], cuts: &[usize]) -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(listen);
    let proxy = Proxy::start(receiver.address(), cuts);
    let options = [&[("addr", proxy.address())], options].concat();
    load.deliver(&options, || {});
    assert_eq!(proxy.resets(), cuts.len());
    let counts = load.arrived(&receiver);
    Ok(counts.with_replays(cuts.len(), &load))
}
