//! The agents' delivery, from their metrics (docs/METRICS.md).
//!
//! The condition `Delivering` reports the agents' counters. Agents connect before there is
//! anything to send. A connection that has only just ended is not a failure yet.
//!
//! A sink is behind by either of two criteria: its oldest message has waited for a minute (by
//! default), or its queue is half full. The first detects a slow receiver, the second a sudden
//! flood. Ages are computed with the agent's own clock, which is part of Fluent Bit's metrics
//! (start time and uptime), so the clocks of nodes need not agree with the controller's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use transport::ErrorKind;

const KINDS: usize = ErrorKind::ALL.len();

/// The metrics of one output of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    connected: bool,
    connects: u64,
    acknowledged: u64,
    dropped: u64,
    errors: [u64; KINDS],
    queue: Queue,
}

/// An agent's queue for one output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Queue {
    bytes: u64,
    limit: u64,
    messages: u64,
    /// The time at which the oldest waiting message was queued, in seconds since the epoch
    /// by the agent's clock; zero if none waits.
    oldest: u64,
}

/// The metrics of an agent.
#[derive(Debug, Default)]
pub struct Answer<'t> {
    /// The outputs, by alias.
    outputs: BTreeMap<&'t str, Sample>,
    /// The agent's clock, in seconds since the epoch.
    clock: u64,
}

/// The derived state of one output of an agent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    sample: Sample,
    failing: Option<ErrorKind>,
}

/// The delay of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lag {
    /// The age of the oldest waiting message, by the agent's clock.
    age: Duration,
    is_half_full: bool,
}

/// The outputs of each agent, by pod and alias.
#[derive(Debug, Default)]
pub struct Observations {
    agents: BTreeMap<String, OfAgent>,
    /// The aliases, shared between agents.
    aliases: BTreeSet<Arc<str>>,
    /// The controller's own delivery of events, by alias.
    pub(crate) events: BTreeMap<String, EventDelivery>,
}

/// The controller's delivery of a sink's events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct EventDelivery {
    pub(crate) is_connected: bool,
    pub(crate) failing: Option<ErrorKind>,
    pub(crate) tally: EventTally,
}

/// The counts of a sink's events, since this controller leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventTally {
    pub(crate) acknowledged: u64,
    pub(crate) dropped: u64,
    pub(crate) waiting: u64,
}

#[derive(Debug)]
struct OfAgent {
    node: String,
    /// The agent's clock, as in [`Answer`].
    clock: u64,
    outputs: BTreeMap<Arc<str>, Observation>,
}

/// The delivery of all agents to one sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// The number of scraped agents that have the sink.
    pub agents: usize,
    /// The number of connected agents.
    pub connected: usize,
    /// The failures, with the number of agents of each.
    pub failures: Vec<Failure>,
    /// Messages that the receiver acknowledged, since each agent's start.
    pub acknowledged: u64,
    /// Records that were dropped, since each agent's start.
    pub dropped: u64,
    /// Messages in the agents' queues that the receiver has not acknowledged.
    pub waiting: u64,
    /// The time at which the oldest waiting message was queued.
    pub oldest: Option<Timestamp>,
    /// The agents that are behind, if there are any.
    pub behind: Option<Behind>,
    /// The delivery of its events, if it gets any.
    pub(crate) events: Option<EventDelivery>,
}

/// Agents whose queue is not delivered as fast as it is filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The number of agents.
    pub agents: usize,
    /// The age of the oldest waiting message of all agents.
    pub age: Duration,
    /// Whether the queue of any agent is at least half full.
    pub is_half_full: bool,
    /// The first of their nodes by name.
    pub node: String,
}

/// Agents that fail in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The number of agents.
    pub agents: usize,
    /// The first of their nodes by name.
    pub node: String,
}

/// Parses an agent's metrics in Prometheus' text format.
#[must_use]
pub fn parse(text: &str) -> Answer<'_> {
    let mut answer = Answer::default();
    for line in text.lines() {
        // Most lines are others'.
        let Some((name, rest)) = line.split_once('{') else {
            continue;
        };
        if CLOCK.contains(&name)
            && let Some((_, value)) = read(rest)
        {
            answer.clock += value;
        }
        let Some(count) = Count::of(name) else {
            continue;
        };
        let Some((labels, value)) = read(rest) else {
            continue;
        };
        let Some(output) = label(labels, "name") else {
            continue;
        };
        let sample = answer.outputs.entry(output).or_default();
        match count {
            Count::Connected => sample.connected = value > 0,
            Count::Connects => sample.connects = value,
            Count::Acknowledged => sample.acknowledged = value,
            Count::Dropped => sample.dropped += value,
            Count::QueueBytes => sample.queue.bytes = value,
            Count::QueueLimit => sample.queue.limit = value,
            Count::QueueMessages => sample.queue.messages = value,
            Count::QueueOldest => sample.queue.oldest = value,
            Count::Errors => {
                let reason = label(labels, "reason");
                let mut kinds = ErrorKind::ALL.into_iter();
                if let Some(kind) = kinds.position(|kind| Some(kind.name()) == reason) {
                    sample.errors[kind] = value;
                }
            }
        }
    }
    answer
}

/// The parts of an agent's clock: its start, and the time since.
const CLOCK: [&str; 2] = ["fluentbit_process_start_time_seconds", "fluentbit_uptime"];

/// The metrics that are read.
#[derive(Clone, Copy)]
enum Count {
    Connected,
    Connects,
    Acknowledged,
    Dropped,
    Errors,
    QueueBytes,
    QueueLimit,
    QueueMessages,
    QueueOldest,
}

impl Count {
    fn of(metric: &str) -> Option<Self> {
        match metric {
            "syslog_sink_connected" => Some(Self::Connected),
            "syslog_sink_connects_total" => Some(Self::Connects),
            "syslog_sink_acknowledged_messages_total" => Some(Self::Acknowledged),
            // What the plugin gave up, and what had no more room on the disk.
            "syslog_sink_dropped_records_total" | "fluentbit_output_dropped_records_total" => {
                Some(Self::Dropped)
            }
            "syslog_sink_errors_total" => Some(Self::Errors),
            "syslog_sink_queue_bytes" => Some(Self::QueueBytes),
            "syslog_sink_queue_limit_bytes" => Some(Self::QueueLimit),
            "syslog_sink_queue_messages" => Some(Self::QueueMessages),
            "syslog_sink_queue_oldest_timestamp_seconds" => Some(Self::QueueOldest),
            _ => None,
        }
    }
}

/// `name="output",reason="..."} value`, behind which a time may follow.
fn read(rest: &str) -> Option<(&str, u64)> {
    let (labels, value) = rest.rsplit_once("} ")?;
    let value: f64 = value.split(' ').next()?.parse().ok()?;
    Some((labels, value.max(0.0) as u64))
}

/// Aliases are names of Kubernetes: nothing in them is escaped.
fn label<'t>(labels: &'t str, key: &str) -> Option<&'t str> {
    let mut labels = labels.split(',');
    labels.find_map(|label| {
        let value = label.strip_prefix(key)?.strip_prefix("=\"")?;
        value.strip_suffix('"')
    })
}

impl Observation {
    fn new(sample: Sample, before: Option<&Self>) -> Self {
        let before_sample = before.map(|before| before.sample).unwrap_or_default();
        // A connection that ended a moment ago may be back in a moment.
        let was_connected = before_sample.connected || (before.is_none() && sample.connects > 0);
        let failing = if sample.connected || was_connected {
            None
        } else {
            latest(&sample.errors, &before_sample.errors)
                .or_else(|| before.and_then(|before| before.failing))
                .or_else(|| latest(&sample.errors, &[0; KINDS]))
        };
        Self { sample, failing }
    }
}

impl Queue {
    fn lag(self, clock: u64) -> Option<Lag> {
        (self.messages > 0).then(|| Lag {
            age: match self.oldest {
                0 => Duration::ZERO,
                oldest => Duration::from_secs(clock.saturating_sub(oldest)),
            },
            is_half_full: self.limit > 0 && self.bytes >= self.limit / 2,
        })
    }
}

/// Returns the kind of error with the largest increase.
fn latest(errors: &[u64; KINDS], before: &[u64; KINDS]) -> Option<ErrorKind> {
    let since = ErrorKind::ALL.into_iter().zip(errors).zip(before);
    let since = since.map(|((kind, now), then)| (kind, now.saturating_sub(*then)));
    let (kind, _) = since
        .filter(|(_, count)| *count > 0)
        .max_by_key(|(_, count)| *count)?;
    Some(kind)
}

impl Observations {
    /// Records the metrics of an agent.
    pub fn take(&mut self, pod: &str, node: &str, answer: &Answer<'_>) {
        let before = self.agents.remove(pod);
        let outputs = answer.outputs.iter().map(|(alias, sample)| {
            let alias = self.aliases.get(*alias).cloned().unwrap_or_else(|| {
                let alias: Arc<str> = Arc::from(*alias);
                self.aliases.insert(Arc::clone(&alias));
                alias
            });
            let before = before
                .as_ref()
                .and_then(|before| before.outputs.get(&alias));
            (alias, Observation::new(*sample, before))
        });
        let outputs = outputs.collect();
        let node = node.to_owned();
        self.agents.insert(
            pod.to_owned(),
            OfAgent {
                node,
                clock: answer.clock,
                outputs,
            },
        );
    }

    /// Removes an agent.
    pub fn forget(&mut self, pod: &str) {
        self.agents.remove(pod);
    }

    /// Removes all agents except those for which `is_there` returns true.
    pub fn retain(&mut self, mut is_there: impl FnMut(&str) -> bool) {
        self.agents.retain(|pod, _| is_there(pod));
        self.aliases.retain(|alias| Arc::strong_count(alias) > 1);
    }

    /// Returns the delivery to each sink, by the alias of its output. A sink is behind if
    /// its oldest message has waited for `patience`, or its queue is half full.
    #[must_use]
    pub fn deliveries(&self, patience: Duration) -> BTreeMap<Arc<str>, Delivery> {
        let mut deliveries: BTreeMap<Arc<str>, Delivery> = BTreeMap::new();
        for OfAgent {
            node,
            clock,
            outputs,
        } in self.agents.values()
        {
            for (alias, observation) in outputs {
                let delivery = deliveries.entry(Arc::clone(alias)).or_default();
                delivery.add(node, observation);
                if let Some(lag) = observation.sample.queue.lag(*clock)
                    && (lag.is_half_full || lag.age >= patience)
                {
                    delivery.add_behind(node, lag);
                }
            }
        }
        for (alias, events) in &self.events {
            let delivery = deliveries.entry(Arc::from(alias.as_str())).or_default();
            delivery.events = Some(*events);
        }
        deliveries
    }
}

impl Delivery {
    fn add(&mut self, node: &str, observation: &Observation) {
        let Observation { sample, failing } = observation;
        self.agents += 1;
        self.connected += usize::from(sample.connected);
        self.acknowledged += sample.acknowledged;
        self.dropped += sample.dropped;
        self.waiting += sample.queue.messages;
        if sample.queue.oldest > 0 {
            let oldest = Timestamp::from_second(sample.queue.oldest.cast_signed()).ok();
            self.oldest = self.oldest.into_iter().chain(oldest).min();
        }
        let Some(kind) = *failing else {
            return;
        };
        match self
            .failures
            .iter_mut()
            .find(|failure| failure.kind == kind)
        {
            Some(failure) => {
                failure.agents += 1;
                if node < failure.node.as_str() {
                    node.clone_into(&mut failure.node);
                }
            }
            None => self.failures.push(Failure {
                kind,
                agents: 1,
                node: node.to_owned(),
            }),
        }
    }

    fn add_behind(&mut self, node: &str, lag: Lag) {
        let Lag { age, is_half_full } = lag;
        let one = Behind {
            agents: 1,
            age,
            is_half_full,
            node: node.to_owned(),
        };
        self.behind = Some(match self.behind.take() {
            None => one,
            Some(others) => Behind {
                agents: others.agents + 1,
                age: others.age.max(age),
                is_half_full: others.is_half_full || is_half_full,
                node: others.node.min(one.node),
            },
        });
    }

    /// Returns the failure of the largest number of agents, if any fails.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failures.iter().max_by_key(|failure| failure.agents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP syslog_sink_connected Connections that are ready for messages
# TYPE syslog_sink_connected gauge
syslog_sink_connected{name=\"shop/good\"} 1
syslog_sink_connected{name=\"shop/bad\"} 0
syslog_sink_connects_total{name=\"shop/good\"} 2
syslog_sink_acknowledged_messages_total{name=\"shop/good\"} 1200
syslog_sink_dropped_records_total{name=\"shop/good\",reason=\"oversize\"} 2
syslog_sink_dropped_records_total{name=\"shop/good\",reason=\"damaged\"} 1
syslog_sink_errors_total{name=\"shop/bad\",reason=\"tls\"} 3
syslog_sink_errors_total{name=\"shop/bad\",reason=\"connect\"} 1 1772366400000
fluentbit_output_dropped_records_total{name=\"shop/good\"} 10
fluentbit_output_dropped_records_total{name=\"null.0\"} 10
syslog_sink_queue_bytes{name=\"shop/good\"} 40000000
syslog_sink_queue_limit_bytes{name=\"shop/good\"} 100000000
syslog_sink_queue_messages{name=\"shop/good\"} 500
syslog_sink_queue_oldest_timestamp_seconds{name=\"shop/good\"} 1772366353.25
fluentbit_uptime{hostname=\"node\"} 12
fluentbit_process_start_time_seconds{hostname=\"node\"} 1772366400
";

    const PATIENCE: Duration = Duration::from_secs(60);

    fn deliveries(observations: &Observations, alias: &str) -> Delivery {
        observations.deliveries(PATIENCE)[alias].clone()
    }

    fn answer(alias: &str, sample: Sample) -> Answer<'_> {
        Answer {
            outputs: BTreeMap::from([(alias, sample)]),
            clock: 0,
        }
    }

    #[test]
    fn metrics_are_read_by_output() {
        let answer = parse(TEXT);
        let good = answer.outputs["shop/good"];
        assert!(good.connected);
        assert_eq!(
            (good.connects, good.acknowledged, good.dropped),
            (2, 1200, 13)
        );
        assert_eq!(answer.outputs["shop/bad"].errors, [0, 1, 0, 3, 0, 0, 0]);
        let queue = Queue {
            bytes: 40_000_000,
            limit: 100_000_000,
            messages: 500,
            oldest: 1_772_366_353,
        };
        assert_eq!((good.queue, answer.clock), (queue, 1_772_366_412));
    }

    #[test]
    fn a_sink_is_behind_when_messages_wait_long_or_much_waits() {
        let is_behind = |queue: Queue| {
            let sample = Sample {
                queue,
                ..Sample::default()
            };
            let answer = Answer {
                outputs: BTreeMap::from([("a/b", sample)]),
                clock: 1000,
            };
            let mut observations = Observations::default();
            observations.take("pod-b", "node-b", &answer);
            observations.take("pod-a", "node-a", &answer);
            let Delivery {
                waiting, behind, ..
            } = deliveries(&observations, "a/b");
            assert_eq!(waiting, 2 * queue.messages);
            behind
        };
        let queue = Queue {
            bytes: 49,
            limit: 100,
            messages: 10,
            oldest: 941,
        };
        let behind = |age, is_half_full| Behind {
            agents: 2,
            age: Duration::from_secs(age),
            is_half_full,
            node: "node-a".to_owned(),
        };
        assert_eq!(is_behind(queue), None);
        let old = Queue {
            oldest: 940,
            ..queue
        };
        assert_eq!(is_behind(old), Some(behind(60, false)));
        let full = Queue { bytes: 50, ..queue };
        assert_eq!(is_behind(full), Some(behind(59, true)));
        // Messages that are only kept to be sent again do not wait.
        let kept = Queue {
            bytes: 90,
            messages: 0,
            oldest: 0,
            ..queue
        };
        assert_eq!(is_behind(kept), None);
        // An agent of another version.
        let unknown = Queue {
            limit: 0,
            oldest: 0,
            ..queue
        };
        assert_eq!(is_behind(unknown), None);
    }

    #[test]
    fn the_samples_of_all_agents_are_summed() {
        let mut observations = Observations::default();
        let samples = parse(TEXT);
        observations.take("pod-b", "node-b", &samples);
        observations.take("pod-a", "node-a", &samples);
        let good = deliveries(&observations, "shop/good");
        assert_eq!(
            (good.agents, good.connected, good.acknowledged),
            (2, 2, 2400)
        );
        assert_eq!(good.failure(), None);
        let bad = deliveries(&observations, "shop/bad");
        let failure = Failure {
            kind: ErrorKind::Tls,
            agents: 2,
            node: "node-a".to_owned(),
        };
        assert_eq!(bad.failure(), Some(&failure));
        observations.retain(|pod| pod == "pod-b");
        assert_eq!(deliveries(&observations, "shop/bad").agents, 1);
        observations.retain(|_| false);
        assert!(observations.deliveries(PATIENCE).is_empty() && observations.aliases.is_empty());
    }

    #[test]
    fn an_immediately_restored_connection_is_not_a_failure() {
        let mut observations = Observations::default();
        let mut failure_after = |connected: bool, connects: u64, errors: [u64; KINDS]| {
            let sample = Sample {
                connected,
                connects,
                errors,
                ..Sample::default()
            };
            observations.take("pod", "node", &answer("a/b", sample));
            let delivery = deliveries(&observations, "a/b");
            delivery.failure().map(|failure| failure.kind)
        };
        let broken = |times| [0, 0, 0, 0, 0, times, 0];
        assert_eq!(failure_after(true, 1, broken(0)), None);
        assert_eq!(failure_after(false, 1, broken(1)), None);
        assert_eq!(failure_after(true, 2, broken(1)), None);
        assert_eq!(failure_after(false, 2, broken(2)), None);
        // It is not restored.
        assert_eq!(
            failure_after(false, 2, [0, 4, 0, 0, 0, 2, 0]),
            Some(ErrorKind::Connect)
        );
        // Between two attempts.
        assert_eq!(
            failure_after(false, 2, [0, 4, 0, 0, 0, 2, 0]),
            Some(ErrorKind::Connect)
        );
        assert_eq!(failure_after(true, 3, [0, 4, 0, 0, 0, 2, 0]), None);
    }

    #[test]
    fn a_sink_without_connection_and_failure_has_no_failure_yet() {
        let mut observations = Observations::default();
        observations.take("pod", "node", &answer("a/b", Sample::default()));
        let delivery = deliveries(&observations, "a/b");
        assert_eq!((delivery.agents, delivery.connected), (1, 0));
        assert_eq!(delivery.failure(), None);
    }
}
