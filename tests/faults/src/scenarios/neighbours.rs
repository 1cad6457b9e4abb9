//! Several outputs in one process.

use host::Host;
use receiver::{Listen, Options, Receiver};
use rig::port::free_port;
use rig::wait::BOUND;

use super::receiver;
use crate::Outcome;
use crate::load::{Counts, Load};

const BACKOFF: [(&str, &str); 2] = [("backoff_min", "50ms"), ("backoff_max", "200ms")];

/// Three outputs finish while the other one is still stalled.
pub(crate) fn stalled() -> Outcome {
    let load = Load::USUAL;
    let slow = receiver(Listen::Tcp);
    let fast: Vec<Receiver> = (0..3).map(|_| receiver(Listen::Tcp)).collect();
    let mut host = Host::new().retries(1000);
    for (number, receiver) in [&slow].into_iter().chain(&fast).enumerate() {
        let address = receiver.address();
        let options = [("servers", address.as_str()), ("transport", "tcp")];
        host = host.output(
            &format!("sink-{number}"),
            &[&BACKOFF[..], &options].concat(),
        );
    }
    slow.pause();
    let run = host.run_while(&load.chunks(), || {
        for receiver in &fast {
            receiver.wait_for(load.total() as u64, BOUND).unwrap();
        }
        assert_eq!(slow.count(), 0);
        slow.resume();
    });
    for flushed in &run.outputs {
        assert_eq!(flushed.ok as usize, load.chunks, "{}", run.log);
    }
    let connections = slow.connections() as usize;
    let all = fast
        .iter()
        .chain([&slow])
        .map(|receiver| load.arrived(receiver));
    Ok(sum(all).with_replays(connections - 1, &load))
}

/// Forty outputs deliver on the first attempt; ten fail at once.
pub(crate) fn dead() -> Outcome {
    const OUTPUTS: usize = 50;
    let load = Load {
        chunks: 20,
        ..Load::USUAL
    };
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let alive = receiver.address();
    let nobody = format!("127.0.0.1:{}", free_port());
    let is_dead = |number: usize| number.is_multiple_of(5);
    let mut host = Host::new();
    for number in 0..OUTPUTS {
        let address = if is_dead(number) { &nobody } else { &alive };
        let name = format!("sink-{number}");
        let options = [
            ("servers", address.as_str()),
            ("transport", "tcp"),
            ("msgid", &name),
        ];
        host = host.output(&name, &options);
    }
    let run = host.run(&load.chunks());
    for (number, flushed) in run.outputs.iter().enumerate() {
        let expected = if is_dead(number) { 0 } else { load.chunks };
        assert_eq!(
            flushed.ok as usize, expected,
            "{}: {}",
            flushed.name, run.log
        );
        assert_eq!(flushed.error, 0);
    }
    receiver.wait_for_the_end();
    let received = receiver.received();
    let of_output = |name: String| {
        let messages = received
            .iter()
            .map(|received| received.message.as_ref().unwrap());
        let of_output = messages.filter(|message| message.msgid.as_ref() == Some(&name));
        load.compare(of_output.map(receiver::Message::text))
    };
    let alive = (0..OUTPUTS).filter(|number| !is_dead(*number));
    Ok(sum(alive.map(|number| of_output(format!("sink-{number}")))))
}

/// Returns the sum of the counts of several loads.
pub(crate) fn sum(counts: impl IntoIterator<Item = Counts>) -> Counts {
    let nothing = Counts {
        sent: 0,
        lost: 0,
        duplicated: 0,
        may_be_duplicated: 0,
        in_order: Some(true),
    };
    counts.into_iter().fold(nothing, |sum, counts| Counts {
        sent: sum.sent + counts.sent,
        lost: sum.lost + counts.lost,
        duplicated: sum.duplicated + counts.duplicated,
        may_be_duplicated: sum.may_be_duplicated + counts.may_be_duplicated,
        in_order: sum
            .in_order
            .zip(counts.in_order)
            .map(|(sum, counts)| sum && counts),
    })
}
