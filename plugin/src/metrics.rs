//! What an output counts, for Fluent Bit's own endpoint
//! (`/api/v2/metrics/prometheus`). docs/METRICS.md has the list.

use std::ffi::{CStr, CString};
use std::sync::{Arc, Weak};
use std::time::UNIX_EPOCH;

use mapper::message::{Reason, Tally};
use parking_lot::Mutex;
use queue::Status;
use syslog::{Totals, Volume};
use transport::{DeliveryEvent, ErrorKind, QueueState};

use crate::abi::cmetrics::{Description, Liveness, Metric, Registry, label};

/// Upper bounds of the time to an acknowledgement, in seconds.
const BOUNDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0,
];
const NAME: &CStr = c"name";
const REASON: &CStr = c"reason";

/// The metrics that hold the values of several outputs, in the context of the first of
/// them. In contexts of their own, each output's would take 50 KiB of memory.
static NEWEST: Mutex<Newest> = Mutex::new(Newest {
    metrics: Weak::new(),
    outputs: 0,
});
/// The most outputs with the same metrics. The host compares a series that is added
/// with all that are there.
const MAX_OUTPUTS: usize = 64;

/// The metrics that were made last.
struct Newest {
    metrics: Weak<SharedMetrics>,
    /// How many outputs have values there.
    outputs: usize,
}

/// The metrics of one output; nothing where the host has none.
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

/// Held by an output that owns a context with metrics: they end when it is dropped.
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

/// When the oldest message that waits was queued, in seconds since the epoch, of each
/// of an output's sinks.
#[derive(Debug, Default)]
struct Oldest {
    of_sinks: Vec<Option<f64>>,
    shown: f64,
}

impl Oldest {
    /// Takes a sink's time, and returns how much the output's time changes by it: zero
    /// stands for none.
    fn change(&mut self, sink: usize, time: Option<f64>) -> f64 {
        self.of_sinks[sink] = time;
        let times = self.of_sinks.iter().flatten().copied();
        let oldest = times.min_by(f64::total_cmp).unwrap_or(0.0);
        oldest - std::mem::replace(&mut self.shown, oldest)
    }
}

#[derive(Debug)]
struct VolumeMetrics {
    messages: Metric,
    bytes: Metric,
}

impl Metrics {
    /// Makes the metrics of the output of this name, during its init. The guard, if
    /// there is one, is dropped when the output has ended.
    #[must_use]
    pub(crate) fn new(registry: Option<&Registry>, output: &str) -> (Self, Option<ContextGuard>) {
        let mut newest = NEWEST.lock();
        let running = newest.metrics.upgrade();
        let running =
            running.filter(|shared| shared.liveness.is_alive() && newest.outputs < MAX_OUTPUTS);
        let (shared, guard) = if let Some(shared) = running {
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
        let of_output = OutputMetrics {
            shared,
            name,
            oldest: Mutex::default(),
        };
        (Self(Some(Arc::new(of_output))), guard)
    }

    /// The outputs' inits are over: from now on the host may read, and no series is
    /// added to what there is.
    pub(crate) fn seal() {
        NEWEST.lock().metrics = Weak::new();
    }

    /// Shows the maximum size of the queue.
    pub(crate) fn show_queue_limit(&self, bytes: usize) {
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

    /// Counts what became of a chunk's records.
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
    /// Makes the metrics, without values.
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
            help: c"Time from a chunk's first byte sent to its last one acknowledged",
            labels: &[NAME],
        };
        Some(Self {
            liveness: registry.liveness(),
            sent: VolumeMetrics {
                messages: counter(c"sent_messages_total", c"Messages sent, again or first")?,
                bytes: counter(c"sent_bytes_total", c"Bytes of frames sent, again or first")?,
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
                    c"Messages sent again that a receiver may have lost unread",
                )?,
                bytes: counter(
                    c"resent_bytes_total",
                    c"Bytes of frames sent again that a receiver may have lost unread",
                )?,
            },
            dropped: by_reason(c"dropped_records_total", c"Records that were given up")?,
            altered: by_reason(
                c"altered_records_total",
                c"Records that were not sent as they are",
            )?,
            connected: gauge(c"connected", c"Connections that are ready for messages")?,
            connects: counter(c"connects_total", c"Connections made")?,
            errors: by_reason(c"errors_total", c"Connections that failed or ended")?,
            replay_bytes: gauge(
                c"replay_buffer_bytes",
                c"Bytes of frames kept for sending them again",
            )?,
            exposed_bytes: counter(
                c"exposed_bytes_total",
                c"Bytes of frames that a receiver may have lost unread and that were not kept",
            )?,
            queue: QueueMetrics::new(gauge, counter)?,
            acknowledgement: registry.histogram(latency, &BOUNDS)?,
        })
    }

    /// Makes the values of an output.
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
        for reason in Reason::ALL {
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
    /// Makes each metric from its name and help.
    fn new(
        gauge: impl Fn(&'static CStr, &'static CStr) -> Option<Metric>,
        counter: impl Fn(&'static CStr, &'static CStr) -> Option<Metric>,
    ) -> Option<Self> {
        Some(Self {
            bytes: gauge(
                c"queue_bytes",
                c"Bytes of the queue on disk, messages kept to be sent again included",
            )?,
            limit: gauge(
                c"queue_limit_bytes",
                c"Maximum size of the queue on disk, 0 without a queue",
            )?,
            messages: gauge(
                c"queue_messages",
                c"Messages in the queue on disk that were not acknowledged",
            )?,
            oldest: gauge(
                c"queue_oldest_timestamp_seconds",
                c"Unix time at which the oldest message that waits was queued, 0 if none waits",
            )?,
            errors: counter(
                c"queue_errors_total",
                c"Errors of the queue's disk: what could not be queued is tried again",
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

/// What one of an output's sinks adds to the metrics.
#[derive(Debug)]
pub(crate) struct SinkMetrics {
    metrics: Metrics,
    /// What was added so far.
    totals: Totals,
    replay_bytes: usize,
    queue: Status,
    /// Its number among the sinks of the output.
    number: usize,
    connected: bool,
}

impl SinkMetrics {
    /// Nothing was added yet.
    #[must_use]
    pub(crate) fn new(metrics: Metrics) -> Self {
        let number = metrics.0.as_ref().map_or(0, |of_output| {
            let of_sinks = &mut of_output.oldest.lock().of_sinks;
            of_sinks.push(None);
            of_sinks.len() - 1
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

    /// Adds what happened.
    pub(crate) fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        let Some(this) = self.metrics.0.clone() else {
            return;
        };
        let shared = &this.shared;
        match event {
            DeliveryEvent::Connected { .. } => {
                this.add(&shared.connects, 1.0);
                self.connect(&this, true);
            }
            DeliveryEvent::AttemptFailed(error) => count_error(&this, error.kind()),
            DeliveryEvent::ConnectFailed { error, .. }
            | DeliveryEvent::Disconnected { error, .. } => {
                count_error(&this, error.kind());
                self.connect(&this, false);
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
                let more = *replay_bytes as f64 - self.replay_bytes as f64;
                this.add(&shared.replay_bytes, more);
                self.replay_bytes = *replay_bytes;
            }
            DeliveryEvent::Queue(QueueState { status, oldest }) => {
                let more = |now: u64, before: u64| now as f64 - before as f64;
                this.add(&shared.queue.bytes, more(status.bytes, self.queue.bytes));
                this.add(
                    &shared.queue.messages,
                    more(status.waiting, self.queue.waiting),
                );
                let oldest = oldest.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let oldest = oldest.map(|at| at.as_secs_f64());
                let change = this.oldest.lock().change(self.number, oldest);
                this.add(&shared.queue.oldest, change);
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

    fn connect(&mut self, this: &OutputMetrics, connected: bool) {
        if connected != self.connected {
            this.add(&this.shared.connected, if connected { 1.0 } else { -1.0 });
            self.connected = connected;
        }
    }
}

impl Drop for SinkMetrics {
    /// A sink can end before its output, which then opens another one.
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
            self.connect(&this, false);
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
    fn the_oldest_message_is_that_of_all_servers() {
        let mut oldest = Oldest {
            of_sinks: vec![None; 2],
            ..Oldest::default()
        };
        for (sink, time, shown) in [
            (0, None, 0.0),
            (1, Some(200.0), 200.0),
            (0, Some(100.0), 100.0),
            (0, Some(150.0), 150.0),
            (0, None, 200.0),
            (1, None, 0.0),
        ] {
            let before = oldest.shown;
            let change = oldest.change(sink, time);
            assert_eq!((before + change, oldest.shown), (shown, shown));
        }
    }
}
