//! Messages of unusual sizes.

use std::collections::HashSet;

use receiver::{Listen, Options, Receiver, Splitter};
use rig::wait::{self, BOUND};

use super::{neighbours, receiver};
use crate::Outcome;
use crate::load::{Counts, Delivery, Load, texts};

pub(crate) fn large(delivery: Delivery) -> Outcome {
    let sizes = [(16 << 10, 100), (1 << 20, 10), (8 << 20, 2)];
    let counts = sizes.map(|(length, lines)| of_length(delivery, length, lines));
    Ok(neighbours::sum(counts))
}

/// One line is longer than the receiver's limit. The receiver closes the connection
/// when it gets the line, as syslog-ng does above its `log-msg-size`.
pub(crate) fn rejected(delivery: Delivery) -> Outcome {
    let load = Load {
        chunks: 30,
        ..Load::USUAL
    };
    let receiver = Receiver::start(Options {
        splitter: Splitter::octet_counting(10_000),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let address = receiver.address();
    let options = [
        ("servers", address.as_str()),
        ("transport", "tcp"),
        ("max_message_size", "64k"),
        ("close_timeout", "200ms"),
        ("write_timeout", "2s"),
    ];
    // In its own chunk, between the other chunks.
    let mut chunks = load.chunks();
    let long = Load {
        chunks: 1,
        lines: 1,
        length: 20_000,
    };
    chunks.splice(15..15, long.chunks());
    // The plugin also reports the drop to the receiver, in a message that is sent with
    // the next chunk. With a queue there is no next chunk.
    let notice = "1 messages dropped because the receiver ended the connection on each attempt";
    let arrived = || {
        let mut arrived = texts(&receiver.received());
        let is_reported = arrived.iter().any(|text| text == notice);
        arrived.retain(|text| text != notice);
        (arrived, is_reported)
    };
    let everything = || {
        let (arrived, is_reported) = arrived();
        let different: HashSet<String> = arrived.into_iter().collect();
        let is_reported = is_reported || delivery == Delivery::Queued;
        (is_reported && different.len() == load.total()).then_some(())
    };
    let log = Load::deliver_chunks(&chunks, delivery, &options, || {
        wait::until(BOUND, everything).unwrap();
    });
    let reason = "the receiver ends the connection each time it gets this frame";
    assert!(log.contains(reason), "{log}");
    receiver.wait_for_the_end();
    let connections = receiver.connections() as usize;
    assert!(
        connections < 40,
        "{connections} connections for one message"
    );
    Ok(load.compare(arrived().0).with_replays(connections, &load))
}

fn of_length(delivery: Delivery, length: usize, lines: usize) -> Counts {
    let load = Load {
        chunks: 2,
        lines,
        length,
    };
    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    let options = [
        ("servers", address.as_str()),
        ("transport", "tcp"),
        ("max_message_size", "16M"),
    ];
    load.deliver(delivery, &options, || {
        load.wait_for_all(delivery, || texts(&receiver.received()));
    });
    load.arrived(&receiver)
}
