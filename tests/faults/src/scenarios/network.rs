//! Networks that lose some or all packets.

use std::thread;
use std::time::Duration;

use host::Host;
use receiver::{Listen, Options, Receiver};
use rig::wait::BOUND;

use super::crash;
use crate::Outcome;
use crate::load::{Delivery, Load, texts};
use crate::namespace::{Namespace, Weather};

/// The other side is gone without FIN or reset.
pub(crate) fn half_open(delivery: Delivery) -> Outcome {
    let load = Load::USUAL;
    let happens = |network: &Namespace, receiver: &Receiver| {
        receiver.wait_for_pause(BOUND).unwrap();
        network.set_weather(Weather {
            loss: 100,
            ..Weather::default()
        });
        receiver.resume();
        // Longer than write_timeout.
        thread::sleep(Duration::from_secs(15));
        network.set_weather(Weather::default());
    };
    let (counts, connections) = through(Host::new(), delivery, &load, Weather::default(), happens)?;
    assert!(connections > 1, "the dead connection was not given up");
    Ok(counts.with_replays(connections - 1, &load))
}

pub(crate) fn slow(delivery: Delivery) -> Outcome {
    let load = Load {
        chunks: 60,
        ..Load::USUAL
    };
    let weather = Weather {
        delay: Duration::from_millis(100),
        loss: 1,
        ..Weather::default()
    };
    let happens = |_: &Namespace, receiver: &Receiver| receiver.resume();
    let (counts, connections) = through(Host::new(), delivery, &load, weather, happens)?;
    Ok(counts.with_replays(connections - 1, &load))
}

/// The receiver closes with unread bytes that were acknowledged long before, and its
/// kernel's reset is lost.
pub(crate) fn lost_reset(delivery: Delivery) -> Outcome {
    let load = Load {
        // The whole load fits into the receiver's buffer.
        chunks: 4,
        ..Load::USUAL
    };
    let happens = |network: &Namespace, receiver: &Receiver| {
        receiver.wait_for_pause(BOUND).unwrap();
        crash::wait_for_unread(receiver);
        // Longer than close_timeout, so that the FIN alone does not put delivered
        // messages in doubt.
        thread::sleep(Duration::from_secs(3));
        // The reset itself, and the one in answer to the FIN's acknowledgement.
        network.set_weather(Weather {
            resets: 2,
            ..Weather::default()
        });
        receiver.hang_up(0);
        receiver.resume();
    };
    // The output stays open longer than its chunks take.
    let host = Host::new().idle(Duration::from_secs(8));
    let (counts, connections) = through(host, delivery, &load, Weather::default(), happens)?;
    Ok(counts.with_replays(connections - 1, &load))
}

/// Delivers through a network. The receiver pauses after the first message, until the
/// fault resumes it.
fn through(
    host: Host,
    delivery: Delivery,
    load: &Load,
    weather: Weather,
    happens: impl FnOnce(&Namespace, &Receiver),
) -> Result<(crate::Counts, usize), crate::Skipped> {
    let network = Namespace::new()?;
    network.set_weather(weather);
    let receiver = Receiver::start(Options {
        address: network.here().parse().unwrap(),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let address = receiver.address();
    let options = [("servers", address.as_str()), ("transport", "tcp")];
    let host = host.wrapper(&network.wrapper());
    receiver.resume_for(1);
    load.deliver_by(host, delivery, &options, || {
        happens(&network, &receiver);
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    let connections = receiver.connections() as usize;
    // The receiver never learns that the dead connection was closed.
    receiver.wait_for_the_end_of_last();
    let counts = load.compare(texts(&receiver.received()));
    Ok((counts, connections))
}
