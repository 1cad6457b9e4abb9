//! Several servers: failover, return to the first, what goes with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

mod common;

use std::time::Duration;

use common::{BOUND, POLICY, open_target, target, texts};
use receiver::{Listen, Options, Receiver};
use transport::{Endpoint, Sender, Target, Transport};

fn receiver(port: u16) -> Receiver {
    Receiver::start(Options {
        port,
        ..Options::new(Listen::Tcp)
    })
    .unwrap()
}

fn both(first: u16, second: u16) -> Target {
    let endpoint = |port| Endpoint::new("127.0.0.1", port).unwrap();
    Target {
        failback: Duration::from_millis(300),
        ..target(vec![endpoint(first), endpoint(second)], Transport::Tcp)
    }
}

#[test]
fn the_second_server_takes_over_and_the_first_comes_back() {
    let sender = Sender::start().unwrap();
    let (first, second) = (receiver(0), receiver(0));
    let port = first.port();
    let fixture = open_target(&sender, both(port, second.port()));
    fixture.deliver(&["one"]);
    assert_eq!(texts(&first, 1), ["one"]);
    assert_eq!(second.connections(), 0);

    // With the last words unread: the second gets them.
    first.pause();
    fixture.deliver(&["unread"]);
    first.stop_listening();
    first.reset();
    drop(first);
    fixture.wait_for("ended: ");
    fixture.deliver(&["two"]);
    assert_eq!(texts(&second, 3), ["one", "unread", "two"]);

    // Long before the second is left: none of it is in doubt.
    std::thread::sleep(POLICY.close_timeout * 2);
    let first = receiver(port);
    fixture.wait_for(&format!("connected to 127.0.0.1:{port}"));
    fixture.deliver(&["three"]);
    assert_eq!(texts(&first, 1), ["three"]);
    second.wait_for_the_end();
    assert!(second.errors().is_empty(), "{:?}", second.errors());
}

#[test]
fn a_server_that_is_down_from_the_start_costs_nothing() {
    let sender = Sender::start().unwrap();
    let second = receiver(0);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let fixture = open_target(&sender, both(port, second.port()));
    fixture.wait_for("attempt failed: cannot connect to");
    fixture.deliver(&["one"]);
    assert_eq!(texts(&second, 1), ["one"]);
    // The first is tried again beside it, and what goes on goes on.
    fixture.wait_for("attempt failed: cannot connect to");
    fixture.deliver(&["two"]);
    assert_eq!(texts(&second, 2), ["one", "two"]);
    assert_eq!(second.connections(), 1);
}

#[test]
fn when_all_servers_are_down_it_is_said_once_for_all() {
    let sender = Sender::start().unwrap();
    let (first, second) = (receiver(0), receiver(0));
    let ports = (first.port(), second.port());
    drop((first, second));
    let fixture = open_target(&sender, both(ports.0, ports.1));
    let failed = fixture.wait_for("failed: ");
    assert!(failed.starts_with("attempt failed: "), "{failed}");
    let failed = fixture.wait_for("failed: ");
    assert!(failed.starts_with("failed: "), "{failed}");
    assert!(fixture.sink.is_down());
    let second = receiver(ports.1);
    fixture.wait_for("connected to");
    fixture.deliver(&["one"]);
    second.wait_for(1, BOUND).unwrap();
}
