//! Logging and counting of a destination's connection events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fluent_bit::{Level, Limiter, Log};
use mapper::config::key_of;
use mapper::message::LossReason;
use queue::Status;
use transport::tls::TlsError;
use transport::{DeliveryEvent, Error, Observer, QueueState};

use crate::loss_report::LossReport;
use crate::metrics::{DestinationMetrics, Metrics};

/// Logs and counts the connection events of one destination: the first failure at
/// once, further ones rate-limited, and the recovery.
#[derive(Debug)]
pub(crate) struct ConnectionLog {
    log: Log,
    limiters: Limiters,
    /// Whether a failure was logged, and no connection since then.
    failure_logged: bool,
    metrics: DestinationMetrics,
    loss_report: Arc<LossReport>,
    /// The last known content and losses of the queue.
    queue: Status,
}

/// A limiter for each kind of log line.
#[derive(Debug, Default)]
struct Limiters {
    connected: Limiter,
    attempts: Limiter,
    failures: Limiter,
    disconnects: Limiter,
    oversize: Limiter,
    rejections: Limiter,
    windows: Limiter,
    queue: Limiter,
    replays: Limiter,
}

impl ConnectionLog {
    /// Creates an observer that logs to `log`, counts in `metrics`, and adds losses to
    /// `loss_report`.
    #[must_use]
    pub(crate) fn new(log: Log, metrics: Metrics, loss_report: Arc<LossReport>) -> Self {
        Self {
            log,
            limiters: Limiters::default(),
            failure_logged: false,
            metrics: DestinationMetrics::new(metrics),
            loss_report,
            queue: Status::default(),
        }
    }

    /// Logs a line unless the limiter suppresses it. Returns whether it was logged.
    fn write(
        &mut self,
        level: Level,
        limiter: impl FnOnce(&mut Limiters) -> &mut Limiter,
        text: impl FnOnce() -> String,
    ) -> bool {
        match limiter(&mut self.limiters).admit(Instant::now()) {
            None => return false,
            Some(0) => self.log.write(level, &text()),
            Some(suppressed) => self.log.write(
                level,
                &format!("{} ({suppressed} similar lines suppressed)", text()),
            ),
        }
        true
    }

    fn log_tls_reload(&self, result: Result<(), &TlsError>) {
        match result {
            Ok(()) => self
                .log
                .write(Level::Info, "TLS files changed and were reloaded"),
            Err(error) => self.log.write(
                Level::Error,
                &format!("TLS files changed but are invalid, keeping the previous ones: {error}"),
            ),
        }
    }

    /// Adds the queue's losses since the last event to the loss report.
    fn add_queue_losses(&mut self, queue: Status) {
        let before = std::mem::replace(&mut self.queue, queue);
        for (reason, count) in [
            (LossReason::Evicted, queue.evicted - before.evicted),
            (LossReason::Unreadable, queue.damaged - before.damaged),
        ] {
            self.loss_report.add(reason, count);
        }
    }

    /// Logs a connection: without a limit after a logged failure, so that the log
    /// always shows the recovery.
    fn log_connected(&mut self, peer: SocketAddr) {
        let text = || format!("connected to {peer}");
        if std::mem::take(&mut self.failure_logged) {
            self.log.write(Level::Info, &text());
        } else {
            self.write(Level::Info, |limiters| &mut limiters.connected, text);
        }
    }
}

impl Observer for ConnectionLog {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        self.metrics.on_event(event);
        match event {
            DeliveryEvent::Connected { peer, .. } => self.log_connected(*peer),
            DeliveryEvent::AttemptFailed(error) => {
                self.write(
                    Level::Warn,
                    |limiters| &mut limiters.attempts,
                    || format!("{}; using another address or server", explain(error)),
                );
            }
            DeliveryEvent::ConnectFailed { error, retry_in } => {
                self.failure_logged |= self.write(
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
                self.failure_logged |= self.write(
                    Level::Warn,
                    |limiters| &mut limiters.disconnects,
                    || {
                        format!(
                            "{}; {unfinished} unacknowledged chunks will be resent; reconnecting in {}",
                            explain(error),
                            seconds(*retry_in)
                        )
                    },
                );
            }
            DeliveryEvent::Replaying { bytes } => {
                self.write(
                    Level::Warn,
                    |limiters| &mut limiters.replays,
                    || {
                        format!(
                            "resending the last {bytes} bytes, which the receiver may have lost unread"
                        )
                    },
                );
            }
            DeliveryEvent::MessageTooLong(error) => {
                self.loss_report.add(LossReason::Datagram, 1);
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.oversize,
                    || explain(error),
                );
            }
            DeliveryEvent::MessageRejected { length } => {
                self.loss_report.add(LossReason::Rejected, 1);
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.rejections,
                    || {
                        format!(
                            "dropped a frame of {length} bytes: the receiver ends the connection each time it gets this frame; if messages are too long for the receiver, lower max_message_size"
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
                            "the receiver's window of {window} bytes exceeds the replay buffer of {kept} bytes: if the receiver crashes, the difference may be lost; raise replay_buffer, or use transport relp, with which the receiver's program acknowledges each message"
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
                    "output closed with {batches} undelivered chunks, and {replay_bytes} bytes that the receiver may have lost unread were not resent"
                ),
            ),
            DeliveryEvent::Queue(QueueState { status, .. }) => self.add_queue_losses(*status),
            DeliveryEvent::QueueFailed(error) => {
                self.write(
                    Level::Error,
                    |limiters| &mut limiters.queue,
                    || error.chain(),
                );
            }
            DeliveryEvent::TlsFilesReloaded(result) => self.log_tls_reload(*result),
            DeliveryEvent::Delivered { .. } | DeliveryEvent::Progress { .. } => {}
        }
    }
}

/// Formats an error with its causes, and with a hint how to fix it if there is one.
fn explain(error: &Error) -> String {
    match error.hint() {
        None => error.chain(),
        Some(hint) => format!("{} ({})", error.chain(), hint.text(key_of)),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
