//! The metrics of outputs, which Fluent Bit exports at `/api/v2/metrics/prometheus`.
//! docs/METRICS.md lists them.
//!
//! Up to 64 outputs share a context of metrics, that of the first of them. Fluent Bit
//! gives each output a context. Twenty metrics with their names, labels and tables take
//! 50 KiB there, half of the memory of a sink. When the first output ends, as all do at
//! an exit or a reload, the values of the others no longer change. Not all outputs are
//! in one context, because Fluent Bit compares a new value with all existing ones.

use std::ffi::{CStr, CString};
use std::sync::{Arc, Weak};
use std::time::UNIX_EPOCH;

use fluent_bit::cmetrics::{Description, Liveness, Metric, Prefix, Registry, label};
use mapper::message::{LossReason, Tally};
use parking_lot::Mutex;
use queue::Status;
use syslog::{Totals, Volume};
use transport::{DeliveryEvent, ErrorKind, QueueState};

/// The upper bounds of the histogram of acknowledgement times, in seconds.
const BOUNDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0,
];
/// The prefix of all names, `syslog_sink_`.
pub(crate) const PREFIX: Prefix = Prefix {
    namespace: c"syslog",
    subsystem: c"sink",
};
const NAME: &CStr = c"name";
const REASON: &CStr = c"reason";

/// The newest metrics, which several outputs share in the context of the first of them.
static NEWEST: Mutex<Newest> = Mutex::new(Newest {
    metrics: Weak::new(),
    outputs: 0,
});
/// The maximum number of outputs that share metrics.
const MAX_OUTPUTS: usize = 64;

/// The metrics that were created last.
struct Newest {
    metrics: Weak<SharedMetrics>,
    /// The number of outputs that share the metrics.
    outputs: usize,
}

/// The metrics of one output. Does nothing if the host does not support metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Option<Arc<OutputMetrics>>);

#[derive(Debug)]
struct OutputMetrics {
    shared: Arc<SharedMetrics>,
    /// The output's name.
    name: CString,
    /// The value of `queue_oldest_timestamp_seconds`.
    oldest: Mutex<Oldest>,
}

/// A guard of the output that owns the metrics' context. Dropping it, before the host
/// frees the context, disables the metrics.
#[derive(Debug)]
pub(crate) struct ContextGuard(Liveness);

impl Drop for ContextGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[derive(Debug)]
struct SharedMetrics {
    liveness: Liveness,
    sent: VolumeMetrics,
    acknowledged: VolumeMetrics,
    resent: VolumeMetrics,
    dropped: Metric,
    altered: Metric,
    connected: Metric,
    connects: Metric,
    errors: Metric,
    replay_bytes: Metric,
    exposed_bytes: Metric,
    queue: QueueMetrics,
    acknowledgement: Metric,
}

#[derive(Debug)]
struct QueueMetrics {
    bytes: Metric,
    limit: Metric,
    messages: Metric,
    oldest: Metric,
    errors: Metric,
}

/// The Unix times, in seconds, at which the oldest waiting messages were queued.
#[derive(Debug, Default)]
struct Oldest {
    /// The time of each destination, or `None` if no message waits.
    destinations: Vec<Option<f64>>,
    /// The minimum of all destinations, or zero if no message waits.
    output: f64,
}

impl Oldest {
    /// Updates the time of a destination. Returns the change of the output's time.
    fn update(&mut self, destination: usize, time: Option<f64>) -> f64 {
        self.destinations[destination] = time;
        let times = self.destinations.iter().flatten().copied();
        let oldest = times.min_by(f64::total_cmp).unwrap_or(0.0);
        oldest - std::mem::replace(&mut self.output, oldest)
    }
}

#[derive(Debug)]
struct VolumeMetrics {
    messages: Metric,
    bytes: Metric,
}

impl Metrics {
    /// Creates the metrics of the output with this name, during its init. If there is a
    /// guard, the output must drop it after its other parts.
    #[must_use]
    pub(crate) fn new(registry: Option<&Registry>, output: &str) -> (Self, Option<ContextGuard>) {
        let mut newest = NEWEST.lock();
        let existing = newest
            .metrics
            .upgrade()
            .filter(|shared| shared.liveness.is_alive() && newest.outputs < MAX_OUTPUTS);
        let (shared, guard) = if let Some(shared) = existing {
            (shared, None)
        } else if let Some(shared) = registry.and_then(SharedMetrics::new).map(Arc::new) {
            *newest = Newest {
                metrics: Arc::downgrade(&shared),
                outputs: 0,
            };
            let guard = ContextGuard(shared.liveness.clone());
            (shared, Some(guard))
        } else {
            return (Self(None), None);
        };
        newest.outputs += 1;
        let name = label(output);
        shared.prepare(&name);
        let metrics = OutputMetrics {
            shared,
            name,
            oldest: Mutex::default(),
        };
        (Self(Some(Arc::new(metrics))), guard)
    }

    /// Ends the sharing of the existing metrics, after the inits of all outputs. From
    /// then on the host may read them, and no series may be added.
    pub(crate) fn seal() {
        NEWEST.lock().metrics = Weak::new();
    }

    /// Sets the maximum size of the queue, 0 without a queue. To be called once.
    pub(crate) fn set_queue_limit(&self, bytes: usize) {
        if let Some(this) = &self.0 {
            this.add(&this.shared.queue.limit, bytes as f64);
        }
    }

    /// Counts a chunk that could not be queued.
    pub(crate) fn count_queue_error(&self) {
        if let Some(this) = &self.0 {
            this.add(&this.shared.queue.errors, 1.0);
        }
    }

    /// Counts the losses of a chunk.
    pub(crate) fn count(&self, tally: &Tally) {
        let Some(OutputMetrics { shared, name, .. }) = self.0.as_deref() else {
            return;
        };
        for (reason, count) in tally.counts() {
            let metric = if reason.is_drop() {
                &shared.dropped
            } else {
                &shared.altered
            };
            metric.add(count as f64, &[name, &label(reason.name())]);
        }
    }
}

impl SharedMetrics {
    /// Creates the metrics, without series.
    fn new(registry: &Registry) -> Option<Self> {
        let counter = |name, help| {
            let labels = &[NAME];
            registry.counter(Description { name, help, labels })
        };
        let gauge = |name, help| {
            let labels = &[NAME];
            registry.gauge(Description { name, help, labels })
        };
        let by_reason = |name, help| {
            let labels = &[NAME, REASON];
            registry.counter(Description { name, help, labels })
        };
        let latency = Description {
            name: c"acknowledgement_seconds",
            help: c"Time from sending a chunk's first byte to the acknowledgement of its last byte",
            labels: &[NAME],
        };
        Some(Self {
            liveness: registry.liveness(),
            sent: VolumeMetrics {
                messages: counter(
                    c"sent_messages_total",
                    c"Messages sent, including resent ones",
                )?,
                bytes: counter(
                    c"sent_bytes_total",
                    c"Bytes of frames sent, including resent ones",
                )?,
            },
            acknowledged: VolumeMetrics {
                messages: counter(
                    c"acknowledged_messages_total",
                    c"Messages acknowledged by the receiver",
                )?,
                bytes: counter(
                    c"acknowledged_bytes_total",
                    c"Bytes of frames acknowledged by the receiver",
                )?,
            },
            resent: VolumeMetrics {
                messages: counter(
                    c"resent_messages_total",
                    c"Messages resent because a receiver may have lost them unread",
                )?,
                bytes: counter(
                    c"resent_bytes_total",
                    c"Bytes of frames resent because a receiver may have lost them unread",
                )?,
            },
            dropped: by_reason(c"dropped_records_total", c"Records dropped")?,
            altered: by_reason(c"altered_records_total", c"Records altered before sending")?,
            connected: gauge(c"connected", c"Connections that are ready for messages")?,
            connects: counter(c"connects_total", c"Connections established")?,
            errors: by_reason(
                c"errors_total",
                c"Connection attempts that failed and connections that ended",
            )?,
            replay_bytes: gauge(
                c"replay_buffer_bytes",
                c"Bytes of frames kept in the replay buffer",
            )?,
            exposed_bytes: counter(
                c"exposed_bytes_total",
                c"Bytes of frames that a receiver may have lost unread and that were no longer kept",
            )?,
            queue: QueueMetrics::new(gauge, counter)?,
            acknowledgement: registry.histogram(latency, &BOUNDS)?,
        })
    }

    /// Adds the series of an output, with the value zero.
    fn prepare(&self, output: &CStr) {
        let Self {
            liveness: _,
            sent,
            acknowledged,
            resent,
            dropped,
            altered,
            connected,
            connects,
            errors,
            replay_bytes,
            exposed_bytes,
            queue,
            acknowledgement,
        } = self;
        let volumes = [sent, acknowledged, resent];
        let volumes = volumes.map(|volume| [&volume.messages, &volume.bytes]);
        let single = [
            connected,
            connects,
            replay_bytes,
            exposed_bytes,
            acknowledgement,
        ];
        let all = volumes.into_iter().flatten().chain(single);
        for metric in all.chain(queue.all()) {
            metric.prepare(&[output]);
        }
        let by_reason = |metric: &Metric, reason| metric.prepare(&[output, &label(reason)]);
        for reason in LossReason::ALL {
            let metric = if reason.is_drop() { dropped } else { altered };
            by_reason(metric, reason.name());
        }
        for kind in ErrorKind::ALL {
            by_reason(errors, kind.name());
        }
    }
}

impl OutputMetrics {
    fn add(&self, metric: &Metric, amount: f64) {
        metric.add(amount, &[&self.name]);
    }

    fn add_volume(&self, metrics: &VolumeMetrics, now: Volume, before: Volume) {
        let messages = now.messages - before.messages;
        if messages > 0 {
            self.add(&metrics.messages, messages as f64);
        }
        let bytes = now.bytes - before.bytes;
        if bytes > 0 {
            self.add(&metrics.bytes, bytes as f64);
        }
    }
}

impl QueueMetrics {
    /// Creates each metric from its name and help text.
    fn new(
        gauge: impl Fn(&'static CStr, &'static CStr) -> Option<Metric>,
        counter: impl Fn(&'static CStr, &'static CStr) -> Option<Metric>,
    ) -> Option<Self> {
        Some(Self {
            bytes: gauge(
                c"queue_bytes",
                c"Bytes of the queue on disk, including messages kept for replay",
            )?,
            limit: gauge(
                c"queue_limit_bytes",
                c"Maximum size of the queue on disk, 0 without a queue",
            )?,
            messages: gauge(
                c"queue_messages",
                c"Unacknowledged messages in the queue on disk",
            )?,
            oldest: gauge(
                c"queue_oldest_timestamp_seconds",
                c"Unix time at which the oldest waiting message was queued, 0 if none waits",
            )?,
            errors: counter(
                c"queue_errors_total",
                c"Disk errors of the queue, after which chunks are retried",
            )?,
        })
    }

    const fn all(&self) -> [&Metric; 5] {
        let Self {
            bytes,
            limit,
            messages,
            oldest,
            errors,
        } = self;
        [bytes, limit, messages, oldest, errors]
    }
}

/// The contribution of one destination to its output's metrics.
#[derive(Debug)]
pub(crate) struct DestinationMetrics {
    metrics: Metrics,
    /// The totals that were added to the metrics so far.
    totals: Totals,
    replay_bytes: usize,
    queue: Status,
    /// The destination's number within the output.
    number: usize,
    connected: bool,
}

impl DestinationMetrics {
    /// Registers a destination of an output.
    #[must_use]
    pub(crate) fn new(metrics: Metrics) -> Self {
        let number = metrics.0.as_ref().map_or(0, |output| {
            let destinations = &mut output.oldest.lock().destinations;
            destinations.push(None);
            destinations.len() - 1
        });
        Self {
            metrics,
            number,
            totals: Totals::NOTHING,
            replay_bytes: 0,
            queue: Status::default(),
            connected: false,
        }
    }

    /// Updates the metrics by an event.
    pub(crate) fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        let Some(this) = self.metrics.0.clone() else {
            return;
        };
        let shared = &this.shared;
        match event {
            DeliveryEvent::Connected { .. } => {
                this.add(&shared.connects, 1.0);
                self.set_connected(&this, true);
            }
            DeliveryEvent::AttemptFailed(error) => count_error(&this, error.kind()),
            DeliveryEvent::ConnectFailed { error, .. }
            | DeliveryEvent::Disconnected { error, .. } => {
                count_error(&this, error.kind());
                self.set_connected(&this, false);
            }
            DeliveryEvent::Delivered { took } => {
                this.add(&shared.acknowledgement, took.as_secs_f64());
            }
            DeliveryEvent::Progress {
                totals,
                replay_bytes,
            } => {
                let Totals {
                    sent,
                    acknowledged,
                    resent,
                    exposed_bytes,
                } = *totals;
                this.add_volume(&shared.sent, sent, self.totals.sent);
                this.add_volume(&shared.acknowledged, acknowledged, self.totals.acknowledged);
                this.add_volume(&shared.resent, resent, self.totals.resent);
                let exposed = exposed_bytes - self.totals.exposed_bytes;
                if exposed > 0 {
                    this.add(&shared.exposed_bytes, exposed as f64);
                }
                self.totals = *totals;
                let change = *replay_bytes as f64 - self.replay_bytes as f64;
                this.add(&shared.replay_bytes, change);
                self.replay_bytes = *replay_bytes;
            }
            DeliveryEvent::Queue(QueueState { status, oldest }) => {
                let change = |now: u64, before: u64| now as f64 - before as f64;
                this.add(&shared.queue.bytes, change(status.bytes, self.queue.bytes));
                this.add(
                    &shared.queue.messages,
                    change(status.waiting, self.queue.waiting),
                );
                let oldest = oldest
                    .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                    .map(|since| since.as_secs_f64());
                let oldest_change = this.oldest.lock().update(self.number, oldest);
                this.add(&shared.queue.oldest, oldest_change);
                self.queue = *status;
            }
            DeliveryEvent::QueueFailed(_) => this.add(&shared.queue.errors, 1.0),
            DeliveryEvent::Replaying { .. }
            | DeliveryEvent::MessageTooLong(_)
            | DeliveryEvent::MessageRejected { .. }
            | DeliveryEvent::WindowExceedsReplay { .. }
            | DeliveryEvent::ClosedUndelivered { .. }
            | DeliveryEvent::TlsFilesReloaded(_) => {}
        }
    }

    fn set_connected(&mut self, this: &OutputMetrics, connected: bool) {
        if connected != self.connected {
            this.add(&this.shared.connected, if connected { 1.0 } else { -1.0 });
            self.connected = connected;
        }
    }
}

impl Drop for DestinationMetrics {
    /// Removes the destination's contribution to the gauges, because the output may open
    /// another destination afterwards.
    fn drop(&mut self) {
        self.on_event(&DeliveryEvent::Queue(QueueState {
            status: Status::default(),
            oldest: None,
        }));
        self.on_event(&DeliveryEvent::Progress {
            totals: self.totals,
            replay_bytes: 0,
        });
        if let Some(this) = self.metrics.0.clone() {
            self.set_connected(&this, false);
        }
    }
}

fn count_error(this: &OutputMetrics, kind: ErrorKind) {
    let errors = &this.shared.errors;
    errors.add(1.0, &[&this.name, &label(kind.name())]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_message_is_the_oldest_of_all_destinations() {
        let mut oldest = Oldest {
            destinations: vec![None; 2],
            ..Oldest::default()
        };
        for (destination, time, expected) in [
            (0, None, 0.0),
            (1, Some(200.0), 200.0),
            (0, Some(100.0), 100.0),
            (0, Some(150.0), 150.0),
            (0, None, 200.0),
            (1, None, 0.0),
        ] {
            let before = oldest.output;
            let change = oldest.update(destination, time);
            assert_eq!((before + change, oldest.output), (expected, expected));
        }
    }
}
