//! An instance's lines in Fluent Bit's log, and their rate limit.

use std::time::{Duration, Instant};

use crate::host::{Host, Level};
use crate::plugin::Plugin;

/// The minimum time between log lines of the same kind.
const INTERVAL: Duration = Duration::from_secs(30);

/// The log of one instance.
#[derive(Clone, Debug)]
pub struct Log {
    host: Host,
    /// The beginning of each line, such as `[output:syslog_sink:shop]`.
    prefix: String,
}

impl Log {
    /// Creates a log whose lines begin with the plugin and the instance's name.
    #[must_use]
    pub fn new(host: Host, plugin: Plugin, name: &str) -> Self {
        let prefix = format!("[{plugin}:{name}]");
        Self { host, prefix }
    }

    /// Logs a line, if Fluent Bit logs lines of this level.
    pub fn write(&self, level: Level, text: &str) {
        if self.host.logs(level) {
            self.host.print(level, &format!("{} {text}", self.prefix));
        }
    }
}

/// A rate limit of one line in 30 seconds, which counts suppressed lines.
#[derive(Debug, Default)]
pub struct Limiter {
    last: Option<Instant>,
    suppressed: u64,
}

impl Limiter {
    /// Returns the number of lines suppressed since the last admitted one, or `None` if
    /// this line must be suppressed as well.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let is_too_soon = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < INTERVAL);
        if is_too_soon {
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
    fn lines_are_rate_limited() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        assert_eq!(limiter.admit(start), Some(0));
        for second in 1..30 {
            assert_eq!(limiter.admit(start + Duration::from_secs(second)), None);
        }
        assert_eq!(limiter.admit(start + INTERVAL), Some(29));
        assert_eq!(limiter.admit(start + INTERVAL), None);
    }
}
