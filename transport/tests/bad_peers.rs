//! Misbehaving peers: each causes a clear error and a retry with backoff, and cannot
//! make the sink use unlimited memory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a panic fails the test"
)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use common::{BOUND, RETRY, batch, open};
use receiver::{Listen, Options, Receiver, TlsFiles};
use syslog::{Batch, Framing, Outcome};
use tempfile::TempDir;
use transport::tls::{TlsOptions, TlsTarget};
use transport::{Sender, Transport};

const WELCOME: &[u8] = b"1 rsp 53 200 OK\nrelp_version=0\nrelp_software=x\ncommands=syslog\n";

/// The behaviour of a peer on a connection.
type Behaviour = fn(&mut TcpStream) -> std::io::Result<()>;

/// A peer that shows the same behaviour on every connection, and reports each one to the
/// test.
struct Peer {
    address: String,
    connections: mpsc::Receiver<()>,
}

fn peer(behaviour: Behaviour) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (accepted, connections) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if accepted.send(()).is_err() {
                return;
            }
            thread::spawn(move || {
                // Fails if the sink closes the connection first.
                let _ = behaviour(&mut stream);
            });
        }
    });
    Peer {
        address,
        connections,
    }
}

fn relp() -> Transport {
    Transport::Relp {
        window: 10,
        tls: None,
    }
}

fn tls() -> Transport {
    Transport::Tls(
        TlsTarget::new(TlsOptions {
            insecure_skip_verify: true,
            ..TlsOptions::default()
        })
        .unwrap(),
    )
}

/// Reads until the sink closes the connection.
fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    std::io::copy(stream, &mut std::io::sink()).map(drop)
}

/// Reads until the data contains `text`.
fn read_until(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let mut data = Vec::new();
    while !String::from_utf8_lossy(&data).contains(text) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        data.extend(byte);
    }
    Ok(())
}

fn read_some(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0; 4096]).map(drop)
}

/// Checks that a peer with this behaviour causes the expected error, and that the sink
/// connects again.
fn check(transport: Transport, behaviour: Behaviour, expected: &str) {
    let sender = Sender::start().unwrap();
    let peer = peer(behaviour);
    let framing = match transport {
        Transport::Relp { .. } => Framing::Datagram,
        _ => Framing::OctetCounting,
    };
    let fixture = open(&sender, &peer.address, transport);
    let mut connections = 0;
    while connections < 3 {
        assert_eq!(fixture.sink.deliver(one(framing), 0).0, RETRY, "{expected}");
        connections += peer.connections.try_iter().count();
        thread::yield_now();
    }
    fixture.wait_for(expected);
}

/// A batch of one message.
fn one(framing: Framing) -> Batch {
    let mut batch = Batch::new(framing);
    let mut frame = batch.frame();
    frame.bytes().extend_from_slice(b"<14>1 - - - - - -");
    frame.finish();
    batch
}

#[test]
fn relp_rejects_invalid_frames() {
    let expected = "the received data is not RELP";
    check(
        relp(),
        |s| s.write_all(b"HTTP/1.1 400 Bad Request\r\n"),
        expected,
    );
    check(relp(), |s| s.write_all(b"\0\xff\xfe"), expected);
}

#[test]
fn relp_rejects_endless_frames() {
    let flood: Behaviour = |stream| {
        loop {
            stream.write_all(&[b'9'; 8192])?;
        }
    };
    check(relp(), flood, "has no transaction number");
    let long: Behaviour = |stream| {
        stream.write_all(b"1 rsp 999999999 200 OK")?;
        loop {
            stream.write_all(&[b'x'; 8192])?;
        }
    };
    check(relp(), long, "announces 999999999 bytes of data");
}

#[test]
fn relp_without_answers_times_out() {
    // The connect timeout includes the handshake.
    check(relp(), drain, "no answer within the connect timeout");
    let silent: Behaviour = |stream| {
        stream.write_all(WELCOME)?;
        drain(stream)
    };
    check(
        relp(),
        silent,
        "acknowledged nothing within the write timeout",
    );
}

#[test]
fn relp_rejects_unexpected_answers() {
    let wrong: Behaviour = |stream| {
        stream.write_all(WELCOME)?;
        read_some(stream)?;
        stream.write_all(b"77 rsp 6 200 OK\n")?;
        drain(stream)
    };
    check(relp(), wrong, "unexpected response to transaction 77");
    let refusing: Behaviour = |stream| {
        stream.write_all(WELCOME)?;
        read_until(stream, "2 syslog")?;
        stream.write_all(b"2 rsp 13 500 no thanks\n")?;
        drain(stream)
    };
    check(
        relp(),
        refusing,
        "the server rejected the command \"syslog\": \"500 no thanks",
    );
    let refusing: Behaviour = |s| s.write_all(b"1 rsp 11 500 go away\n");
    check(relp(), refusing, "the server rejected the command \"open\"");
    let closing: Behaviour = |s| s.write_all(b"0 serverclose 0\n");
    check(
        relp(),
        closing,
        "the server closed the session (serverclose)",
    );
}

#[test]
fn relp_with_correct_answers_delivers() {
    let good: Behaviour = |stream| {
        stream.write_all(WELCOME)?;
        read_until(stream, "2 syslog")?;
        stream.write_all(b"2 rsp 6 200 OK\n")?;
        read_until(stream, "3 close 0\n")?;
        stream.write_all(b"3 rsp 0\n0 serverclose 0\n")
    };
    let sender = Sender::start().unwrap();
    let peer = peer(good);
    let fixture = open(&sender, &peer.address, relp());
    let (outcome, _) = fixture.sink.deliver(one(Framing::Datagram), 0);
    assert_eq!(outcome, Outcome::Delivered);
    drop(fixture);
}

#[test]
fn plain_tcp_to_a_tls_port_is_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(Options::new(tls_listener(&dir))).unwrap();
    let sender = Sender::start().unwrap();
    let fixture = open(&sender, &receiver.address(), Transport::Tcp);
    // The receiver's kernel may acknowledge the message before its program reads it.
    let _ = fixture.sink.deliver(batch(&["x"]), 0);
    fixture.wait_for("ended: ");
    receiver.wait_for_error(BOUND).unwrap();
    assert_eq!(receiver.count(), 0);
}

#[test]
fn tls_to_a_plain_tcp_port_fails() {
    let talkative: Behaviour = |stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n")?;
        drain(stream)
    };
    check(tls(), talkative, "TLS with 127.0.0.1");
    let closing: Behaviour = read_some;
    check(tls(), closing, "closed the connection during the handshake");
    check(tls(), drain, "no answer within the connect timeout");
}

#[test]
fn a_peer_that_closes_at_once_is_tried_again() {
    let sender = Sender::start().unwrap();
    let peer = peer(|_| Ok(()));
    let fixture = open(&sender, &peer.address, Transport::Tcp);
    fixture.wait_for("ended: ");
    for _ in 0..3 {
        peer.connections.recv_timeout(BOUND).unwrap();
    }
}

/// The sink discards the data from the peer, and delivers messages meanwhile.
#[test]
fn endless_data_from_a_peer_is_ignored() {
    let sender = Sender::start().unwrap();
    let peer = peer(|stream| {
        let mut reader = stream.try_clone()?;
        thread::spawn(move || drain(&mut reader));
        loop {
            stream.write_all(&[b'x'; 8192])?;
        }
    });
    let fixture = open(&sender, &peer.address, Transport::Tcp);
    for _ in 0..10 {
        fixture.deliver(&["hello"]);
    }
}

fn tls_listener(dir: &TempDir) -> Listen {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    std::fs::write(path("cert"), certificate.pem()).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    Listen::Tls(TlsFiles {
        cert: path("cert"),
        key: path("key"),
        client_ca: None,
    })
}
