//! Receivers that close connections in an orderly way while bytes that their kernels
//! have acknowledged are unread; and receivers that reject messages.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use common::{BOUND, Fixture, POLICY, batch, open, open_target, target, texts};
use crossbeam_channel::RecvTimeoutError;
use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::Pki;
use rig::wait::until;
use socket2::SockRef;
use syslog::{Batch, Framing, Outcome, Policy};
use transport::tls::{Pem, TlsOptions, TlsTarget};
use transport::{Endpoint, Sender, Target, Transport};

/// Delivers batches that the receiver does not read, and waits until its kernel has
/// received them.
fn deliver_unread(fixture: &Fixture, receiver: &Receiver, count: usize) -> Vec<String> {
    receiver.pause();
    let lines: Vec<String> = (0..count)
        .map(|number| format!("unread {number}"))
        .collect();
    for line in &lines {
        let (outcome, _) = fixture.sink.deliver(batch(&[line]), 0);
        assert_eq!(outcome, Outcome::Delivered);
    }
    until(BOUND, || (receiver.unread().unwrap() > 0).then_some(())).unwrap();
    lines
}

/// Checks that all lines arrive after the receiver has hung up with lines unread.
fn hang_up(listen: Listen, transport: Transport, discard: usize) {
    let sender = Sender::start().unwrap();
    let receiver = Receiver::start(Options::new(listen)).unwrap();
    let fixture = open(&sender, &receiver.address(), transport);
    fixture.deliver(&["first"]);
    receiver.wait_for(1, BOUND).unwrap();
    let lines = deliver_unread(&fixture, &receiver, 20);
    if discard == 0 {
        // Lines older than close_timeout are sent again only after a reset.
        std::thread::sleep(POLICY.close_timeout * 2);
    }
    receiver.hang_up(discard);
    receiver.resume();
    fixture.deliver(&["last"]);
    let missing = || {
        let arrived = texts(&receiver, 0);
        let missing = lines.iter().filter(|line| !arrived.contains(line));
        missing.count()
    };
    until(BOUND, || (missing() == 0).then_some(())).unwrap();
}

fn tls(pki: &Pki) -> (Listen, Transport) {
    let files = pki.server();
    let listen = Listen::Tls(TlsFiles {
        cert: files.cert,
        key: files.key,
        client_ca: None,
    });
    let options = TlsOptions {
        ca: Some(Pem::File(pki.ca())),
        ..TlsOptions::default()
    };
    (listen, Transport::Tls(TlsTarget::new(options).unwrap()))
}

#[test]
fn unread_lines_are_sent_again_after_a_fin_and_a_reset() {
    hang_up(Listen::Tcp, Transport::Tcp, 0);
}

#[test]
fn unread_lines_are_sent_again_after_close_notify_and_a_reset() {
    let pki = Pki::new();
    let (listen, transport) = tls(&pki);
    hang_up(listen, transport, 0);
}

/// The receiver discards what it reads after `close_notify`, like the bidirectional
/// shutdown of OpenSSL, so no reset follows.
#[test]
fn lines_discarded_after_close_notify_are_sent_again() {
    let pki = Pki::new();
    let (listen, transport) = tls(&pki);
    hang_up(listen, transport, 256 * 1024);
}

/// The reset arrives some time after the FIN, and concerns data that was acknowledged
/// long before.
#[test]
fn a_reset_after_a_fin_is_waited_for() {
    let sender = Sender::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let policy = Policy {
        close_timeout: Duration::from_secs(1),
        ..POLICY
    };
    let fixture = open_target(
        &sender,
        Target {
            policy,
            ..target(
                vec![Endpoint::new("127.0.0.1", address.port()).unwrap()],
                Transport::Tcp,
            )
        },
    );
    let (peer, _) = listener.accept().unwrap();
    assert_eq!(
        fixture.sink.deliver(batch(&["unread"]), 0).0,
        Outcome::Delivered
    );
    // Sleeps, because the test depends on the times.
    std::thread::sleep(policy.close_timeout * 2);
    peer.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(policy.close_timeout / 3);
    drop(peer);
    fixture.wait_for("ended: the connection to");
    fixture.wait_for("replaying");
}

/// Everything was read long before the close.
#[test]
fn closing_an_idle_connection_causes_no_duplicates() {
    let sender = Sender::start().unwrap();
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    fixture.deliver(&["first"]);
    receiver.wait_for(1, BOUND).unwrap();
    // The message must be acknowledged long before the close.
    std::thread::sleep(POLICY.close_timeout * 2);
    receiver.hang_up(0);
    fixture.wait_for("ended: ");
    fixture.deliver(&["second"]);
    assert_eq!(texts(&receiver, 2), ["first", "second"]);
}

/// The replaced server crashes with lines unread.
#[test]
fn unread_lines_of_a_replaced_server_are_sent_to_the_preferred_one() {
    let sender = Sender::start().unwrap();
    let listen = |port| {
        Receiver::start(Options {
            port,
            ..Options::new(Listen::Tcp)
        })
        .unwrap()
    };
    let (first, second) = (listen(0), listen(0));
    let port = first.port();
    let endpoint = |port| Endpoint::new("127.0.0.1", port).unwrap();
    let fixture = open_target(
        &sender,
        Target {
            failback: Duration::from_millis(300),
            ..target(
                vec![endpoint(port), endpoint(second.port())],
                Transport::Tcp,
            )
        },
    );
    fixture.deliver(&["one"]);
    first.wait_for(1, BOUND).unwrap();
    first.stop_listening();
    first.reset();
    drop(first);
    fixture.wait_for("ended: ");
    fixture.deliver(&["two"]);
    second.wait_for(1, BOUND).unwrap();
    let lines = deliver_unread(&fixture, &second, 20);
    // The first server is back while the second one stalls and then crashes.
    let first = listen(port);
    until(BOUND, || (first.connections() > 0).then_some(())).unwrap();
    std::thread::sleep(POLICY.close_timeout / 2);
    second.reset();
    fixture.deliver(&["last"]);
    let arrived = texts(&first, 1 + lines.len() as u64);
    let missing = lines.iter().filter(|line| !arrived.contains(line));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Opens a sink whose first server is down and whose second server is this listener.
/// Returns the first server's port and the sink.
fn open_with_dead_first_server(sender: &Arc<Sender>, second: &TcpListener) -> (u16, Fixture) {
    let port = rig::port::free_port();
    let endpoint = |port| Endpoint::new("127.0.0.1", port).unwrap();
    let servers = vec![
        endpoint(port),
        endpoint(second.local_addr().unwrap().port()),
    ];
    let target = Target {
        failback: Duration::from_millis(300),
        policy: Policy {
            close_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(2),
            ..POLICY
        },
        ..target(servers, Transport::Tcp)
    };
    (port, open_target(sender, target))
}

/// The replaced server's FIN arrives after ours, but does not answer it.
#[test]
fn unread_lines_of_a_replaced_server_that_shuts_down_are_sent_again() {
    let sender = Sender::start().unwrap();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, fixture) = open_with_dead_first_server(&sender, &second);
    let (peer, _) = second.accept().unwrap();
    let lines: Vec<String> = (0..20).map(|number| format!("unread {number}")).collect();
    for line in &lines {
        let (outcome, _) = fixture.sink.deliver(batch(&[line]), 0);
        assert_eq!(outcome, Outcome::Delivered);
    }
    let first = Receiver::start(Options {
        port,
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    until(BOUND, || (first.connections() > 0).then_some(())).unwrap();
    // The second server's connection is half-closed meanwhile.
    std::thread::sleep(Duration::from_millis(300));
    peer.shutdown(Shutdown::Both).unwrap();
    drop(peer);
    fixture.deliver(&["last"]);
    let arrived = texts(&first, 1 + lines.len() as u64);
    assert_eq!(arrived[..lines.len()], lines);
}

/// Returns the processor time that this process has used.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the address is that of a valid timespec.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(answer, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn waiting_for_the_end_of_a_replaced_connection_is_no_busy_loop() {
    let sender = Sender::start().unwrap();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    SockRef::from(&second)
        .set_recv_buffer_size(8 * 1024)
        .unwrap();
    let (port, fixture) = open_with_dead_first_server(&sender, &second);
    // The second server reads slowly but steadily, and does not answer the close.
    let (mut peer, _) = second.accept().unwrap();
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let slow = std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while stopped.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            let _ = peer.read(&mut bytes);
        }
    });
    fixture.deliver(&["kept"]);
    let long = "x".repeat(4000);
    let (done, outcome) = crossbeam_channel::bounded(1);
    let on_done = move |outcome| {
        let _ = done.send(outcome);
    };
    let lines = vec![long.as_str(); 5000];
    fixture.sink.submit(batch(&lines), 0, on_done);
    let _first = Receiver::start(Options {
        port,
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    // The first server takes over during the batch, so the connection to the second
    // one is half-closed now.
    outcome.recv_timeout(BOUND).unwrap();
    let before = processor_time();
    std::thread::sleep(Duration::from_secs(1));
    let used = processor_time().saturating_sub(before);
    drop(stop);
    slow.join().unwrap();
    assert!(used < Duration::from_millis(300), "{used:?}");
}

/// Opens a sink to a receiver that accepts messages of up to 1,000 bytes.
fn open_with_message_limit(sender: &Arc<Sender>) -> (Receiver, Fixture) {
    let receiver = Receiver::start(Options {
        splitter: receiver::Splitter::octet_counting(1000),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let fixture = open(sender, &receiver.address(), Transport::Tcp);
    (receiver, fixture)
}

/// The receiver closes the connection at each message of a burst.
#[test]
fn a_burst_of_too_long_messages_is_dropped() {
    let sender = Sender::start().unwrap();
    let (receiver, fixture) = open_with_message_limit(&sender);
    let long = "x".repeat(2000);
    let mut lines = vec![long.as_str(); 9];
    lines.push("last");
    fixture.deliver(&lines);
    until(BOUND * 2, || {
        texts(&receiver, 0)
            .contains(&"last".to_owned())
            .then_some(())
    })
    .unwrap();
}

/// The receiver closes the connection at one message, like syslog-ng at a message above
/// its log-msg-size.
#[test]
fn a_too_long_message_is_dropped_and_the_others_arrive() {
    let sender = Sender::start().unwrap();
    let (receiver, fixture) = open_with_message_limit(&sender);
    let long = "x".repeat(2000);
    fixture.deliver(&["a", "b", &long, "c", "d"]);
    fixture.wait_for("rejected: 2023 bytes");
    fixture.deliver(&["e"]);
    let arrived = || {
        let mut arrived = texts(&receiver, 0);
        arrived.sort();
        arrived.dedup();
        arrived
    };
    until(BOUND, || {
        (arrived() == ["a", "b", "c", "d", "e"]).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", arrived()));
}

/// The message exceeds the receiver's socket buffer, so its end is never acknowledged.
#[test]
fn a_message_longer_than_the_receive_buffer_is_dropped() {
    let sender = Sender::start().unwrap();
    let receiver = Receiver::start(Options {
        splitter: receiver::Splitter::octet_counting(1000),
        receive_buffer: Some(16 * 1024),
        ..Options::new(Listen::Tcp)
    })
    .unwrap();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    let long = "x".repeat(8_000_000);
    let poison = batch(&[&long, "last"]);
    let mut skip = 0;
    // Other batches are delivered in between, as by Fluent Bit.
    let delivered = until(BOUND * 2, || {
        fixture.deliver(&["other"]);
        std::thread::sleep(POLICY.close_timeout);
        match fixture.sink.deliver(poison.clone(), skip).0 {
            Outcome::Delivered => Some(()),
            Outcome::Retry { skip: delivered } => {
                skip = delivered;
                None
            }
        }
    });
    delivered.unwrap();
    fixture.wait_for("rejected: 8000026 bytes");
    until(BOUND, || {
        texts(&receiver, 0)
            .contains(&"last".to_owned())
            .then_some(())
    })
    .unwrap();
}

/// Each message is reported once, and the batch counts as delivered.
#[test]
fn a_batch_of_too_long_datagrams_is_finished() {
    let sender = Sender::start().unwrap();
    let receiver = Receiver::start(Options::new(Listen::Udp)).unwrap();
    let fixture = open(&sender, &receiver.address(), Transport::Udp);
    let mut datagrams = Batch::new(Framing::Datagram);
    for _ in 0..2 {
        let mut frame = datagrams.frame();
        write!(frame.bytes(), "<14>1 - - - - - - {}", "x".repeat(70_000)).unwrap();
        frame.finish();
    }
    assert_eq!(fixture.sink.deliver(datagrams, 0).0, Outcome::Delivered);
    for _ in 0..2 {
        fixture.wait_for("too long: ");
    }
    assert!(
        fixture
            .events
            .try_iter()
            .all(|event| !event.contains("too long"))
    );
}
