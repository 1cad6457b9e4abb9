//! Delivery over sockets on the loopback interface.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};

use common::{BOUND, RETRY, batch, open, open_name, texts};
use receiver::{Listen, Options, Receiver};
use syslog::{Batch, Framing, Outcome};
use transport::{Sender, Transport};

fn receiver() -> Receiver {
    Receiver::start(Options::new(Listen::Tcp)).unwrap()
}

#[test]
fn delivered_messages_arrive_in_order() {
    let sender = Sender::start().unwrap();
    let receiver = receiver();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    for round in 0..100 {
        let (outcome, _) = fixture
            .sink
            .deliver(batch(&[&round.to_string(), "more"]), 0);
        assert_eq!(outcome, Outcome::Delivered);
    }
    let expected: Vec<String> = (0..100)
        .flat_map(|n| [n.to_string(), "more".to_owned()])
        .collect();
    assert_eq!(texts(&receiver, 200), expected);
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn submit_reports_the_outcome_to_the_callback() {
    let sender = Sender::start().unwrap();
    let receiver = receiver();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    let (sent, outcomes) = std::sync::mpsc::channel();
    for round in ["one", "two"] {
        let sent = sent.clone();
        let done = move |outcome| sent.send((round, outcome)).unwrap();
        fixture.sink.submit(batch(&[round]), 0, done);
    }
    for round in ["one", "two"] {
        let outcome = outcomes.recv_timeout(BOUND).unwrap();
        assert_eq!(outcome, (round, Outcome::Delivered));
    }
    assert_eq!(texts(&receiver, 2), ["one", "two"]);
}

#[test]
fn a_dropped_sink_closes_its_connection_in_an_orderly_way() {
    let sender = Sender::start().unwrap();
    let receiver = receiver();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    fixture.deliver(&["one"]);
    drop(fixture);
    drop(sender);
    assert_eq!(texts(&receiver, 1), ["one"]);
    assert!(receiver.errors().is_empty());
}

/// The kernel acknowledges data even if the listener never calls accept.
#[test]
fn a_name_is_looked_up_and_all_its_addresses_are_tried() {
    let addresses: Vec<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    let last = TcpListener::bind(addresses.last().unwrap()).unwrap();
    let port = last.local_addr().unwrap().port();
    let sender = Sender::start().unwrap();
    let fixture = open_name(&sender, "localhost", port, Transport::Tcp);
    fixture.deliver(&["one"]);
    for _ in 1..addresses.len() {
        fixture.wait_for("attempt failed: cannot connect to");
    }
    fixture.wait_for("connected to");
}

#[test]
fn ipv6_addresses_are_supported() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return eprintln!("skipped: IPv6 is not available");
    };
    let sender = Sender::start().unwrap();
    let address = listener.local_addr().unwrap().to_string();
    open(&sender, &address, Transport::Tcp).deliver(&["one"]);
}

#[test]
fn delivery_fails_fast_while_the_receiver_is_down_and_then_recovers() {
    let sender = Sender::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);

    let fixture = open(&sender, &address.to_string(), Transport::Tcp);
    fixture.wait_for("failed: cannot connect to");
    assert!(fixture.sink.is_down());
    assert_eq!(fixture.sink.deliver(batch(&["x"]), 0).0, RETRY);

    let receiver = Receiver::start(Options {
        port: address.port(),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    fixture.wait_for("connected to");
    fixture.deliver(&["back"]);
    assert_eq!(texts(&receiver, 1), ["back"]);
}

#[test]
fn a_batch_is_sent_again_after_a_reset() {
    let sender = Sender::start().unwrap();
    let receiver = receiver();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    fixture.deliver(&["one"]);
    // A reset can discard data that is acknowledged but unread.
    receiver.wait_for(1, BOUND).unwrap();
    receiver.reset();
    fixture.wait_for("ended: ");
    fixture.deliver(&["two"]);
    assert_eq!(texts(&receiver, 3), ["one", "one", "two"]);
    assert_eq!(receiver.connections(), 2);
}

/// The receiver crashes with bytes that its kernel has acknowledged and its program has
/// not read. Other syslog senders lose these bytes.
#[test]
fn a_crash_with_unread_data_loses_nothing() {
    let sender = Sender::start().unwrap();
    let receiver = receiver();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    fixture.deliver(&["first"]);
    receiver.wait_for(1, BOUND).unwrap();
    for crash in 0..4 {
        receiver.pause();
        for number in 0..10 {
            let text = format!("{crash}-{number}");
            assert_eq!(
                fixture.sink.deliver(batch(&[&text]), 0).0,
                Outcome::Delivered
            );
        }
        receiver.reset();
        receiver.resume();
        fixture.wait_for("replaying");
        // Later messages arrive, and only after the replay.
        fixture.deliver(&[&format!("{crash}-end")]);
    }
    drop(fixture);
    receiver.wait_for_the_end();
    let arrived = texts(&receiver, 0);
    let mut remaining = arrived.iter().skip_while(|text| *text == "first");
    for crash in 0..4 {
        for number in 0..10 {
            let expected = format!("{crash}-{number}");
            assert!(
                remaining.any(|text| *text == expected),
                "{expected} in {arrived:?}"
            );
        }
        let end = format!("{crash}-end");
        assert!(remaining.any(|text| *text == end), "{end} in {arrived:?}");
    }
}

#[test]
fn a_stalled_receiver_times_out_without_delaying_other_sinks() {
    let sender = Sender::start().unwrap();
    let stalled = Receiver::start(Options {
        receive_buffer: Some(4096),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let healthy = receiver();
    let slow = open(&sender, &stalled.address(), Transport::Tcp);
    let fast = open(&sender, &healthy.address(), Transport::Tcp);
    slow.wait_for("connected to");
    fast.wait_for("connected to");
    stalled.pause();

    // Exceeds the socket buffers of both kernels.
    let large = "x".repeat(64 * 1024);
    let huge = batch(&vec![large.as_str(); 256]);
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| slow.sink.deliver(huge, 0).0);
        for round in 0..100 {
            let text = round.to_string();
            assert_eq!(fast.sink.deliver(batch(&[&text]), 0).0, Outcome::Delivered);
        }
        assert_eq!(stalled.join().unwrap(), RETRY);
    });
    slow.wait_for("acknowledged nothing within the write timeout");
    assert_eq!(healthy.count(), 100);
}

#[test]
fn udp_sends_one_message_per_datagram_and_drops_too_long_ones() {
    let sender = Sender::start().unwrap();
    let receiver = Receiver::start(Options::new(Listen::Udp)).unwrap();
    let fixture = open(&sender, &receiver.address(), Transport::Udp);
    let mut datagrams = Batch::new(Framing::Datagram);
    let too_long = "x".repeat(70_000);
    for text in ["one", &too_long, "two"] {
        let mut frame = datagrams.frame();
        write!(frame.bytes(), "<14>1 - - - - - - {text}").unwrap();
        frame.finish();
    }
    assert_eq!(fixture.sink.deliver(datagrams, 0).0, Outcome::Delivered);
    assert_eq!(texts(&receiver, 2), ["one", "two"]);
    fixture.wait_for("too long: a message of 70018 bytes does not fit into a datagram");
}

#[test]
fn a_closed_udp_port_is_detected() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    let sender = Sender::start().unwrap();
    let fixture = open(&sender, &address, Transport::Udp);
    let mut datagrams = Batch::new(Framing::Datagram);
    let mut frame = datagrams.frame();
    frame.bytes().extend_from_slice(b"<14>1 - - - - - -");
    frame.finish();
    let _ = fixture.sink.deliver(datagrams, 0);
    fixture.wait_for("ended: the connection to");
}

#[test]
fn closing_completes_in_time_while_the_receiver_is_stalled() {
    let sender = Sender::start().unwrap();
    let stalled = Receiver::start(Options {
        receive_buffer: Some(4096),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let fixture = open(&sender, &stalled.address(), Transport::Tcp);
    fixture.wait_for("connected to");
    stalled.pause();
    let large = "x".repeat(64 * 1024);
    let huge = batch(&vec![large.as_str(); 256]);
    assert_eq!(fixture.sink.deliver(huge, 0).0, RETRY);
    drop(fixture);
    drop(sender);
}
