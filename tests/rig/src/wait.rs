//! Waiting for conditions.

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Longer than anything takes that a test waits for, also on a slow machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// Asks `condition` again and again until it gives something.
///
/// # Errors
///
/// Where it gives nothing within `bound`.
pub fn until<T>(bound: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + bound;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(format!("not within {bound:?}"));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A port of 127.0.0.1 that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("there is a free port")
        .port()
}
