//! The metrics of an input, which Fluent Bit exports at `/api/v2/metrics/prometheus`.
//! docs/METRICS.md lists them.

use std::ffi::{CStr, CString};

use fluent_bit::Host;
use fluent_bit::cmetrics::{Description, Liveness, Metric, Prefix, Registry, label};
use reader::Backlog;
use reader::line::Time;

const PREFIX: Prefix = Prefix {
    namespace: c"pod",
    subsystem: c"logs",
};
const NAME: &[&CStr] = &[c"name"];

/// The metrics of an input. Does nothing if the host does not support metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    name: CString,
    series: Option<Series>,
    /// The values of the gauges of the backlog.
    backlog: (f64, f64),
}

#[derive(Debug)]
struct Series {
    liveness: Liveness,
    lines: Metric,
    bytes: Metric,
    cut: Metric,
    invalid: Metric,
    missing: Metric,
    missing_bytes: Metric,
    containers: Metric,
    unread: Metric,
    since: Metric,
}

/// The counts of an input since the last report.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    pub(crate) cut: u64,
    pub(crate) invalid: u64,
    pub(crate) missing: u64,
    pub(crate) missing_bytes: u64,
    /// The change of the number of containers.
    pub(crate) containers: i64,
}

impl Metrics {
    /// Creates the metrics of an input with this name, during its init.
    pub(crate) fn new(host: &Host, name: &str) -> Self {
        let series = host
            .metrics(PREFIX)
            .and_then(|registry| Series::new(&registry));
        let this = Self {
            name: label(name),
            series,
            backlog: (0.0, 0.0),
        };
        if let Some(series) = &this.series {
            for metric in series.all() {
                metric.prepare(&[&this.name]);
            }
        }
        this
    }

    /// Adds what was counted.
    pub(crate) fn add(&self, counts: &Counts) {
        let Some(series) = &self.series else {
            return;
        };
        let Counts {
            lines,
            bytes,
            cut,
            invalid,
            missing,
            missing_bytes,
            containers,
        } = *counts;
        let amounts = [lines, bytes, cut, invalid, missing, missing_bytes];
        let amounts = amounts.map(|amount| amount as f64);
        let amounts = amounts.into_iter().chain([containers as f64]);
        for (metric, amount) in series.all().into_iter().zip(amounts) {
            if amount != 0.0 {
                metric.add(amount, &[&self.name]);
            }
        }
    }

    /// Sets what is not read yet.
    pub(crate) fn set_backlog(&mut self, backlog: Backlog) {
        let seconds = |time: Time| time.seconds as f64 + f64::from(time.nanos) / 1e9;
        let now = (backlog.bytes as f64, backlog.since.map_or(0.0, seconds));
        let before = std::mem::replace(&mut self.backlog, now);
        if let Some(series) = &self.series
            && now != before
        {
            series.unread.add(now.0 - before.0, &[&self.name]);
            series.since.add(now.1 - before.1, &[&self.name]);
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        if let Some(series) = &self.series {
            series.liveness.end();
        }
    }
}

impl Series {
    fn new(registry: &Registry) -> Option<Self> {
        let describe = |name, help| Description {
            name,
            help,
            labels: NAME,
        };
        let counter = |name, help| registry.counter(describe(name, help));
        Some(Self {
            liveness: registry.liveness(),
            lines: counter(c"read_lines_total", c"Lines of containers read")?,
            bytes: counter(c"read_bytes_total", c"Bytes of containers' lines read")?,
            cut: counter(
                c"cut_lines_total",
                c"Lines passed on in pieces or without their end",
            )?,
            invalid: counter(
                c"invalid_lines_total",
                c"Lines that the container runtime did not write as one",
            )?,
            missing: counter(
                c"missing_total",
                c"Log files that were deleted, truncated or damaged before they were read",
            )?,
            missing_bytes: counter(
                c"missing_bytes_total",
                c"Bytes that are known to be in such files",
            )?,
            containers: registry.gauge(describe(c"containers", c"Containers that are read"))?,
            unread: registry.gauge(describe(
                c"unread_bytes",
                c"Bytes of log files that are not read yet",
            ))?,
            since: registry.gauge(describe(
                c"behind_timestamp_seconds",
                c"Unix time of the last line read of the container that is furthest behind, or zero",
            ))?,
        })
    }

    /// Returns all metrics: those in the order of [`Counts`] first.
    const fn all(&self) -> [&Metric; 9] {
        let Self {
            liveness: _,
            lines,
            bytes,
            cut,
            invalid,
            missing,
            missing_bytes,
            containers,
            unread,
            since,
        } = self;
        [
            lines,
            bytes,
            cut,
            invalid,
            missing,
            missing_bytes,
            containers,
            unread,
            since,
        ]
    }
}
