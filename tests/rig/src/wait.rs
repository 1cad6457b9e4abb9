//! Waiting for conditions.

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
