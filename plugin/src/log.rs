//! What an output says in Fluent Bit's log, and how often.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use transport::{Error, Event, Observer};

use crate::abi::host::{Host, Level};

/// How often a line of one kind is written.
const EVERY: Duration = Duration::from_secs(30);

/// The log of one output.
#[derive(Clone, Debug)]
pub struct Log {
    host: Host,
    name: String,
}

impl Log {
    /// A log whose lines begin with the output's name.
    #[must_use]
    pub const fn new(host: Host, name: String) -> Self {
        Self { host, name }
    }

    /// Writes a line.
    pub fn write(&self, level: Level, text: &str) {
        if self.host.logs(level) {
            let line = format!("[output:syslog_sink:{}] {text}", self.name);
            self.host.print(level, &line);
        }
    }
}

/// Lets the first line pass, and then one in 30 seconds; counts the others.
#[derive(Debug, Default)]
pub struct Limiter {
    last: Option<Instant>,
    suppressed: u64,
}

impl Limiter {
    /// Whether a line may be written now; with it goes how many were not.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
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

/// Writes what happens to the connection. A receiver that is down for long is
/// told of at first, at a bounded rate afterwards, and when it is back.
#[derive(Debug)]
pub struct ConnectionLog {
    log: Log,
    limiters: Mutex<Limiters>,
}

#[derive(Debug, Default)]
struct Limiters {
    connected: Limiter,
    /// The log's last word was that there is no connection.
    told_down: bool,
    attempts: Limiter,
    failures: Limiter,
    ends: Limiter,
    messages: Limiter,
    again: Limiter,
}

impl ConnectionLog {
    /// Writes to `log`.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Self {
            log,
            limiters: Mutex::default(),
        }
    }

    /// Says whether the line was written.
    fn write(
        &self,
        level: Level,
        limiter: impl FnOnce(&mut Limiters) -> &mut Limiter,
        text: impl FnOnce() -> String,
    ) -> bool {
        let admitted = limiter(&mut self.limiters.lock()).admit(Instant::now());
        match admitted {
            None => return false,
            Some(0) => self.log.write(level, &text()),
            Some(more) => self
                .log
                .write(level, &format!("{} ({more} more like this)", text())),
        }
        true
    }

    /// A line that there is no connection any more, and why.
    fn write_down(
        &self,
        level: Level,
        limiter: impl FnOnce(&mut Limiters) -> &mut Limiter,
        text: impl FnOnce() -> String,
    ) {
        if self.write(level, limiter, text) {
            self.limiters.lock().told_down = true;
        }
    }

    /// Whoever was told that there is no connection is told that there is one.
    fn write_connected(&self, peer: SocketAddr) {
        let text = || format!("connected to {peer}");
        if std::mem::take(&mut self.limiters.lock().told_down) {
            self.log.write(Level::Info, &text());
        } else {
            self.write(Level::Info, |limiters| &mut limiters.connected, text);
        }
    }
}

impl Observer for ConnectionLog {
    fn on_event(&self, event: &Event<'_>) {
        match event {
            Event::Connected(peer) => self.write_connected(*peer),
            Event::AttemptFailed(error) => {
                self.write(
                    Level::Warn,
                    |limiters| &mut limiters.attempts,
                    || format!("{}; trying the next address", explain(error)),
                );
            }
            Event::ConnectFailed { error, retry_in } => self.write_down(
                Level::Error,
                |limiters| &mut limiters.failures,
                || format!("{}; retrying in {}", explain(error), seconds(*retry_in)),
            ),
            Event::Disconnected {
                error,
                unfinished,
                retry_in,
            } => self.write_down(
                Level::Warn,
                |limiters| &mut limiters.ends,
                || {
                    format!(
                        "{}; {unfinished} chunks will be sent again; reconnecting in {}",
                        explain(error),
                        seconds(*retry_in)
                    )
                },
            ),
            Event::SendingAgain { bytes } => {
                self.write(
                    Level::Warn,
                    |limiters| &mut limiters.again,
                    || {
                        format!(
                            "the last {bytes} bytes are sent again: the receiver may have lost them unread"
                        )
                    },
                );
            }
            Event::MessageRefused(error) => {
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.messages,
                    || explain(error),
                );
            }
            Event::ClosedUndelivered { batches } => self.log.write(
                Level::Warn,
                &format!("{batches} chunks were not delivered before exit_timeout was over"),
            ),
        }
    }
}

fn explain(error: &Error) -> String {
    match error.hint() {
        None => error.chain(),
        Some(hint) => format!("{} ({hint})", error.chain()),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
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
