//! Targets with several servers: failover and failback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

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
fn a_sink_fails_over_to_the_second_server_and_back_to_the_first() {
    let sender = Sender::start().unwrap();
    let (first, second) = (receiver(0), receiver(0));
    let port = first.port();
    let fixture = open_target(&sender, both(port, second.port()));
    fixture.deliver(&["one"]);
    assert_eq!(texts(&first, 1), ["one"]);
    assert_eq!(second.connections(), 0);

    // The first server crashes with an unread message, which the second receives.
    first.pause();
    fixture.deliver(&["unread"]);
    first.stop_listening();
    first.reset();
    drop(first);
    fixture.wait_for("ended: ");
    fixture.deliver(&["two"]);
    assert_eq!(texts(&second, 3), ["one", "unread", "two"]);

    // Messages older than close_timeout count as read when failing back.
    std::thread::sleep(POLICY.close_timeout * 2);
    let first = receiver(port);
    fixture.wait_for(&format!("connected to 127.0.0.1:{port}"));
    fixture.deliver(&["three"]);
    assert_eq!(texts(&first, 1), ["three"]);
    second.wait_for_the_end();
    assert!(second.errors().is_empty(), "{:?}", second.errors());
}

#[test]
fn a_server_that_is_down_from_the_start_delays_nothing() {
    let sender = Sender::start().unwrap();
    let second = receiver(0);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let fixture = open_target(&sender, both(port, second.port()));
    fixture.wait_for("attempt failed: cannot connect to");
    fixture.deliver(&["one"]);
    assert_eq!(texts(&second, 1), ["one"]);
    // The first server is tried again while the second stays in use.
    fixture.wait_for("attempt failed: cannot connect to");
    fixture.deliver(&["two"]);
    assert_eq!(texts(&second, 2), ["one", "two"]);
    assert_eq!(second.connections(), 1);
}

#[test]
fn the_failure_of_all_servers_is_reported_once() {
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
