//! The wait between connection attempts.

use std::time::Duration;

/// An exponential backoff with full jitter above the minimum, so that many sinks
/// that lost the same receiver do not reconnect at the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Creates a backoff with waits between `min` and `max`.
    #[must_use]
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// Counts a failure, and returns the wait before the next attempt. `random` must be
    /// uniformly distributed over all values.
    pub fn fail(&mut self, random: u32) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.min(16);
        let ceiling = self
            .min
            .saturating_mul(1 << doublings)
            .clamp(self.min, self.max.max(self.min));
        let spread = ceiling.saturating_sub(self.min);
        self.min + spread.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Resets the backoff after a success: the next failure counts as the first.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_up_to_the_maximum() {
        let (min, max) = (Duration::from_millis(500), Duration::from_secs(30));
        let mut backoff = Backoff::new(min, max);
        let ceilings: Vec<Duration> = (0..40).map(|_| backoff.fail(u32::MAX)).collect();
        assert!(ceilings.is_sorted());
        assert_eq!(ceilings[0], Duration::from_secs(1));
        assert_eq!(ceilings.last(), Some(&max));
        assert_eq!(backoff.fail(0), min);
        backoff.reset();
        assert_eq!(backoff.fail(u32::MAX), Duration::from_secs(1));
    }
}
