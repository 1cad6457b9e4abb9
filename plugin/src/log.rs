//! Fluent Bit's log, and how often something is written into it.

use std::time::{Duration, Instant};

use crate::abi::host::{Host, Level};

/// How often a line of one kind is written.
const EVERY: Duration = Duration::from_secs(30);

/// The log of one output.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    host: Host,
    name: String,
}

impl Log {
    /// A log whose lines begin with the output's name.
    #[must_use]
    pub(crate) const fn new(host: Host, name: String) -> Self {
        Self { host, name }
    }

    /// Writes a line.
    pub(crate) fn write(&self, level: Level, text: &str) {
        if self.host.logs(level) {
            let line = format!("[output:syslog_sink:{}] {text}", self.name);
            self.host.print(level, &line);
        }
    }
}

/// Lets the first line pass, and then one in 30 seconds; counts the others.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    last: Option<Instant>,
    suppressed: u64,
}

impl Limiter {
    /// Whether a line may be written now; with it goes how many were not.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let quiet = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < EVERY);
        if quiet {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_at_a_bounded_rate() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        assert_eq!(limiter.admit(start), Some(0));
        for second in 1..30 {
            assert_eq!(limiter.admit(start + Duration::from_secs(second)), None);
        }
        assert_eq!(limiter.admit(start + EVERY), Some(29));
        assert_eq!(limiter.admit(start + EVERY), None);
    }
}
