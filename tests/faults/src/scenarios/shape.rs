//! Messages of unusual sizes.

use receiver::Listen;

use super::{neighbours, receiver};
use crate::Outcome;
use crate::load::{Counts, Load};

pub(crate) fn large() -> Outcome {
    let sizes = [(16 << 10, 100), (1 << 20, 10), (8 << 20, 2)];
    let counts = sizes.map(|(length, lines)| of_length(length, lines));
    Ok(neighbours::sum(counts))
}

fn of_length(length: usize, lines: usize) -> Counts {
    let load = Load {
        chunks: 2,
        lines,
        length,
    };
    let receiver = receiver(Listen::Tcp);
    let address = receiver.address();
    let options = [
        ("addr", address.as_str()),
        ("transport", "tcp"),
        ("max_message_size", "16M"),
    ];
    load.deliver(&options, || {});
    load.arrived(&receiver)
}
