//! Receivers that crash or hang up under load, with acknowledged bytes unread.

use receiver::{Listen, Options, Receiver};
use rig::pki::Pki;
use rig::wait::{self, BOUND};

use super::{ca, receiver};
use crate::load::{Delivery, Load, texts};
use crate::{Outcome, Skipped};

const CRASHES: usize = 4;
/// More than one chunk, so at least one was acknowledged and delivered.
const UNREAD: u64 = 30_000;

pub(crate) fn tcp(delivery: Delivery) -> Outcome {
    with(crash_once, delivery, Listen::Tcp, &[("transport", "tcp")])
}

pub(crate) fn tls(delivery: Delivery) -> Outcome {
    with_tls(crash_once, delivery)
}

/// The receiver sends FIN and then a reset.
pub(crate) fn hang_up_tcp(delivery: Delivery) -> Outcome {
    with(hang_up_once, delivery, Listen::Tcp, &[("transport", "tcp")])
}

/// The receiver sends `close_notify`, FIN and then a reset.
pub(crate) fn hang_up_tls(delivery: Delivery) -> Outcome {
    with_tls(hang_up_once, delivery)
}

/// The receiver sends `close_notify` and discards everything unread: no reset.
pub(crate) fn throw_away_tls(delivery: Delivery) -> Outcome {
    with_tls(throw_away_once, delivery)
}

fn with_tls(happens: impl Fn(&Receiver), delivery: Delivery) -> Outcome {
    let pki = Pki::new();
    let options = [("tls_ca_file", &*ca(&pki))];
    with(happens, delivery, super::tls(pki.server()), &options)
}

fn with(
    happens: impl Fn(&Receiver),
    delivery: Delivery,
    listen: Listen,
    options: &[(&str, &str)],
) -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(listen);
    let address = receiver.address();
    let options = [&[("servers", address.as_str())], options].concat();
    receiver.resume_for(1);
    load.deliver(delivery, &options, || {
        for _ in 0..CRASHES {
            happens(&receiver);
        }
        receiver.resume();
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    let counts = load.arrived(&receiver);
    assert!(receiver.connections() > CRASHES as u64);
    Ok(counts.with_replays(CRASHES, &load))
}

/// The receiver's kernel holds more unread bytes than most kernels.
pub(crate) fn large_window(delivery: Delivery) -> Outcome {
    /// More than the minimum replay buffer.
    const UNREAD: u64 = 6 * 1024 * 1024;
    let load = Load {
        chunks: 120,
        lines: 100,
        length: 1000,
    };
    let receiver = Receiver::start(Options {
        receive_buffer: Some(16 * 1024 * 1024),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let address = receiver.address();
    let options = [("servers", address.as_str()), ("transport", "tcp")];
    receiver.pause();
    let mut unread = 0;
    load.deliver(delivery, &options, || {
        let enough = || {
            unread = receiver.unread().unwrap_or_default();
            (unread > UNREAD).then_some(())
        };
        // Some kernels do not permit such large buffers.
        let _ = wait::until(BOUND / 4, enough);
        receiver.reset();
        receiver.resume();
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    if unread < UNREAD {
        let reason = format!("this kernel holds only {unread} bytes unread");
        return Err(Skipped(reason));
    }
    let counts = load.arrived(&receiver);
    Ok(counts.with_duplicates(load.total()))
}

/// Waits until the receiver has paused after a message and enough is unread, and then
/// ends its connection. The receiver pauses again on the next connection.
pub(crate) fn crash_once(receiver: &Receiver) {
    once(receiver, Receiver::reset);
}

fn hang_up_once(receiver: &Receiver) {
    once(receiver, |receiver| receiver.hang_up(0));
}

fn throw_away_once(receiver: &Receiver) {
    once(receiver, |receiver| receiver.hang_up(usize::MAX));
}

fn once(receiver: &Receiver, end: impl FnOnce(&Receiver)) {
    receiver.wait_for_pause(BOUND).unwrap();
    wait_for_unread(receiver);
    end(receiver);
    receiver.resume_for(1);
}

/// Waits until more than one chunk is acknowledged and unread.
pub(crate) fn wait_for_unread(receiver: &Receiver) {
    let unread = || receiver.unread().unwrap_or_default();
    let enough = || (unread() > UNREAD).then_some(());
    let counts = || {
        format!(
            "{} messages read, {} bytes unread",
            receiver.count(),
            unread()
        )
    };
    wait::until(BOUND, enough).unwrap_or_else(|error| panic!("{}: {error}", counts()));
}
