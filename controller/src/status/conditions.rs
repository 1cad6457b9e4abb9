//! The conditions of a sink.

use std::collections::BTreeMap;
use std::time::Duration;

use api::ConditionStatus::{False, True, Unknown};
use api::ConditionType::{Accepted, Configured, Delivering, Ready, Stalled};
use api::{ConditionStatus, ConditionType, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use transport::ErrorKind;

use super::Decided;
use crate::configuration::RenderedSink;
use crate::delivery::{Behind, Delivery};
use crate::fleet::{Agent, Fleet};
use crate::history::HoldReason;
use crate::plan::Refusal;

/// The facts that conditions are derived from.
pub(super) struct Facts<'a> {
    pub(super) verdict: &'a Result<RenderedSink, Refusal>,
    pub(super) decided: &'a Decided,
    pub(super) fleet: &'a Fleet,
    pub(super) delivery: Option<&'a Delivery>,
    /// The time in which an agent must become ready.
    pub(super) patience: Duration,
}

/// A condition without its time.
struct Finding {
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

impl Finding {
    fn new(type_: ConditionType, status: ConditionStatus, reason: Reason, message: String) -> Self {
        Self {
            type_,
            status,
            reason,
            message,
        }
    }
}

pub(super) fn all(
    before: &[Condition],
    generation: Option<i64>,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Vec<Condition> {
    let since = |type_: ConditionType, status: ConditionStatus| {
        let has_type = |condition: &&Condition| {
            condition.type_ == type_.as_str() && ConditionStatus::of(condition) == status
        };
        let before = before.iter().find(has_type);
        before.map_or(Time(now), |before| before.last_transition_time.clone())
    };
    let last = before.iter().find(|before| {
        before.type_ == Configured.as_str() && before.observed_generation == generation
    });
    let (accepted, configured) = (accepted(facts), configured(facts, last, now));
    let (ready, stalled) = (
        ready(&accepted, &configured),
        stalled(&accepted, &configured),
    );
    [accepted, configured, delivering(facts), ready]
        .into_iter()
        .chain(stalled)
        .map(|condition| Condition {
            last_transition_time: since(condition.type_, condition.status),
            type_: condition.type_.to_string(),
            status: condition.status.to_string(),
            reason: condition.reason.to_string(),
            message: condition.message,
            observed_generation: generation,
        })
        .collect()
}

fn ready(accepted: &Finding, configured: &Finding) -> Finding {
    let missing = [accepted, configured]
        .into_iter()
        .find(|finding| finding.status != True);
    let Finding {
        status,
        reason,
        message,
        ..
    } = missing.unwrap_or(configured);
    Finding::new(Ready, *status, *reason, message.clone())
}

fn stalled(accepted: &Finding, configured: &Finding) -> Option<Finding> {
    let is_rolled_back = configured.reason == Reason::RolledBack;
    let of = match accepted.status {
        False if accepted.reason.needs_change() => accepted,
        _ if is_rolled_back => configured,
        _ => return None,
    };
    Some(Finding::new(Stalled, True, of.reason, of.message.clone()))
}

fn accepted(facts: &Facts<'_>) -> Finding {
    match facts.verdict {
        Ok(_) => {
            let message = "the sink can be configured".to_owned();
            Finding::new(Accepted, True, Reason::Accepted, message)
        }
        Err(refusal) => {
            let Refusal { reason, message } = refusal;
            let status = if refusal.is_not_looked_up() {
                Unknown
            } else {
                False
            };
            Finding::new(Accepted, status, *reason, message.clone())
        }
    }
}

/// Returns a condition of a sink about which the API server has not answered yet.
fn not_looked_up(type_: ConditionType) -> Finding {
    let message = "waiting for the API server; nodes keep the sink as it is".to_owned();
    Finding::new(type_, Unknown, Reason::NotLookedUp, message)
}

/// Returns the condition `Configured`. `before` is the last one for the same spec.
fn configured(facts: &Facts<'_>, before: Option<&Condition>, now: Timestamp) -> Finding {
    let Facts {
        verdict,
        decided,
        fleet,
        ..
    } = *facts;
    let sink = match verdict {
        Ok(sink) => sink,
        Err(refusal) if refusal.is_not_looked_up() => return not_looked_up(Configured),
        Err(_) => {
            let message = "no node runs with the sink".to_owned();
            return Finding::new(Configured, False, Reason::NotAccepted, message);
        }
    };
    let Some(nodes) = fleet.within_reach() else {
        let message = "the nodes with agents are not known yet".to_owned();
        return Finding::new(Configured, False, Reason::RollingOut, message);
    };
    let has = |revision: &str| {
        let configuration = decided.revisions.get(revision);
        configuration.is_some_and(|configuration| configuration.has(sink))
    };
    let with_it: Vec<&str> = decided
        .revisions
        .keys()
        .map(String::as_str)
        .filter(|revision| has(revision))
        .collect();
    let ready = fleet.ready();
    let count = ready
        .filter(|agent| with_it.contains(&agent.revision.as_str()))
        .count();
    // Nodes whose agents failed before the revision came are not counted either.
    let was_unhealthy = |agent: &Agent| {
        agent.ready_since.is_none() && decided.history.unhealthy.contains(&agent.node)
    };
    let is_excluded =
        |agent: &&Agent| was_unhealthy(agent) && agent.is_unhealthy(facts.patience, now);
    let mut excluded: BTreeMap<&str, String> = fleet
        .out_of_reach
        .iter()
        .map(|(node, out)| (node.as_str(), out.obstacle.to_string()))
        .collect();
    let unhealthy = fleet.agents.iter().filter(is_excluded).map(|agent| {
        let problem = agent.problem.as_deref().unwrap_or("the agent is not ready");
        (agent.node.as_str(), problem.to_owned())
    });
    let unreachable_count = excluded.len();
    excluded.extend(unhealthy);
    let unhealthy_count = excluded.len() - unreachable_count;
    let nodes = nodes.saturating_sub(unhealthy_count);
    let message = format!(
        "{count} of {nodes} nodes run a ready agent with the sink{}",
        describe_excluded(&excluded)
    );
    // If no node is within reach, nothing is known.
    if count >= nodes && (count > 0 || fleet.wanted_nodes == Some(0)) {
        return Finding::new(Configured, True, Reason::Complete, message);
    }
    // A sink that was complete stays so while agents are replaced because of others.
    let has_it = |agent: &Agent| {
        let is_unhealthy = agent.problem.is_some() || agent.is_unhealthy(facts.patience, now);
        let is_healthy = agent.ready_since.is_some() || !is_unhealthy;
        was_unhealthy(agent) || (with_it.contains(&agent.revision.as_str()) && is_healthy)
    };
    if let Some(before) = before
        && ConditionStatus::of(before) == True
        && !fleet.agents.is_empty()
        && fleet.agents.iter().all(has_it)
    {
        return Finding::new(Configured, True, Reason::Complete, before.message.clone());
    }
    if let Some(why) = rolled_back(sink, decided) {
        let message = format!("{message}; agents with this sink did not become ready: {why}");
        return Finding::new(Configured, False, Reason::RolledBack, message);
    }
    let mut unhealthy = fleet
        .agents
        .iter()
        .filter(|agent| agent.ready_since.is_none() && with_it.contains(&agent.revision.as_str()));
    let of_agent = unhealthy.find_map(|agent| {
        let problem = agent.problem.as_ref()?;
        Some(format!("on {}: {problem}", agent.node))
    });
    let message = match other_cause(sink, decided).or(of_agent) {
        Some(problem) => format!("{message}; {problem}"),
        None => message,
    };
    Finding::new(Configured, False, Reason::RollingOut, message)
}

/// Describes the nodes that are excluded, with the reason of the first.
fn describe_excluded(nodes: &BTreeMap<&str, String>) -> String {
    let Some((node, why)) = nodes.iter().next() else {
        return String::new();
    };
    match nodes.len() {
        1 => format!(", {node} is excluded: {why}"),
        count => format!(", {count} are excluded, for example {node}: {why}"),
    }
}

/// Returns why the sink was rolled back, if it was.
fn rolled_back<'d>(sink: &RenderedSink, decided: &'d Decided) -> Option<&'d str> {
    let Decided { plan, history, .. } = decided;
    if let Some(HoldReason { why, is_suspect }) = plan.held.get(&sink.file) {
        return (!is_suspect && !plan.configuration.has(sink)).then_some(why);
    }
    // The plan is older than the failure: it does not hold anything back for it yet.
    let failed = history.failed.as_ref()?;
    let is_its = failed.is_of_sinks() && failed.revision == plan.revision;
    let good = history.good.as_ref();
    let good = good.and_then(|good| decided.revisions.get(&good.revision));
    let is_good = good.is_some_and(|good| good.has(sink));
    let mut suspects = history.suspects.iter();
    let is_suspect = suspects.any(|group| group.contains_key(&sink.file));
    (is_its && !is_good && !is_suspect).then_some(&failed.setback.why)
}

/// Returns what delays a sink that may not be the cause.
fn other_cause(sink: &RenderedSink, decided: &Decided) -> Option<String> {
    let Decided { plan, history, .. } = decided;
    if let Some(HoldReason { why, is_suspect }) = plan.held.get(&sink.file)
        && *is_suspect
        && !plan.configuration.has(sink)
    {
        return Some(format!(
            "agents failed after this sink and others had changed, and each change is \
             retried in turn: {why}"
        ));
    }
    let blocks = history.blocking_failure(&plan.revision, &plan.template)?;
    let what = match blocks.node {
        Some(_) => "the agents' new image or settings failed",
        None => "no new agent starts:",
    };
    Some(format!("{what} {}", blocks.setback.why))
}

fn delivering(facts: &Facts<'_>) -> Finding {
    match facts.verdict {
        Ok(_) => {}
        Err(refusal) if refusal.is_not_looked_up() => return not_looked_up(Delivering),
        Err(_) => {
            let message = "the sink is not accepted".to_owned();
            return Finding::new(Delivering, False, Reason::NotAccepted, message);
        }
    }
    let nothing = Delivery::default();
    let delivery = facts.delivery.unwrap_or(&nothing);
    let Delivery {
        agents, connected, ..
    } = delivery;
    if let Some(failure) = delivery.failure() {
        let failing: usize = delivery.failures.iter().map(|failure| failure.agents).sum();
        let message = format!(
            "{failing} of {agents} nodes are not connected: {}, on {} for example",
            explanation(failure.kind),
            failure.node
        );
        let message = match &delivery.behind {
            Some(behind) => format!("{message}; {}", lag(behind, *agents)),
            None => message,
        };
        return Finding::new(Delivering, False, reason(failure.kind), message);
    }
    let of_nodes = format!("{connected} of {agents} nodes are connected");
    if let Some(events) = &delivery.events
        && let Some(kind) = events.failing
    {
        let message = format!(
            "{of_nodes}, but the controller, which sends events, is not: {}",
            explanation(kind)
        );
        return Finding::new(Delivering, False, reason(kind), message);
    }
    if let Some(behind) = &delivery.behind {
        let message = format!("{of_nodes}; {}", lag(behind, *agents));
        return Finding::new(Delivering, False, Reason::Behind, message);
    }
    if *agents == 0 {
        let message = "no agent running this sink has reported yet".to_owned();
        return Finding::new(Delivering, Unknown, Reason::NotObserved, message);
    }
    let (message, is_complete) = match &delivery.events {
        None => (of_nodes, true),
        Some(events) if events.is_connected => {
            (format!("{of_nodes}, and the controller for events"), true)
        }
        Some(_) => (format!("{of_nodes}, the controller not yet"), false),
    };
    if connected == agents && is_complete {
        Finding::new(Delivering, True, Reason::Connected, message)
    } else {
        Finding::new(Delivering, Unknown, Reason::Connecting, message)
    }
}

/// Describes how far agents are behind. Ages are coarse, so that a message does not change
/// with every scrape: each change is a write to the API server.
fn lag(behind: &Behind, agents: usize) -> String {
    let Behind {
        agents: late,
        age,
        is_half_full,
        node,
    } = behind;
    let full = if *is_half_full {
        ", and the queue is at least half full (bufferLimit)"
    } else {
        ""
    };
    format!(
        "messages wait for {} on {late} of {agents} nodes, on {node} for example{full}",
        coarse(*age)
    )
}

/// Rounds an age down, for example to "more than an hour".
fn coarse(age: Duration) -> &'static str {
    const STEPS: [(u64, &str); 10] = [
        (7 * 24 * 3600, "more than a week"),
        (24 * 3600, "more than a day"),
        (12 * 3600, "more than 12 hours"),
        (6 * 3600, "more than 6 hours"),
        (3 * 3600, "more than 3 hours"),
        (3600, "more than an hour"),
        (30 * 60, "more than 30 minutes"),
        (10 * 60, "more than 10 minutes"),
        (5 * 60, "more than 5 minutes"),
        (60, "more than a minute"),
    ];
    let mut steps = STEPS.into_iter();
    let step = steps.find(|(seconds, _)| age.as_secs() >= *seconds);
    step.map_or("less than a minute", |(_, text)| text)
}

/// Returns the reason for a kind of failure.
pub(super) const fn reason(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::Resolve => Reason::NameNotResolved,
        ErrorKind::Connect => Reason::ConnectFailed,
        ErrorKind::Timeout => Reason::TimedOut,
        ErrorKind::Tls => Reason::TlsFailed,
        ErrorKind::Relp => Reason::RelpFailed,
        ErrorKind::Broken => Reason::ConnectionBroken,
        ErrorKind::Closed => Reason::ConnectionClosed,
    }
}

/// Returns the explanation of a kind of failure, for people.
const fn explanation(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Resolve => "the host name cannot be resolved",
        ErrorKind::Connect => "no connection can be made to this host and port",
        ErrorKind::Timeout => "the receiver did not answer in time",
        ErrorKind::Tls => {
            "TLS failed (a certificate was rejected, or this port does not speak TLS; see the \
             log of the agent or the controller)"
        }
        ErrorKind::Relp => "the receiver does not speak RELP, or rejected a message",
        ErrorKind::Broken => "the connection keeps breaking",
        ErrorKind::Closed => "the receiver closes the connection",
    }
}
