//! What an output counts, for Fluent Bit's own endpoint
//! (`/api/v2/metrics/prometheus`). docs/METRICS.md has the list.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::UNIX_EPOCH;

use parking_lot::Mutex;
use queue::Status;
use syslog::{Totals, Volume};
use transport::{ErrorKind, Event, QueueState};

use crate::abi::cmetrics::{Description, Life, Metric, Registry, label};
use crate::message::{Reason, Tally};

/// Upper bounds of the time to an acknowledgement, in seconds.
const BOUNDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0,
];
const NAME: &CStr = c"name";
const REASON: &CStr = c"reason";

/// The metrics that hold the values of several outputs, in the context of the first of
/// them. In contexts of their own, each output's would take 50 KiB of memory.
static SHARED: Mutex<Weak<All>> = Mutex::new(Weak::new());
/// The most outputs with the same metrics: a new value is compared with all there are.
const SHARERS: usize = 64;

/// The metrics of one output; nothing where the host has none.
#[derive(Clone, Debug)]
pub struct Metrics(Option<Arc<OfOutput>>);

#[derive(Debug)]
struct OfOutput {
    all: Arc<All>,
    /// The output's name.
    name: CString,
    /// What `queue_oldest_timestamp_seconds` is made of.
    oldest: Mutex<Oldest>,
}

/// Held by an output whose context has metrics: they end with it.
#[derive(Debug)]
pub struct Lease(Life);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[derive(Debug)]
struct All {
    life: Life,
    /// How many outputs have values.
    outputs: AtomicUsize,
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
    /// Makes the metrics of the output of this name, during its init. The lease, if
    /// there is one, ends with the output.
    #[must_use]
    pub fn new(registry: Option<&Registry>, output: &str) -> (Self, Option<Lease>) {
        let mut shared = SHARED.lock();
        let has_room =
            |all: &Arc<All>| all.life.lasts() && all.outputs.load(Ordering::Relaxed) < SHARERS;
        let running = shared.upgrade().filter(has_room);
        let (all, lease) = if let Some(all) = running {
            (all, None)
        } else if let Some(all) = registry.and_then(All::new).map(Arc::new) {
            *shared = Arc::downgrade(&all);
            let lease = Lease(all.life.clone());
            (all, Some(lease))
        } else {
            return (Self(None), None);
        };
        let name = label(output);
        all.prepare(&name);
        let of_output = OfOutput {
            all,
            name,
            oldest: Mutex::default(),
        };
        (Self(Some(Arc::new(of_output))), lease)
    }

    /// Shows the maximum size of the queue.
    pub fn show_queue_limit(&self, bytes: usize) {
        if let Some(this) = &self.0 {
            this.add(&this.all.queue.limit, bytes as f64);
        }
    }

    /// Counts a chunk that could not be queued.
    pub fn count_queue_error(&self) {
        if let Some(this) = &self.0 {
            this.add(&this.all.queue.errors, 1.0);
        }
    }

    /// Counts what became of a chunk's records.
    pub fn count(&self, tally: &Tally) {
        let Some(OfOutput { all, name, .. }) = self.0.as_deref() else {
            return;
        };
        for (reason, count) in tally.counts() {
            let metric = if reason.is_drop() {
                &all.dropped
            } else {
                &all.altered
            };
            metric.add(count as f64, &[name, &label(reason.name())]);
        }
    }
}

impl All {
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
            life: registry.life(),
            outputs: AtomicUsize::new(0),
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
            life: _,
            outputs,
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
        outputs.fetch_add(1, Ordering::Relaxed);
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

impl OfOutput {
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
pub struct SinkMetrics {
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
    pub fn new(metrics: Metrics) -> Self {
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
    pub fn on_event(&mut self, event: &Event<'_>) {
        let Some(this) = self.metrics.0.clone() else {
            return;
        };
        let all = &this.all;
        match event {
            Event::Connected { .. } => {
                this.add(&all.connects, 1.0);
                self.connect(&this, true);
            }
            Event::AttemptFailed(error) => count_error(&this, error.kind()),
            Event::ConnectFailed { error, .. } | Event::Disconnected { error, .. } => {
                count_error(&this, error.kind());
                self.connect(&this, false);
            }
            Event::Delivered { took } => this.add(&all.acknowledgement, took.as_secs_f64()),
            Event::Progress {
                totals,
                replay_bytes,
            } => {
                let Totals {
                    sent,
                    acknowledged,
                    resent,
                    exposed_bytes,
                } = *totals;
                this.add_volume(&all.sent, sent, self.totals.sent);
                this.add_volume(&all.acknowledged, acknowledged, self.totals.acknowledged);
                this.add_volume(&all.resent, resent, self.totals.resent);
                let exposed = exposed_bytes - self.totals.exposed_bytes;
                if exposed > 0 {
                    this.add(&all.exposed_bytes, exposed as f64);
                }
                self.totals = *totals;
                let more = *replay_bytes as f64 - self.replay_bytes as f64;
                this.add(&all.replay_bytes, more);
                self.replay_bytes = *replay_bytes;
            }
            Event::Queue(QueueState { status, oldest }) => {
                let more = |now: u64, before: u64| now as f64 - before as f64;
                this.add(&all.queue.bytes, more(status.bytes, self.queue.bytes));
                this.add(
                    &all.queue.messages,
                    more(status.waiting, self.queue.waiting),
                );
                let oldest = oldest.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let oldest = oldest.map(|at| at.as_secs_f64());
                let change = this.oldest.lock().change(self.number, oldest);
                this.add(&all.queue.oldest, change);
                self.queue = *status;
            }
            Event::QueueFailed(_) => this.add(&all.queue.errors, 1.0),
            Event::SendingAgain { .. }
            | Event::MessageRefused(_)
            | Event::MessageRejected { .. }
            | Event::WindowExceedsReplay { .. }
            | Event::ClosedUndelivered { .. }
            | Event::TlsFiles(_) => {}
        }
    }

    fn connect(&mut self, this: &OfOutput, connected: bool) {
        if connected != self.connected {
            this.add(&this.all.connected, if connected { 1.0 } else { -1.0 });
            self.connected = connected;
        }
    }
}

fn count_error(this: &OfOutput, kind: ErrorKind) {
    let errors = &this.all.errors;
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
