//! The scenarios, grouped by kind.

pub(crate) mod crash;
pub(crate) mod cut;
pub(crate) mod daemons;
pub(crate) mod exit;
pub(crate) mod fluent_bit;
pub(crate) mod names;
pub(crate) mod neighbours;
pub(crate) mod network;
pub(crate) mod pod_logs;
pub(crate) mod queue;
pub(crate) mod restart;
pub(crate) mod shape;
pub(crate) mod stall;
pub(crate) mod tls;

use std::net::Ipv4Addr;

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::{Pair, Pki};

/// Starts a receiver with a small receive buffer: less than the replay buffer.
fn receiver(listen: Listen) -> Receiver {
    receiver_at(0, listen)
}

/// Starts a receiver like [`receiver`], on a given port.
fn receiver_at(port: u16, listen: Listen) -> Receiver {
    receiver_on(Ipv4Addr::LOCALHOST, port, listen)
}

/// Starts a receiver like [`receiver`], on a given address and port.
fn receiver_on(address: Ipv4Addr, port: u16, listen: Listen) -> Receiver {
    Receiver::start(Options {
        address,
        port,
        receive_buffer: Some(64 * 1024),
        ..Options::new(listen)
    })
    .unwrap()
}

fn tls(server: Pair) -> Listen {
    Listen::Tls(TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: None,
    })
}

fn ca(pki: &Pki) -> String {
    pki.ca().to_str().unwrap().to_owned()
}
