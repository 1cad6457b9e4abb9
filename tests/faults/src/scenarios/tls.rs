//! Certificates that are invalid at first and then replaced.

use rig::pki::Pki;
use rig::port::free_port;
use rig::wait::BOUND;

use super::{ca, receiver_at};
use crate::Outcome;
use crate::load::{Delivery, Load, texts};

pub(crate) fn renewed(delivery: Delivery) -> Outcome {
    let load = Load::USUAL;
    let pki = Pki::new();
    let port = free_port();
    let expired = receiver_at(port, super::tls(pki.expired()));
    let address = expired.address();
    let ca = ca(&pki);
    let options = [("servers", address.as_str()), ("tls_ca_file", ca.as_str())];
    let mut renewed = None;
    let log = load.deliver(delivery, &options, || {
        expired.wait_for_error(BOUND).unwrap();
        assert_eq!(expired.count(), 0);
        drop(expired);
        let receiver = receiver_at(port, super::tls(pki.server()));
        load.wait_for_all(delivery, || texts(&receiver.received()));
        renewed = Some(receiver);
    });
    for said in [
        "CN=expired",
        "2020-01-01",
        "2020-12-31",
        "renew the receiver's certificate",
    ] {
        assert!(log.contains(said), "{said:?} is not in the log:\n{log}");
    }
    Ok(load.arrived(&renewed.unwrap()))
}
