//! Tests of how the receiver stalls, resets and closes connections, over real sockets.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::Pki;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const FRAME: &[u8] = b"28 <14>1 - host app - - - hello";
const BOUND: Duration = Duration::from_secs(10);
/// Several times what a reader needs for a frame that it must not read.
const QUIET: Duration = Duration::from_millis(100);

fn tcp() -> Receiver {
    Receiver::start(Options::new(Listen::Tcp)).unwrap()
}

fn connect(receiver: &Receiver) -> TcpStream {
    let mut stream = TcpStream::connect(receiver.address()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(FRAME).unwrap();
    receiver.wait_for(1, BOUND).unwrap();
    stream
}

#[test]
fn nothing_is_read_while_the_receiver_is_paused() {
    for _ in 0..10 {
        let receiver = tcp();
        let mut stream = connect(&receiver);
        receiver.pause();
        stream.write_all(FRAME).unwrap();
        assert!(receiver.wait_for(2, QUIET).is_err());
        receiver.resume();
        receiver.wait_for(2, BOUND).unwrap();
    }
}

#[test]
fn the_receiver_pauses_after_a_number_of_frames() {
    for _ in 0..10 {
        let receiver = tcp();
        let mut stream = connect(&receiver);
        receiver.resume_for(1);
        stream.write_all(FRAME).unwrap();
        receiver.wait_for_pause(BOUND).unwrap();
        stream.write_all(FRAME).unwrap();
        assert!(receiver.wait_for(3, QUIET).is_err());
        receiver.resume();
        receiver.wait_for(3, BOUND).unwrap();
    }
}

#[test]
fn a_stalled_receiver_resets_without_reading() {
    let receiver = tcp();
    let mut stream = connect(&receiver);
    receiver.pause();
    stream.write_all(FRAME).unwrap();
    receiver.reset();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(receiver.count(), 1);
    assert!(receiver.errors().is_empty(), "{:?}", receiver.errors());
}

#[test]
fn a_paused_receiver_that_closes_reads_to_the_end() {
    let receiver = tcp();
    let mut stream = connect(&receiver);
    receiver.pause();
    stream.write_all(FRAME).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| receiver.say_goodbye());
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        stream.write_all(FRAME).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(receiver.count(), 3);
    let mut next = TcpStream::connect(receiver.address()).unwrap();
    next.write_all(FRAME).unwrap();
    assert!(receiver.wait_for(4, QUIET).is_err());
}

#[test]
fn connections_after_a_reset_are_accepted() {
    let receiver = tcp();
    let _reset = connect(&receiver);
    receiver.reset();
    let mut stream = TcpStream::connect(receiver.address()).unwrap();
    stream.write_all(FRAME).unwrap();
    receiver.wait_for(2, BOUND).unwrap();
}

#[test]
fn a_reset_over_tls_sends_no_close_notify() {
    let pki = Pki::new();
    let files = TlsFiles {
        cert: pki.server().cert,
        key: pki.server().key,
        client_ca: None,
    };
    let receiver = Receiver::start(Options::new(Listen::Tls(files))).unwrap();
    let mut stream = tls_client(&receiver, &pki);
    stream.write_all(FRAME).unwrap();
    receiver.wait_for(1, BOUND).unwrap();
    receiver.reset();
    // A preceding close_notify would look like an orderly close.
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn tls_client(receiver: &Receiver, pki: &Pki) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.ca()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(receiver.address()).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        socket,
    )
}

#[test]
fn stopping_a_udp_receiver_opens_no_connection() {
    let receiver = Receiver::start(Options::new(Listen::Udp)).unwrap();
    // TCP and UDP ports are independent: another process may own this TCP port.
    let stranger = TcpListener::bind(receiver.address()).unwrap();
    stranger.set_nonblocking(true).unwrap();
    drop(receiver);
    let nobody: io::Result<_> = stranger.accept();
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::WouldBlock);
}
