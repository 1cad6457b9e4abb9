//! A receiver that records when each stamped line arrives, in any message format.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

const BEGIN: &[u8] = b"stamp=";
const DIGITS: usize = 20;

/// Returns a text with a stamp.
pub(super) fn stamped(stamp: u64) -> String {
    format!("stamp={stamp:020} {}", "x".repeat(100))
}

/// Returns the stamp of a line that is written now: nanoseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// A receiver that runs until the process exits, with one thread for each connection.
#[derive(Clone)]
pub(super) struct Arrivals {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The stamp and the time of arrival of each line, if lines are kept.
    lines: Mutex<Vec<(u64, u64)>>,
    count: AtomicU64,
    is_kept: bool,
}

impl Arrivals {
    /// Starts a receiver that keeps the stamps and times of all lines, or only counts
    /// them.
    pub(super) fn listen(address: Ipv4Addr, is_kept: bool) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let this = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::new(Shared {
                is_kept,
                ..Shared::default()
            }),
        };
        let shared = Arc::clone(&this.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.read(stream));
            }
        });
        this
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Returns the stamps of all lines, in order of arrival.
    pub(super) fn stamps(&self) -> Vec<u64> {
        self.shared.lines.lock().iter().map(|line| line.0).collect()
    }

    /// Returns the ages of the `written` lines that were written in a span of time.
    /// Lines that have not arrived have their current age.
    pub(super) fn ages(&self, span: std::ops::Range<u64>, written: usize) -> Vec<Duration> {
        let lines = self.shared.lines.lock();
        let found = lines.iter().filter(|(stamp, _)| span.contains(stamp));
        let mut ages: Vec<Duration> = found
            .map(|(stamp, at)| Duration::from_nanos(at.saturating_sub(*stamp)))
            .collect();
        let missing = written.saturating_sub(ages.len());
        ages.extend(vec![Duration::from_nanos(now() - span.start); missing]);
        ages
    }
}

impl Shared {
    fn read(&self, mut stream: TcpStream) {
        let mut buffer = vec![0; 256 * 1024];
        let mut kept = 0;
        while let Ok(length @ 1..) = stream.read(&mut buffer[kept..]) {
            let at = now();
            let bytes = &buffer[..kept + length];
            let mut rest = 0;
            let mut found = Vec::new();
            while let Some(begin) = memchr::memmem::find(&bytes[rest..], BEGIN) {
                let digits = rest + begin + BEGIN.len();
                let Some(stamp) = bytes.get(digits..digits + DIGITS) else {
                    rest += begin;
                    break;
                };
                let text = std::str::from_utf8(stamp).unwrap();
                found.push((text.parse().unwrap(), at));
                rest = digits + DIGITS;
            }
            self.count.fetch_add(found.len() as u64, Ordering::Relaxed);
            if self.is_kept {
                self.lines.lock().extend(found);
            }
            // The end of the buffer may contain the beginning of a stamp.
            let from = rest.max(bytes.len().saturating_sub(BEGIN.len() + DIGITS - 1));
            let end = bytes.len();
            buffer.copy_within(from..end, 0);
            kept = end - from;
        }
    }
}
