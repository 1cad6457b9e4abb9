//! The receiver: threads that read connections, and the messages that they have read.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use socket2::SockRef;

use crate::{Message, ParseError, Splitter};

/// The interval at which a thread that waits for bytes checks whether it must end.
const TICK: Duration = Duration::from_millis(20);
/// The maximum time in which a thread notices that its connection must end.
const END: Duration = Duration::from_secs(30);
const BUFFER: usize = 256 * 1024;

/// The transport that a receiver listens for.
#[derive(Clone, Debug)]
pub enum Listen {
    /// Plain TCP.
    Tcp,
    /// TLS.
    Tls(TlsFiles),
    /// UDP.
    Udp,
}

/// PEM files of a TLS receiver.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The CA of client certificates, if they are required.
    pub client_ca: Option<PathBuf>,
}

/// The options of a receiver.
#[derive(Clone, Debug)]
pub struct Options {
    /// The transport to listen for.
    pub listen: Listen,
    /// The address to listen on.
    pub address: Ipv4Addr,
    /// The port; 0 for any free port.
    pub port: u16,
    /// The framing of TCP and TLS streams.
    pub splitter: Splitter,
    /// Whether messages are kept, instead of only counted.
    pub keep: bool,
    /// The size of the receive buffer, or `None` for the kernel's default.
    pub receive_buffer: Option<usize>,
}

impl Options {
    /// Octet counting on any port; all messages are kept.
    #[must_use]
    pub const fn new(listen: Listen) -> Self {
        Self {
            listen,
            address: Ipv4Addr::LOCALHOST,
            port: 0,
            splitter: Splitter::octet_counting(16 * 1024 * 1024),
            keep: true,
            receive_buffer: None,
        }
    }
}

/// The rate at which streams are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Full,
    /// One byte per second.
    Trickle,
    Paused,
}

/// A frame that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The number of the connection, from 1; 0 for UDP.
    pub connection: u64,
    /// The parsed message.
    pub message: Result<Message, ParseError>,
    /// The bytes of the frame.
    pub raw: Vec<u8>,
}

/// A receiver that runs until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
    /// Threads hold the lock only while they read, so a change is in effect as soon as
    /// the writer has released the lock.
    pace: RwLock<Pace>,
    /// Connections up to this number must be reset.
    reset_up_to: AtomicU64,
    /// Connections up to this number must be closed in an orderly way.
    goodbye_up_to: AtomicU64,
    /// Connections up to this number must be closed without reading everything.
    hang_up_up_to: AtomicU64,
    /// The number of bytes to discard before hanging up.
    discard: AtomicUsize,
    keep: bool,
}

#[derive(Debug, Default)]
struct State {
    received: Vec<Received>,
    count: u64,
    connections: u64,
    errors: Vec<String>,
    /// The connections that are open.
    open: Vec<u64>,
    /// Whether new connections are no longer accepted.
    deaf: bool,
    listener_closed: bool,
    /// The number of frames at which reading pauses.
    pause_at: Option<u64>,
}

impl Receiver {
    /// Starts listening.
    ///
    /// # Errors
    ///
    /// Returns an error if the port is taken or a TLS file cannot be used.
    pub fn start(options: Options) -> io::Result<Self> {
        let Options {
            listen,
            address,
            port,
            splitter,
            keep,
            receive_buffer,
        } = options;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            pace: RwLock::new(Pace::Full),
            reset_up_to: AtomicU64::new(0),
            goodbye_up_to: AtomicU64::new(0),
            hang_up_up_to: AtomicU64::new(0),
            discard: AtomicUsize::new(0),
            keep,
        });
        let tls = match &listen {
            Listen::Tls(files) => Some(Arc::new(server_config(files)?)),
            Listen::Tcp | Listen::Udp => None,
        };
        let at = (address, port);
        let (address, acceptor) = if matches!(listen, Listen::Udp) {
            let socket = UdpSocket::bind(at)?;
            if let Some(size) = receive_buffer {
                SockRef::from(&socket).set_recv_buffer_size(size)?;
            }
            socket.set_read_timeout(Some(TICK))?;
            let address = socket.local_addr()?;
            let shared = Arc::clone(&shared);
            (
                address,
                thread::spawn(move || shared.read_datagrams(&socket)),
            )
        } else {
            let listener = TcpListener::bind(at)?;
            if let Some(size) = receive_buffer {
                // Accepted sockets inherit the size.
                SockRef::from(&listener).set_recv_buffer_size(size)?;
            }
            // Linux applies this timeout to accept(2) too.
            SockRef::from(&listener).set_read_timeout(Some(TICK))?;
            let address = listener.local_addr()?;
            let shared = Arc::clone(&shared);
            let accept = move || accept(listener, &shared, tls.as_ref(), &splitter);
            (address, thread::spawn(accept))
        };
        Ok(Self {
            shared,
            address,
            acceptor: Some(acceptor),
        })
    }

    /// Returns `address:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns all messages received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.state.lock().received.clone()
    }

    /// Returns the messages received after the first `known` messages.
    #[must_use]
    pub fn received_behind(&self, known: usize) -> Vec<Received> {
        let state = self.shared.state.lock();
        state.received.get(known..).unwrap_or_default().to_vec()
    }

    /// Returns the number of frames received, kept or not.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.state.lock().count
    }

    /// Returns the number of connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.state.lock().connections
    }

    /// Returns the errors of connections: framing, TLS, incomplete frames.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.shared.state.lock().errors.clone()
    }

    /// Waits until `count` frames have arrived.
    ///
    /// # Errors
    ///
    /// Returns an error with the number of frames and the connection errors if fewer
    /// frames arrive within `bound`.
    pub fn wait_for(&self, count: u64, bound: Duration) -> Result<Vec<Received>, String> {
        let mut state = self.shared.state.lock();
        let too_few = |state: &mut State| state.count < count;
        let changed = &self.shared.changed;
        if changed
            .wait_while_for(&mut state, too_few, bound)
            .timed_out()
        {
            return Err(format!(
                "{} of {count} messages arrived within {bound:?}; errors: {:?}",
                state.count, state.errors
            ));
        }
        Ok(state.received.clone())
    }

    /// Waits for an error on a connection.
    ///
    /// # Errors
    ///
    /// Returns an error if no connection fails within `bound`.
    pub fn wait_for_error(&self, bound: Duration) -> Result<String, String> {
        let mut state = self.shared.state.lock();
        let none = |state: &mut State| state.errors.is_empty();
        let changed = &self.shared.changed;
        changed.wait_while_for(&mut state, none, bound);
        let first = state.errors.first().cloned();
        first.ok_or_else(|| format!("no connection failed within {bound:?}"))
    }

    /// Resets all connections, whether they were read or not. The connections are
    /// closed when this returns.
    pub fn reset(&self) {
        let last = self.connections();
        self.shared.reset_up_to.fetch_max(last, Ordering::Relaxed);
        self.shared.wait_for_end_of(1..=last);
    }

    /// Closes all connections in an orderly way: sends FIN (with TLS, `close_notify`
    /// first) and reads until the peers have closed their side too, even while the
    /// receiver is paused. The connections are closed when this returns.
    pub fn say_goodbye(&self) {
        let last = self.connections();
        self.shared.goodbye_up_to.fetch_max(last, Ordering::Relaxed);
        self.shared.wait_for_end_of(1..=last);
    }

    /// Closes all connections as many programs do: sends FIN (with TLS, `close_notify`
    /// first), discards at most `discard` bytes, and closes. The kernel sends a reset
    /// if bytes are still unread. The connections are closed when this returns.
    pub fn hang_up(&self, discard: usize) {
        let last = self.connections();
        self.shared.discard.store(discard, Ordering::Relaxed);
        self.shared.hang_up_up_to.fetch_max(last, Ordering::Relaxed);
        self.shared.wait_for_end_of(1..=last);
    }

    /// Waits until all connections are closed, so that everything is read.
    pub fn wait_for_the_end(&self) {
        let last = self.connections();
        self.shared.wait_for_end_of(1..=last);
    }

    /// Waits until the last connection is closed.
    pub fn wait_for_the_end_of_last(&self) {
        let last = self.connections();
        self.shared.wait_for_end_of(last..=last);
    }

    /// Stops accepting connections. Existing connections stay open.
    pub fn stop_listening(&self) {
        let mut state = self.shared.state.lock();
        state.deaf = true;
        let is_open = |state: &mut State| !state.listener_closed;
        self.shared.changed.wait_while(&mut state, is_open);
    }

    /// Stops reading: the connections stay open, and their buffers fill. Nothing that
    /// is sent after this returns is read.
    pub fn pause(&self) {
        *self.shared.pace.write() = Pace::Paused;
    }

    /// Reads one byte per second.
    pub fn trickle(&self) {
        *self.shared.pace.write() = Pace::Trickle;
    }

    /// Returns the number of bytes that the kernel has acknowledged to the peers but
    /// that are not yet read (the receive queues in `proc_net_tcp(5)`).
    ///
    /// # Errors
    ///
    /// Returns an error if `/proc/net/tcp` cannot be read.
    pub fn unread(&self) -> io::Result<u64> {
        const ESTABLISHED: &str = "01";
        let port = format!(":{:04X}", self.port());
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let queues = table.lines().filter_map(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let (local, _, state) = (columns.next()?, columns.next()?, columns.next()?);
            let (_, queue) = columns.next()?.split_once(':')?;
            let ours = local.ends_with(&port) && state == ESTABLISHED;
            ours.then(|| u64::from_str_radix(queue, 16).ok()).flatten()
        });
        Ok(queues.sum())
    }

    /// Resumes reading.
    pub fn resume(&self) {
        self.read_until(None);
    }

    /// Resumes reading, and pauses after this many more frames, so that a sender cannot
    /// finish before [`Receiver::pause`] is called. Frames that are read together with
    /// the last one are received too.
    pub fn resume_for(&self, frames: u64) {
        self.read_until(Some(self.count() + frames));
    }

    fn read_until(&self, pause_at: Option<u64>) {
        self.shared.change(|state| {
            state.pause_at = pause_at;
            *self.shared.pace.write() = Pace::Full;
        });
    }

    /// Waits until reading pauses after [`Receiver::resume_for`].
    ///
    /// # Errors
    ///
    /// Returns an error with the number of received frames if reading does not pause
    /// within `bound`.
    pub fn wait_for_pause(&self, bound: Duration) -> Result<(), String> {
        let mut state = self.shared.state.lock();
        let reads_on = |state: &mut State| state.pause_at.is_some();
        let changed = &self.shared.changed;
        if changed
            .wait_while_for(&mut state, reads_on, bound)
            .timed_out()
        {
            return Err(format!(
                "reading did not pause after {} frames",
                state.count
            ));
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.acceptor.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn is_reset(&self, connection: u64) -> bool {
        connection <= self.reset_up_to.load(Ordering::Relaxed)
    }

    fn wait_for_end_of(&self, connections: RangeInclusive<u64>) {
        let mut state = self.state.lock();
        let are_open =
            |state: &mut State| state.open.iter().any(|number| connections.contains(number));
        if self
            .changed
            .wait_while_for(&mut state, are_open, END)
            .timed_out()
        {
            let error = format!("connections were not closed within {END:?}");
            state.errors.push(error);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn take(&self, connection: u64, frame: &[u8]) {
        let received = self.keep.then(|| Received {
            connection,
            message: crate::message::parse(frame),
            raw: frame.to_vec(),
        });
        self.change(|state| {
            state.count += 1;
            state.received.extend(received);
            let count = state.count;
            if state.pause_at.take_if(|at| count >= *at).is_some() {
                *self.pace.write() = Pace::Paused;
            }
        });
    }

    fn error(&self, connection: u64, error: impl std::fmt::Display) {
        self.change(|state| {
            state
                .errors
                .push(format!("connection {connection}: {error}"));
        });
    }

    fn read_datagrams(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65_536];
        while !self.stopped() {
            let pace = self.pace.read();
            if *pace == Pace::Paused {
                drop(pace);
                thread::park_timeout(TICK);
                continue;
            }
            let read = socket.recv(&mut buffer);
            drop(pace);
            match read {
                Ok(length) => self.take(0, &buffer[..length]),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return self.error(0, error),
            }
        }
    }

    fn read_stream(&self, connection: u64, stream: &mut impl Stream, mut splitter: Splitter) {
        let mut buffer = vec![0; BUFFER];
        let mut told_goodbye = false;
        while !self.stopped() {
            if self.is_reset(connection) {
                return;
            }
            if connection <= self.hang_up_up_to.load(Ordering::Relaxed) {
                stream.say_goodbye();
                let discard = self.discard.load(Ordering::Relaxed).min(BUFFER);
                if discard > 0 {
                    // It is no error if there is nothing to read.
                    let _ = stream.read(&mut buffer[..discard]);
                }
                return;
            }
            if connection <= self.goodbye_up_to.load(Ordering::Relaxed)
                && !std::mem::replace(&mut told_goodbye, true)
            {
                stream.say_goodbye();
            }
            let pace = self.pace.read();
            let most = match *pace {
                _ if told_goodbye => BUFFER,
                Pace::Full => BUFFER,
                Pace::Trickle => 1,
                Pace::Paused => 0,
            };
            if most == 0 {
                drop(pace);
                thread::park_timeout(TICK);
                continue;
            }
            let read = stream.read(&mut buffer[..most]);
            drop(pace);
            match read {
                Ok(0) => break,
                Ok(length) => splitter.push(&buffer[..length]),
                Err(error) if is_timeout(&error) => continue,
                Err(error) => {
                    self.error(connection, error);
                    break;
                }
            }
            if most == 1 {
                self.wait_while_trickling();
            }
            loop {
                match splitter.next_frame() {
                    Ok(Some(frame)) => self.take(connection, frame),
                    Ok(None) => break,
                    Err(error) => return self.error(connection, error),
                }
            }
        }
        if splitter.unfinished() {
            self.error(connection, "the stream ends within a frame");
        }
    }

    /// Waits for one second, or until the pace changes.
    fn wait_while_trickling(&self) {
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until && !self.stopped() && *self.pace.read() == Pace::Trickle {
            thread::park_timeout(TICK);
        }
    }
}

/// A stream that can be closed from this side.
trait Stream: Read {
    fn say_goodbye(&mut self);
}

impl Stream for &TcpStream {
    fn say_goodbye(&mut self) {
        // A failure means that the peer has already closed the connection.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for rustls::StreamOwned<ServerConnection, TcpStream> {
    fn say_goodbye(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
        let _ = self.sock.shutdown(Shutdown::Write);
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn accept(
    listener: TcpListener,
    shared: &Arc<Shared>,
    tls: Option<&Arc<ServerConfig>>,
    splitter: &Splitter,
) {
    let mut threads = Vec::new();
    while !shared.stopped() && !shared.state.lock().deaf {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if is_timeout(&error) => continue,
            Err(error) => {
                shared.change(|state| state.errors.push(format!("cannot accept: {error}")));
                thread::park_timeout(TICK);
                continue;
            }
        };
        let mut number = 0;
        shared.change(|state| {
            state.connections += 1;
            number = state.connections;
            state.open.push(number);
        });
        let (shared, splitter, tls) = (Arc::clone(shared), splitter.clone(), tls.cloned());
        threads.push(thread::spawn(move || {
            serve(&shared, number, stream, tls, splitter);
            shared.change(|state| state.open.retain(|open| *open != number));
        }));
    }
    drop(listener);
    shared.change(|state| state.listener_closed = true);
    for thread in threads {
        let _ = thread.join();
    }
}

fn serve(
    shared: &Shared,
    number: u64,
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    splitter: Splitter,
) {
    if stream.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    let Some(config) = tls else {
        shared.read_stream(number, &mut &stream, splitter);
        if shared.is_reset(number) {
            reset(&stream);
        }
        return;
    };
    match ServerConnection::new(config) {
        Err(error) => shared.error(number, error),
        Ok(connection) => {
            let mut stream = rustls::StreamOwned::new(connection, stream);
            shared.read_stream(number, &mut stream, splitter);
            if shared.is_reset(number) {
                // TLS sends nothing before a reset.
                return reset(&stream.sock);
            }
            stream.say_goodbye();
        }
    }
}

/// Sets the socket to reset its connection when it is closed.
fn reset(socket: &TcpStream) {
    // Closing a socket with a linger time of zero sends a reset.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

fn server_config(files: &TlsFiles) -> io::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(io::Error::other)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(io::Error::other)?;
    builder
        .with_single_cert(certificates(&files.cert)?, key)
        .map_err(io::Error::other)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"<14>1 - host app - - - hello";
    const BOUND: Duration = Duration::from_secs(10);

    fn send(receiver: &Receiver, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(receiver.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    #[test]
    fn messages_arrive_over_tcp() {
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        send(&receiver, &[b"28 ", MESSAGE, b"28 ", MESSAGE].concat());
        let received = receiver.wait_for(2, BOUND).unwrap();
        assert_eq!(received[1].message.as_ref().unwrap().text(), "hello");
        assert!(receiver.errors().is_empty());
    }

    #[test]
    fn an_incomplete_frame_is_an_error() {
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        drop(send(&receiver, &[b"29 ", MESSAGE].concat()));
        receiver.wait_for_error(BOUND).unwrap();
        assert_eq!(receiver.count(), 0);
    }

    #[test]
    fn messages_arrive_over_udp() {
        let receiver = Receiver::start(Options::new(Listen::Udp)).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(MESSAGE, receiver.address()).unwrap();
        let received = receiver.wait_for(1, BOUND).unwrap();
        assert!(received[0].message.is_ok());
    }

    #[test]
    fn after_an_orderly_close_everything_is_read() {
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        let mut stream = send(&receiver, &[b"28 ", MESSAGE].concat());
        receiver.wait_for(1, BOUND).unwrap();
        thread::scope(|scope| {
            let goodbye = scope.spawn(|| receiver.say_goodbye());
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream.write_all(&[b"28 ", MESSAGE].concat()).unwrap();
            drop(stream);
            goodbye.join().unwrap();
        });
        assert_eq!(receiver.count(), 2);
        assert_eq!(receiver.errors(), Vec::<String>::new());
    }

    #[test]
    fn hanging_up_with_unread_bytes_resets_after_the_fin() {
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        let mut stream = send(&receiver, &[b"28 ", MESSAGE].concat());
        receiver.wait_for(1, BOUND).unwrap();
        receiver.pause();
        stream.write_all(&[b"28 ", MESSAGE].concat()).unwrap();
        while receiver.unread().unwrap() == 0 {
            thread::yield_now();
        }
        receiver.hang_up(0);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let error = stream.take_error().unwrap().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(receiver.count(), 1);
    }

    #[test]
    fn a_reset_fails_the_peers_read() {
        let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
        let mut stream = send(&receiver, &[b"28 ", MESSAGE].concat());
        receiver.wait_for(1, BOUND).unwrap();
        receiver.reset();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
