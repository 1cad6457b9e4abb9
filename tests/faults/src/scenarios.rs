//! What happens, a file for each kind.

pub(crate) mod crash;
pub(crate) mod cut;
pub(crate) mod exit;
pub(crate) mod fluent_bit;
pub(crate) mod names;
pub(crate) mod neighbours;
pub(crate) mod network;
pub(crate) mod relp;
pub(crate) mod restart;
pub(crate) mod shape;
pub(crate) mod stall;
pub(crate) mod tls;

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::{Pair, Pki};

/// A receiver with little room for what nobody has read: less than is kept for
/// sending it again.
fn receiver(listen: Listen) -> Receiver {
    Receiver::start(Options {
        receive_buffer: Some(64 * 1024),
        ..Options::new(listen)
    })
    .unwrap()
}

/// The same where the other one was.
fn receiver_at(port: u16, listen: Listen) -> Receiver {
    Receiver::start(Options {
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
