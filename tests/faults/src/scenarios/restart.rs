//! Receivers that close their connections in an orderly way, with or without a restart.

use std::time::Duration;

use host::Host;
use receiver::{Listen, Receiver};
use rig::pki::Pki;
use rig::port::free_port;
use rig::wait::{self, BOUND};

use super::{ca, crash, receiver, receiver_at};
use crate::Outcome;
use crate::load::{Delivery, Load, SMALL_REPLAY, UNDER_WAY, texts};

const RESTARTS: usize = 4;

pub(crate) fn tcp(delivery: Delivery) -> Outcome {
    goodbye(delivery, Listen::Tcp, &[("transport", "tcp")])
}

pub(crate) fn tls(delivery: Delivery) -> Outcome {
    let pki = Pki::new();
    goodbye(
        delivery,
        super::tls(pki.server()),
        &[("tls_ca_file", &ca(&pki))],
    )
}

fn goodbye(delivery: Delivery, listen: Listen, options: &[(&str, &str)]) -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(listen);
    let address = receiver.address();
    let options = [&[("servers", address.as_str())], options].concat();
    receiver.resume_for(1);
    load.deliver(delivery, &options, || {
        for _ in 0..RESTARTS {
            receiver.wait_for_pause(BOUND).unwrap();
            receiver.say_goodbye();
            receiver.resume_for(1);
        }
        receiver.resume();
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    let counts = load.arrived(&receiver);
    assert!(receiver.connections() > RESTARTS as u64);
    // Messages acknowledged shortly before the close are in doubt, and so are those
    // that the receiver reads afterwards.
    let in_doubt = match delivery {
        Delivery::Direct => SMALL_REPLAY,
        Delivery::Queued => SMALL_REPLAY + UNDER_WAY,
    };
    Ok(counts.with_replays_of(in_doubt, RESTARTS, &load))
}

/// The second server gets the messages that the first one had not read.
pub(crate) fn failover(delivery: Delivery) -> Outcome {
    let load = Load::USUAL;
    let (first, second) = (receiver(Listen::Tcp), receiver(Listen::Tcp));
    let addresses = format!("{}, {}", first.address(), second.address());
    let options = [("servers", addresses.as_str()), ("transport", "tcp")];
    let mut arrived = Vec::new();
    first.resume_for(1);
    load.deliver(delivery, &options, || {
        crash::crash_once(&first);
        arrived = texts(&first.received());
        drop_for_good(first);
        second.wait_for(1, BOUND).unwrap();
        load.wait_for_all(delivery, || {
            [&arrived[..], &texts(&second.received())].concat()
        });
    });
    second.wait_for_the_end();
    arrived.extend(texts(&second.received()));
    let counts = load.compare(arrived);
    Ok(counts.with_replays(3, &load))
}

/// The first of two servers comes back, and the second one crashes with acknowledged
/// bytes unread while its connection is being closed.
pub(crate) fn failback(delivery: Delivery) -> Outcome {
    let load = Load {
        // The whole load fits into the receiver's buffer.
        chunks: 4,
        ..Load::USUAL
    };
    let port = free_port();
    let second = receiver(Listen::Tcp);
    let addresses = format!("127.0.0.1:{port}, {}", second.address());
    let options = [
        ("servers", addresses.as_str()),
        ("transport", "tcp"),
        ("failback", "200ms"),
    ];
    let mut first = None;
    let mut arrived = Vec::new();
    second.pause();
    // The output stays open longer than its chunks take.
    let host = Host::new().idle(Duration::from_secs(5));
    load.deliver_by(host, delivery, &options, || {
        crash::wait_for_unread(&second);
        let back = receiver_at(port, Listen::Tcp);
        wait::until(BOUND, || (back.connections() > 0).then_some(())).unwrap();
        second.stop_listening();
        second.reset();
        arrived = texts(&second.received());
        load.wait_for_all(delivery, || {
            [&arrived[..], &texts(&back.received())].concat()
        });
        first = Some(back);
    });
    let first = first.unwrap();
    first.wait_for_the_end();
    arrived.extend(texts(&first.received()));
    Ok(load.compare(arrived).with_replays(1, &load))
}

fn drop_for_good(receiver: Receiver) {
    receiver.pause();
    receiver.reset();
    drop(receiver);
}
