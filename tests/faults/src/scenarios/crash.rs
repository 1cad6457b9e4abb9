//! Receivers that crash under load, with acknowledged bytes unread.

use receiver::{Listen, Receiver};
use rig::pki::Pki;
use rig::wait::{self, BOUND};

use super::{ca, receiver};
use crate::Outcome;
use crate::load::Load;

const CRASHES: usize = 4;
/// More than one chunk: one at least was acknowledged, and so delivered.
const UNREAD: u64 = 40_000;

pub(crate) fn tcp() -> Outcome {
    crash(Listen::Tcp, &[("transport", "tcp")])
}

pub(crate) fn tls() -> Outcome {
    let pki = Pki::new();
    crash(super::tls(pki.server()), &[("tls_ca_file", &ca(&pki))])
}

fn crash(listen: Listen, options: &[(&str, &str)]) -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(listen);
    let address = receiver.address();
    let options = [&[("addr", address.as_str())], options].concat();
    receiver.resume_for(1);
    load.deliver(&options, || {
        for _ in 0..CRASHES {
            crash_once(&receiver);
        }
        receiver.resume();
    });
    let counts = load.arrived(&receiver);
    assert!(receiver.connections() > CRASHES as u64);
    Ok(counts.with_replays(CRASHES, &load))
}

/// Ends the connection of a receiver that pauses by itself after a message, with
/// enough unread. It does the same with the next.
pub(crate) fn crash_once(receiver: &Receiver) {
    receiver.wait_for_pause(BOUND).unwrap();
    wait::until(BOUND, || {
        (receiver.unread().unwrap_or_default() > UNREAD).then_some(())
    })
    .unwrap();
    receiver.reset();
    receiver.resume_for(1);
}
