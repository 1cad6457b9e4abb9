//! Sees what happens to a sink's connection, and has it written into the log
//! and counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mapper::config::key_of;
use mapper::message::Reason;
use queue::Status;
use transport::tls::TlsError;
use transport::{DeliveryEvent, Error, Observer, QueueState};

use crate::abi::host::Level;
use crate::log::{Limiter, Log};
use crate::metrics::{Metrics, SinkMetrics};
use crate::report::Report;

/// Of one sink. A receiver that is down for long is written of at first, at a
/// bounded rate afterwards, and when it is back.
#[derive(Debug)]
pub(crate) struct Witness {
    log: Log,
    limiters: Limiters,
    /// The log's last word was that there is no connection.
    told_down: bool,
    metrics: SinkMetrics,
    report: Arc<Report>,
    /// The queue's last known content and losses.
    queue: Status,
}

/// One for each kind of line.
#[derive(Debug, Default)]
struct Limiters {
    connected: Limiter,
    attempts: Limiter,
    failures: Limiter,
    ends: Limiter,
    messages: Limiter,
    rejections: Limiter,
    windows: Limiter,
    queue: Limiter,
    again: Limiter,
}

impl Witness {
    /// Writes to `log`, and counts in `metrics`; what is given up is told to
    /// `report`.
    #[must_use]
    pub(crate) fn new(log: Log, metrics: Metrics, report: Arc<Report>) -> Self {
        Self {
            log,
            limiters: Limiters::default(),
            told_down: false,
            metrics: SinkMetrics::new(metrics),
            report,
            queue: Status::default(),
        }
    }

    /// Says whether the line was written.
    fn write(
        &mut self,
        level: Level,
        limiter: impl FnOnce(&mut Limiters) -> &mut Limiter,
        text: impl FnOnce() -> String,
    ) -> bool {
        match limiter(&mut self.limiters).admit(Instant::now()) {
            None => return false,
            Some(0) => self.log.write(level, &text()),
            Some(more) => self
                .log
                .write(level, &format!("{} ({more} more like this)", text())),
        }
        true
    }

    fn write_files(&self, read: Result<(), &TlsError>) {
        match read {
            Ok(()) => self
                .log
                .write(Level::Info, "files of TLS have changed, and were read again"),
            Err(error) => self.log.write(
                Level::Error,
                &format!(
                    "files of TLS have changed, and cannot be used; those before stay in force: {error}"
                ),
            ),
        }
    }

    /// Reports what the queue has lost since the last time.
    fn report_lost(&mut self, queue: Status) {
        let before = std::mem::replace(&mut self.queue, queue);
        for (reason, count) in [
            (Reason::Evicted, queue.evicted - before.evicted),
            (Reason::Unreadable, queue.damaged - before.damaged),
        ] {
            self.report.give_up(reason, count);
        }
    }

    /// Whoever was told that there is no connection is told that there is one.
    fn write_connected(&mut self, peer: SocketAddr) {
        let text = || format!("connected to {peer}");
        if std::mem::take(&mut self.told_down) {
            self.log.write(Level::Info, &text());
        } else {
            self.write(Level::Info, |limiters| &mut limiters.connected, text);
        }
    }
}

impl Observer for Witness {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        self.metrics.on_event(event);
        match event {
            DeliveryEvent::Connected { peer, .. } => self.write_connected(*peer),
            DeliveryEvent::AttemptFailed(error) => {
                self.write(
                    Level::Warn,
                    |limiters| &mut limiters.attempts,
                    || format!("{}; another address is used", explain(error)),
                );
            }
            DeliveryEvent::ConnectFailed { error, retry_in } => {
                self.told_down |= self.write(
                    Level::Error,
                    |limiters| &mut limiters.failures,
                    || format!("{}; retrying in {}", explain(error), seconds(*retry_in)),
                );
            }
            DeliveryEvent::Disconnected {
                error,
                unfinished,
                retry_in,
            } => {
                self.told_down |= self.write(
                    Level::Warn,
                    |limiters| &mut limiters.ends,
                    || {
                        format!(
                            "{}; {unfinished} chunks will be sent again; reconnecting in {}",
                            explain(error),
                            seconds(*retry_in)
                        )
                    },
                );
            }
            DeliveryEvent::Replaying { bytes } => {
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
            DeliveryEvent::MessageTooLong(error) => {
                self.report.give_up(Reason::Datagram, 1);
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.messages,
                    || explain(error),
                );
            }
            DeliveryEvent::MessageRejected { length } => {
                self.report.give_up(Reason::Rejected, 1);
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.rejections,
                    || {
                        format!(
                            "a frame of {length} bytes was given up: the receiver ends the connection whenever it gets it; where messages are too long for the receiver, lower max_message_size"
                        )
                    },
                );
            }
            DeliveryEvent::WindowExceedsReplay { window, kept } => {
                self.write(
                    Level::Warn,
                    |limiters| &mut limiters.windows,
                    || {
                        format!(
                            "the receiver's window of {window} bytes lets it hold more unread than the {kept} bytes kept for sending them again: a crash of the receiver can lose the difference; raise replay_buffer, or use transport relp, where the receiver's program acknowledges each message"
                        )
                    },
                );
            }
            DeliveryEvent::ClosedUndelivered {
                batches,
                replay_bytes,
            } => self.log.write(
                Level::Warn,
                &format!(
                    "closed with {batches} chunks undelivered, and with {replay_bytes} bytes not sent again that the receiver may have lost unread"
                ),
            ),
            DeliveryEvent::Queue(QueueState { status, .. }) => self.report_lost(*status),
            DeliveryEvent::QueueFailed(error) => {
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.queue,
                    || error.chain(),
                );
            }
            DeliveryEvent::TlsFilesReloaded(read) => self.write_files(*read),
            DeliveryEvent::Delivered { .. } | DeliveryEvent::Progress { .. } => {}
        }
    }
}

fn explain(error: &Error) -> String {
    match error.hint() {
        None => error.chain(),
        Some(hint) => format!("{} ({})", error.chain(), hint.text(key_of)),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
