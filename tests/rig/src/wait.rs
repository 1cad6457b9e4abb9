//! Waiting for conditions.

use std::time::{Duration, Instant};

/// A time limit for everything that a test waits for, even on a slow machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// Polls `condition` until it returns a value.
///
/// # Errors
///
/// Returns an error if it returns no value within `bound`.
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
