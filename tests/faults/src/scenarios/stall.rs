//! Receivers that keep the connection open and read nothing, or very slowly.

use std::thread;
use std::time::Duration;

use receiver::{Listen, Receiver};
use rig::wait::BOUND;

use super::receiver;
use crate::Outcome;
use crate::load::{Delivery, Load, texts};

pub(crate) fn minute(delivery: Delivery) -> Outcome {
    with(delivery, Receiver::pause, Duration::from_secs(60))
}

pub(crate) fn trickle(delivery: Delivery) -> Outcome {
    with(delivery, Receiver::trickle, Duration::from_secs(20))
}

fn with(delivery: Delivery, stall: impl FnOnce(&Receiver), span: Duration) -> Outcome {
    let load = Load::USUAL;
    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    let options = [("servers", address.as_str()), ("transport", "tcp")];
    receiver.resume_for(1);
    load.deliver(delivery, &options, || {
        receiver.wait_for_pause(BOUND).unwrap();
        stall(&receiver);
        // The duration itself is tested: longer than write_timeout.
        thread::sleep(span);
        receiver.resume();
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    let connections = receiver.connections() as usize;
    assert!(connections > 1, "the stalled connection was not given up");
    // An incomplete frame is not counted as a message.
    let counts = load.arrived(&receiver);
    Ok(counts.with_replays(connections - 1, &load))
}
