//! The counts of one sink, and of all sinks.

use std::time::Duration;

use api::{ConditionStatus, ConditionType, Counts, EventCounts, LastError, Reason, SinkStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::conditions;
use crate::delivery::Delivery;
use crate::monitor::SinkCounts;

/// The name that stands for a node if the controller failed.
const CONTROLLER: &str = "controller";

/// Returns the counts of the agents. They stay as written last if nothing else has changed
/// recently.
pub(super) fn counts(
    before: Option<&Counts>,
    delivery: &Delivery,
    is_news: bool,
    every: Duration,
    now: Timestamp,
) -> Counts {
    let events = delivery.events.map(|events| EventCounts {
        acknowledged: events.tally.acknowledged,
        dropped: events.tally.dropped,
        waiting: events.tally.waiting,
    });
    if let Some(before) = before {
        let is_the_same = before.acknowledged == delivery.acknowledged
            && before.dropped == delivery.dropped
            && before.waiting == delivery.waiting
            && before.oldest_waiting_time == delivery.oldest.map(Time)
            && before.events == events;
        let is_recent = now.duration_since(before.observed_time.0).unsigned_abs() < every;
        if is_the_same || (is_recent && !is_news) {
            return before.clone();
        }
    }
    let is_more = before.map_or(0, |before| before.acknowledged) < delivery.acknowledged;
    Counts {
        acknowledged: delivery.acknowledged,
        dropped: delivery.dropped,
        waiting: delivery.waiting,
        oldest_waiting_time: delivery.oldest.map(Time),
        events,
        observed_time: Time(now),
        last_acknowledged_time: if is_more {
            Some(Time(now))
        } else {
            before.and_then(|before| before.last_acknowledged_time.clone())
        },
    }
}

/// Returns the last failure: the current one, or else the previous one.
pub(super) fn last_error(
    before: Option<&LastError>,
    delivery: Option<&Delivery>,
    now: Timestamp,
) -> Option<LastError> {
    let of_agents = delivery.and_then(Delivery::failure);
    let of_agents = of_agents.map(|failure| (failure.kind, failure.node.as_str()));
    let of_events = delivery.and_then(|delivery| delivery.events?.failing);
    let of_events = of_events.map(|kind| (kind, CONTROLLER));
    let of_queue = delivery.and_then(|delivery| delivery.behind.as_ref());
    let of_queue = of_queue.map(|behind| (Reason::Behind, behind.node.as_str()));
    let failure = of_agents.or(of_events);
    let failure = failure.map(|(kind, node)| (conditions::reason(kind), node));
    let Some((reason, node)) = failure.or(of_queue) else {
        return before.cloned();
    };
    let reason = reason.as_str();
    match before {
        Some(before) if before.reason == reason && before.node == node => Some(before.clone()),
        _ => Some(LastError {
            reason: reason.to_owned(),
            node: node.to_owned(),
            time: Time(now),
        }),
    }
}

/// Counts a sink by its conditions.
pub(super) fn count(counts: &mut SinkCounts, status: &SinkStatus) {
    if status.status_of(ConditionType::Accepted) == ConditionStatus::False {
        counts.refused += 1;
        return;
    }
    if status.status_of(ConditionType::Configured) == ConditionStatus::True {
        counts.configured += 1;
    } else {
        counts.rolling_out += 1;
    }
    let delivering = status.condition(ConditionType::Delivering);
    if delivering.is_some_and(|condition| condition.reason == Reason::Behind.as_str()) {
        counts.behind += 1;
    } else if status.status_of(ConditionType::Delivering) == ConditionStatus::False {
        counts.failing += 1;
    }
}
