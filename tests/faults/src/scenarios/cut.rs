//! Connections that are reset in the middle of a frame, record or handshake.

use receiver::Listen;
use rig::pki::Pki;

use super::{ca, receiver};
use crate::Outcome;
use crate::load::{Delivery, Load, texts};
use crate::proxy::Proxy;

pub(crate) fn frame(delivery: Delivery) -> Outcome {
    // Positions in a frame's length, its header and its text.
    let cuts = [1, 20_001, 33_333, 50_100, 77_777];
    through(delivery, Listen::Tcp, &[("transport", "tcp")], &cuts)
}

pub(crate) fn record(delivery: Delivery) -> Outcome {
    let pki = Pki::new();
    // After the handshake, which has less than 2,000 bytes, and not at the end of a
    // record of 16 KiB.
    let cuts = [5_000, 20_001, 33_333, 50_100, 77_777];
    through(
        delivery,
        super::tls(pki.server()),
        &[("tls_ca_file", &ca(&pki))],
        &cuts,
    )
}

pub(crate) fn handshake(delivery: Delivery) -> Outcome {
    let pki = Pki::new();
    let cuts = [1, 5, 100, 230, 300];
    through(
        delivery,
        super::tls(pki.server()),
        &[("tls_ca_file", &ca(&pki))],
        &cuts,
    )
}

fn through(
    delivery: Delivery,
    listen: Listen,
    options: &[(&str, &str)],
    cuts: &[usize],
) -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(listen);
    let proxy = Proxy::start(receiver.address(), cuts);
    let options = [&[("servers", proxy.address())], options].concat();
    load.deliver(delivery, &options, || {
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    assert_eq!(proxy.resets(), cuts.len());
    let counts = load.arrived(&receiver);
    Ok(counts.with_replays(cuts.len(), &load))
}
