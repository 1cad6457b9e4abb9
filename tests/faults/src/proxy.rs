//! A proxy that resets connections at a given byte.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// The interval at which a direction checks whether the other one was reset.
const TICK: Duration = Duration::from_millis(10);

/// A proxy that listens until the process exits.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: String,
    resets: Arc<AtomicUsize>,
}

impl Proxy {
    /// Forwards connections to `target`. Each of the first connections is reset after
    /// this many bytes from the client; later connections are not.
    pub(crate) fn start(target: String, cuts: &[usize]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let resets = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&resets);
        let mut cuts: VecDeque<usize> = cuts.iter().copied().collect();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                // A receiver that is gone counts as another reset.
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                let cut = cuts.pop_front();
                let counter = Arc::clone(&counter);
                thread::spawn(move || pass(&client, &server, cut, &counter));
            }
        });
        Self { address, resets }
    }

    /// Returns `address:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the number of reset connections.
    pub(crate) fn resets(&self) -> usize {
        self.resets.load(Ordering::Relaxed)
    }
}

fn pass(client: &TcpStream, server: &TcpStream, cut: Option<usize>, resets: &AtomicUsize) {
    let cut_now = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| copy(server, client, usize::MAX, &cut_now));
        if copy(client, server, cut.unwrap_or(usize::MAX), &cut_now) {
            cut_now.store(true, Ordering::Relaxed);
        }
    });
    if cut_now.into_inner() {
        for socket in [client, server] {
            // Closing a socket with a linger time of zero sends a reset.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
        resets.fetch_add(1, Ordering::Relaxed);
    }
}

/// Copies this many bytes, and returns whether all were copied. Stops earlier at the
/// end of the stream, which it forwards, or when the other direction is reset.
fn copy(mut from: &TcpStream, mut to: &TcpStream, bytes: usize, cut_now: &AtomicBool) -> bool {
    let _ = from.set_read_timeout(Some(TICK));
    let mut left = bytes;
    let mut buffer = [0; 4096];
    while left > 0 && !cut_now.load(Ordering::Relaxed) {
        let most = buffer.len().min(left);
        match from.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_ok() => left -= count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
    }
    // A FIN before the reset would mean that everything was read.
    if left > 0 && !cut_now.load(Ordering::Relaxed) {
        let _ = to.shutdown(Shutdown::Write);
    }
    left == 0
}
