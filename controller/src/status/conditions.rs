//! The conditions of a sink, each with the time since when it is so.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use transport::ErrorKind;

use super::Decided;
use crate::delivery::{Behind, Delivery};
use crate::fleet::Agent;
use crate::plan::Refusal;
use crate::resources::Reason;
use crate::tenants::Place;

/// The sink is one that can be configured.
pub(super) const ACCEPTED: &str = "Accepted";
/// The nodes' agents have it.
pub(super) const CONFIGURED: &str = "Configured";
/// They are connected to its server, and it takes what they send.
pub(super) const DELIVERING: &str = "Delivering";

/// What the conditions are made of.
pub(super) struct Facts<'a> {
    pub(super) verdict: &'a Result<Place, Refusal>,
    pub(super) decided: &'a Decided,
    /// The revisions of the agents that are ready.
    pub(super) ready: &'a [&'a str],
    pub(super) agents: &'a [Agent],
    /// How many nodes shall have an agent, once that is known.
    pub(super) nodes: Option<usize>,
    pub(super) delivery: Option<&'a Delivery>,
}

/// A condition without its times.
struct Now {
    type_: &'static str,
    status: &'static str,
    reason: Reason,
    message: String,
}

impl Now {
    fn new(type_: &'static str, status: &'static str, reason: Reason, message: String) -> Self {
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
    let since = |type_: &str, status: &str| {
        let is_so = |condition: &&Condition| condition.type_ == type_ && condition.status == status;
        let before = before.iter().find(is_so);
        before.map_or(Time(now), |before| before.last_transition_time.clone())
    };
    let last = before
        .iter()
        .find(|before| before.type_ == CONFIGURED && before.observed_generation == generation);
    let configured = configured(facts, last);
    [accepted(facts), configured, delivering(facts)]
        .into_iter()
        .map(|condition| Condition {
            last_transition_time: since(condition.type_, condition.status),
            type_: condition.type_.to_owned(),
            status: condition.status.to_owned(),
            reason: condition.reason.to_string(),
            message: condition.message,
            observed_generation: generation,
        })
        .collect()
}

fn accepted(facts: &Facts<'_>) -> Now {
    match facts.verdict {
        Ok(_) => {
            let message = "the sink can be configured".to_owned();
            Now::new(ACCEPTED, "True", Reason::Accepted, message)
        }
        Err(Refusal { reason, message }) => Now::new(ACCEPTED, "False", *reason, message.clone()),
    }
}

/// `before` is what was said of the same spec.
fn configured(facts: &Facts<'_>, before: Option<&Condition>) -> Now {
    let Facts {
        verdict,
        decided,
        ready,
        agents,
        nodes,
        ..
    } = *facts;
    let Ok(place) = verdict else {
        let message = "no node has the sink".to_owned();
        return Now::new(CONFIGURED, "False", Reason::NotAccepted, message);
    };
    let Some(nodes) = nodes else {
        let message = "it is not known yet which nodes have agents".to_owned();
        return Now::new(CONFIGURED, "False", Reason::RollingOut, message);
    };
    let has = |revision: &str| {
        let files = decided.revisions.get(revision);
        files.is_some_and(|files| place.is_in(files))
    };
    let with_it: Vec<&str> = decided
        .revisions
        .keys()
        .map(String::as_str)
        .filter(|revision| has(revision))
        .collect();
    let ready = ready.iter().filter(|revision| with_it.contains(revision));
    let count = ready.count();
    let message = format!("{count} of {nodes} nodes have the sink");
    if count >= nodes {
        return Now::new(CONFIGURED, "True", Reason::Complete, message);
    }
    // One that all nodes had stays so while agents are replaced for others.
    let has_it = |agent: &Agent| {
        let is_well = agent.ready_since.is_some() || agent.trouble.is_none();
        with_it.contains(&agent.revision.as_str()) && is_well
    };
    if let Some(before) = before
        && before.status == "True"
        && agents.iter().all(has_it)
    {
        return Now::new(CONFIGURED, "True", Reason::Complete, before.message.clone());
    }
    if let Some(why) = taken_back(place, decided) {
        let message = format!("{message}; agents that had it did not become ready: {why}");
        return Now::new(CONFIGURED, "False", Reason::RolledBack, message);
    }
    let mut ill = agents
        .iter()
        .filter(|agent| agent.ready_since.is_none() && with_it.contains(&agent.revision.as_str()));
    let trouble = ill.find_map(|agent| Some((&agent.node, agent.trouble.as_ref()?)));
    let message = match trouble {
        Some((node, trouble)) => format!("{message}; on {node}: {trouble}"),
        None => message,
    };
    Now::new(CONFIGURED, "False", Reason::RollingOut, message)
}

/// Why agents shall not have the sink as it is, if so.
fn taken_back<'d>(place: &Place, decided: &'d Decided) -> Option<&'d str> {
    let Decided { plan, history, .. } = decided;
    if let Some(why) = plan.held.get(&place.file) {
        return (!place.is_in(&plan.files)).then_some(why);
    }
    let failed = history.failed.as_ref()?;
    (failed.revision == plan.revision).then_some(&failed.why)
}

fn delivering(facts: &Facts<'_>) -> Now {
    if facts.verdict.is_err() {
        let message = "the sink is not in force".to_owned();
        return Now::new(DELIVERING, "False", Reason::NotAccepted, message);
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
        return Now::new(DELIVERING, "False", reason(failure.kind), message);
    }
    let of_nodes = format!("{connected} of {agents} nodes are connected");
    if let Some(events) = &delivery.events
        && let Some(kind) = events.failing
    {
        let message = format!(
            "{of_nodes}, and the controller, which sends events, is not: {}",
            explanation(kind)
        );
        return Now::new(DELIVERING, "False", reason(kind), message);
    }
    if let Some(behind) = &delivery.behind {
        let message = format!("{of_nodes}; {}", lag(behind, *agents));
        return Now::new(DELIVERING, "False", Reason::Behind, message);
    }
    if *agents == 0 {
        let message = "no agent that has the sink was asked yet".to_owned();
        return Now::new(DELIVERING, "Unknown", Reason::NotObserved, message);
    }
    let (message, is_complete) = match &delivery.events {
        None => (of_nodes, true),
        Some(events) if events.is_connected => {
            (format!("{of_nodes}, and the controller for events"), true)
        }
        Some(_) => (format!("{of_nodes}, the controller not yet"), false),
    };
    if connected == agents && is_complete {
        Now::new(DELIVERING, "True", Reason::Connected, message)
    } else {
        Now::new(DELIVERING, "Unknown", Reason::Connecting, message)
    }
}

/// How far agents are behind. Ages are coarse, so that a message does not change with
/// every look.
fn lag(behind: &Behind, agents: usize) -> String {
    let Behind {
        agents: late,
        age,
        is_half_full,
        node,
    } = behind;
    let full = if *is_half_full {
        ", and what waits fills at least half of bufferLimit"
    } else {
        ""
    };
    format!(
        "messages wait for {} on {late} of {agents} nodes, on {node} for example{full}",
        coarse(*age)
    )
}

/// "more than an hour", for example.
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

/// The reason for a kind of failure.
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

/// The same for people.
const fn explanation(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Resolve => "the host's name has no address",
        ErrorKind::Connect => "nothing takes a connection at this host and port",
        ErrorKind::Timeout => "the receiver did not answer in time",
        ErrorKind::Tls => {
            "TLS failed (a certificate was refused, or this port does not speak TLS; the \
             agent's or controller's log has the details)"
        }
        ErrorKind::Relp => "the receiver does not speak RELP, or refused a message",
        ErrorKind::Broken => "connections break",
        ErrorKind::Closed => "the receiver closes connections",
    }
}
