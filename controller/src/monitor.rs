//! The controller's own metrics and health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::delivery::EventTally;
use crate::fleet::Fleet;

/// The metrics and the health of the controller. docs/METRICS.md lists the metrics.
#[derive(Debug)]
pub struct Monitor {
    registry: Registry,
    ready: AtomicBool,
    has_failed: Arc<AtomicBool>,
    leading: Gauge<i64, AtomicI64>,
    rounds: Family<Outcome, Counter>,
    plan_seconds: Gauge<f64, AtomicU64>,
    sinks: Family<State, Gauge>,
    agents: Family<State, Gauge>,
    scrapes: Family<Outcome, Counter>,
    status_writes: Family<Outcome, Counter>,
    revisions_rolled_back: Counter,
    rollout_blocked: Gauge,
    events_read: Counter,
    events: Family<Outcome, Counter>,
    events_waiting: Gauge,
    /// The last totals of events, which start again with each leadership.
    events_before: Mutex<EventTally>,
}

/// Marks the process as unhealthy when dropped: a task has ended that must run forever.
#[derive(Debug)]
pub(crate) struct Vital(Arc<AtomicBool>);

impl Drop for Vital {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The label for a result.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    outcome: &'static str,
}

/// The label for a state.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: &'static str,
}

impl Outcome {
    const fn new(is_healthy: bool) -> Self {
        Self {
            outcome: if is_healthy { "success" } else { "error" },
        }
    }
}

/// The numbers of sinks by state.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinkCounts {
    /// Sinks that are not accepted.
    pub refused: usize,
    /// Accepted sinks that are not on all nodes yet.
    pub rolling_out: usize,
    /// Sinks on all nodes.
    pub configured: usize,
    /// Sinks that cannot deliver, of those configured on any node.
    pub failing: usize,
    /// Sinks that deliver less than is written.
    pub behind: usize,
}

impl Default for Monitor {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sink_controller");
        let to = &mut registry;
        let monitor = Self {
            ready: AtomicBool::new(false),
            has_failed: Arc::default(),
            leading: add(to, "leading", "Whether this controller leads"),
            rounds: add(to, "rounds", "Rounds of planning and applying"),
            plan_seconds: add(to, "plan_seconds", "How long the last plan took"),
            sinks: add(to, "sinks", "Sinks by their state"),
            agents: add(to, "agents", "Agents by their state"),
            scrapes: add(to, "scrapes", "Scrapes of agents"),
            status_writes: add(to, "status_writes", "Statuses written"),
            revisions_rolled_back: add(
                to,
                "revisions_rolled_back",
                "Revisions whose agents did not become ready",
            ),
            rollout_blocked: add(
                to,
                "rollout_blocked",
                "Whether nothing is rolled out because agents fail, whatever sinks say",
            ),
            events_read: add(to, "events_read", "Events read from the API server"),
            events: add(to, "events", "Events by outcome, for each sink"),
            events_waiting: add(to, "events_waiting", "Events that wait for their sinks"),
            events_before: Mutex::default(),
            registry: Registry::default(),
        };
        // All are there from the start: nobody sees a first error as an increase
        // of what was not there.
        let Self {
            rounds,
            scrapes,
            status_writes,
            events,
            ..
        } = &monitor;
        for family in [rounds, scrapes, status_writes, events] {
            for is_healthy in [true, false] {
                drop(family.get_or_create(&Outcome::new(is_healthy)));
            }
        }
        monitor.sinks(SinkCounts::default());
        monitor.fleet(&Fleet::default());
        Self {
            registry,
            ..monitor
        }
    }
}

/// Registers a metric.
fn add<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Monitor {
    /// Returns the metrics in the text format of `OpenMetrics`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("a String takes everything");
        text
    }

    /// Returns whether all watches have been listed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Returns whether all tasks that must run are running.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed)
    }

    /// Returns a guard for a task that must run as long as the process.
    pub(crate) fn vital(&self) -> Vital {
        Vital(Arc::clone(&self.has_failed))
    }

    pub(crate) fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Sets whether this controller leads. Without leadership, the metrics about sinks and
    /// agents are reset.
    pub(crate) fn leads(&self, leads: bool) {
        self.leading.set(leads.into());
        self.sinks(SinkCounts::default());
        self.fleet(&Fleet::default());
        self.rollout_blocked.set(0);
        self.events_waiting.set(0);
    }

    pub(crate) fn round(&self, is_healthy: bool) {
        self.rounds.get_or_create(&Outcome::new(is_healthy)).inc();
    }

    pub(crate) fn planned(&self, seconds: f64) {
        self.plan_seconds.set(seconds);
    }

    pub(crate) fn rolled_back(&self) {
        self.revisions_rolled_back.inc();
    }

    pub(crate) fn set_blocked(&self, is_blocked: bool) {
        self.rollout_blocked.set(is_blocked.into());
    }

    pub(crate) fn scraped(&self, is_answered: bool) {
        self.scrapes.get_or_create(&Outcome::new(is_answered)).inc();
    }

    pub(crate) fn wrote_status(&self, is_healthy: bool) {
        self.status_writes
            .get_or_create(&Outcome::new(is_healthy))
            .inc();
    }

    pub(crate) fn read_event(&self) {
        self.events_read.inc();
    }

    pub(crate) fn events(&self, now: EventTally) {
        let before = std::mem::replace(&mut *self.events_before.lock(), now);
        let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let acknowledged = more(now.acknowledged, before.acknowledged);
        let dropped = more(now.dropped, before.dropped);
        let count = |is_healthy, more| {
            self.events
                .get_or_create(&Outcome::new(is_healthy))
                .inc_by(more)
        };
        count(true, acknowledged);
        count(false, dropped);
        self.events_waiting.set(now.waiting.cast_signed());
    }

    pub(crate) fn fleet(&self, fleet: &Fleet) {
        let set = |state, count: usize| {
            self.agents
                .get_or_create(&State { state })
                .set(count as i64)
        };
        set("ready", fleet.ready().count());
        set("wanted", fleet.wanted_nodes.unwrap_or(0));
        set("out_of_reach", fleet.out_of_reach.len());
        set("missing", fleet.missing);
    }

    pub(crate) fn sinks(&self, counts: SinkCounts) {
        let SinkCounts {
            refused,
            rolling_out,
            configured,
            failing,
            behind,
        } = counts;
        for (state, count) in [
            ("refused", refused),
            ("rolling_out", rolling_out),
            ("configured", configured),
            ("failing", failing),
            ("behind", behind),
        ] {
            self.sinks.get_or_create(&State { state }).set(count as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_watch_is_unhealthy() {
        let monitor = Monitor::default();
        let (one, other) = (monitor.vital(), monitor.vital());
        assert!(monitor.is_healthy());
        drop(one);
        assert!(!monitor.is_healthy());
        drop(other);
    }

    #[test]
    fn only_the_leader_exports_sinks_and_agents() {
        let monitor = Monitor::default();
        let before = monitor.text();
        monitor.leads(true);
        let fleet = Fleet {
            wanted_nodes: Some(7),
            missing: 3,
            ..Fleet::default()
        };
        monitor.fleet(&fleet);
        monitor.set_blocked(true);
        monitor.sinks(SinkCounts {
            failing: 3,
            ..SinkCounts::default()
        });
        assert_ne!(monitor.text(), before);
        monitor.leads(false);
        assert_eq!(monitor.text(), before);
    }
}
