use std::sync::Arc;
use std::time::Duration;

use api::ConditionType::{Accepted, Configured, Delivering, Ready, Stalled};
use api::{ConditionType, Counts, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::EventType;
use transport::ErrorKind;

use super::announce::announcement;
use super::conditions::all;
use super::*;
use crate::configuration::RenderedSink;
use crate::delivery::{Behind, Delivery, EventDelivery, EventTally, Failure};
use crate::fleet::{Agent, Fleet, Obstacle, OutOfReach};
use crate::history::{Failed, HoldReason, Setback, Since};
use crate::plan::Refusal;
use crate::settings::Settings;
use crate::snapshot::{Snapshot, Stored};

const PATIENCE: Duration = Duration::from_secs(180);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A sink on the first `ready` of three nodes.
struct Case {
    decided: Decided,
    verdict: Result<RenderedSink, Refusal>,
    fleet: Fleet,
    delivery: Option<Delivery>,
}

impl Case {
    fn new(ready: usize) -> Self {
        let mut snapshot = Snapshot::default();
        let name = ObjectName::new("shop", "sink");
        let spec = serde_json::json!({"host": "logs.example.com", "transport": "tcp"});
        let stored = Stored::Spec(Box::new(serde_json::from_value(spec).unwrap()));
        snapshot.log_sinks.insert(name.clone(), stored);
        let plan = Plan::new(&snapshot, &Settings::default());
        let verdict = plan.verdicts[&SinkId::Namespaced(name)].clone();
        let (new, old) = (plan.revision.clone(), "old".to_owned());
        let revisions = BTreeMap::from([
            (new.clone(), Arc::new(plan.configuration.clone())),
            (old.clone(), Arc::default()),
        ]);
        let agents = (0..3).map(|number| Agent {
            pod: format!("agent-{number}"),
            node: format!("node-{number}"),
            revision: if number < ready { &new } else { &old }.clone(),
            created: Some(at(0)),
            has_begun: true,
            ready_since: Some(at(1)),
            ..Agent::default()
        });
        Self {
            verdict,
            fleet: Fleet {
                wanted_nodes: Some(3),
                agents: agents.collect(),
                ..Fleet::default()
            },
            delivery: None,
            decided: Decided {
                plan,
                versions: BTreeMap::new(),
                history: History::default(),
                revisions,
            },
        }
    }

    fn conditions(&self, before: &[Condition], now: i64) -> Vec<Condition> {
        let facts = Facts {
            verdict: &self.verdict,
            decided: &self.decided,
            fleet: &self.fleet,
            delivery: self.delivery.as_ref(),
            patience: PATIENCE,
        };
        all(before, Some(1), &facts, at(now))
    }

    fn finding_of(&self, type_: ConditionType) -> (String, String, String) {
        let conditions = self.conditions(&[], 0);
        let found = conditions
            .into_iter()
            .find(|found| found.type_ == type_.as_str());
        let Condition {
            status,
            reason,
            message,
            ..
        } = found.unwrap();
        (status, reason, message)
    }
}

fn finding(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

#[test]
fn a_condition_keeps_its_transition_time_until_its_status_changes() {
    let first = Case::new(1).conditions(&[], 10);
    let second = Case::new(3).conditions(&first, 20);
    let since = |conditions: &[Condition]| {
        let since = conditions
            .iter()
            .map(|condition| condition.last_transition_time.0);
        since.collect::<Vec<_>>()
    };
    assert_eq!(since(&first), [at(10); 4]);
    assert_eq!(since(&second), [at(10), at(20), at(10), at(20)]);
}

#[test]
fn configured_counts_agents_that_have_the_sink() {
    assert_eq!(
        Case::new(1).finding_of(Configured),
        finding(
            "False",
            "RollingOut",
            "1 of 3 nodes run a ready agent with the sink"
        )
    );
    assert_eq!(
        Case::new(3).finding_of(Configured),
        finding(
            "True",
            "Complete",
            "3 of 3 nodes run a ready agent with the sink"
        )
    );
    // An agent that has the sink but is not ready does not count, and the message states
    // why.
    let mut unready = Case::new(3);
    unready.fleet.agents[1].ready_since = None;
    unready.fleet.agents[1].problem =
        Some("the container does not start (ErrImagePull)".to_owned());
    let (_, _, message) = unready.finding_of(Configured);
    assert_eq!(
        message,
        "2 of 3 nodes run a ready agent with the sink; on node-1: the container does not start (ErrImagePull)"
    );
}

#[test]
fn an_unchanged_sink_stays_configured_during_a_roll() {
    let mut case = Case::new(2);
    let files = case.decided.revisions[&case.decided.plan.revision].clone();
    case.decided.revisions.insert("old".to_owned(), files);
    assert_eq!(case.finding_of(Configured).0, "True");
    // Even while an agent is replaced or about to be.
    let before = case.conditions(&[], 10);
    case.fleet.agents[0].ready_since = None;
    case.fleet.agents.remove(1);
    let after = case.conditions(&before, 20);
    assert_eq!(after, before);
    // But not if an agent does not come back, or takes too long.
    case.fleet.agents[0].created = Some(at(20));
    assert_eq!(case.conditions(&before, 199)[1].status, "True");
    assert_eq!(case.conditions(&before, 200)[1].status, "False");
    case.fleet.agents[0].problem = Some("the container exited with code 1".to_owned());
    assert_eq!(case.conditions(&before, 20)[1].status, "False");
}

#[test]
fn a_rolled_back_sink_reports_the_failure() {
    let mut case = Case::new(0);
    case.decided.history.failed = Some(Failed {
        revision: case.decided.plan.revision.clone(),
        template: None,
        setback: Setback {
            why: "on node node-1: the container exited with code 1 (Error)".to_owned(),
            since: at(1),
            times: 1,
        },
        node: Some("node-1".to_owned()),
        never_ran: false,
    });
    let (status, reason, message) = case.finding_of(Configured);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", Reason::RolledBack.as_str())
    );
    assert!(message.contains("exited with code 1"), "{message}");
}

/// Owners of sinks cannot fix this failure, and need not.
#[test]
fn failures_of_the_image_or_the_settings_are_reported() {
    let failed = |case: &Case, node: Option<&str>| Failed {
        revision: "another".to_owned(),
        template: Some(case.decided.plan.template.clone()),
        setback: Setback {
            why: "on node node-1: ErrImagePull".to_owned(),
            since: at(1),
            times: 1,
        },
        node: node.map(str::to_owned),
        never_ran: false,
    };
    let mut case = Case::new(0);
    case.decided.history.failed = Some(failed(&case, Some("node-1")));
    let (status, reason, message) = case.finding_of(Configured);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "RollingOut"));
    let suffix = "the agents' new image or settings failed on node node-1: ErrImagePull";
    assert!(message.ends_with(suffix), "{message}");

    case.decided.history.failed = Some(failed(&case, None));
    let (_, reason, message) = case.finding_of(Configured);
    assert_eq!(reason, "RollingOut");
    assert!(
        message.contains("no new agent starts: on node node-1"),
        "{message}"
    );
}

#[test]
fn ready_and_stalled_follow_the_other_conditions() {
    let ready_and_stalled_of = |case: &Case| {
        let conditions = case.conditions(&[], 0);
        let of = |type_: ConditionType| {
            let found = conditions
                .iter()
                .find(|found| found.type_ == type_.as_str());
            found.map(|found| format!("{} {}", found.status, found.reason))
        };
        (of(Ready).unwrap(), of(Stalled))
    };
    let expected =
        |ready: &str, stalled: Option<&str>| (ready.to_owned(), stalled.map(str::to_owned));
    assert_eq!(
        ready_and_stalled_of(&Case::new(3)),
        expected("True Complete", None)
    );
    let mut case = Case::new(1);
    assert_eq!(
        ready_and_stalled_of(&case),
        expected("False RollingOut", None)
    );
    case.decided.history.failed = Some(Failed {
        revision: case.decided.plan.revision.clone(),
        template: None,
        setback: Setback {
            why: "on node node-1: the container exited".to_owned(),
            since: at(1),
            times: 1,
        },
        node: Some("node-1".to_owned()),
        never_ran: false,
    });
    assert_eq!(
        ready_and_stalled_of(&case),
        expected("False RolledBack", Some("True RolledBack"))
    );
    case.verdict = Err(Refusal::new(Reason::InvalidValue, "no"));
    assert_eq!(
        ready_and_stalled_of(&case),
        expected("False InvalidValue", Some("True InvalidValue"))
    );
    case.verdict = Err(Refusal::new(Reason::NotLookedUp, "later"));
    assert_eq!(
        ready_and_stalled_of(&case),
        expected("Unknown NotLookedUp", None)
    );
}

#[test]
fn excluded_nodes_are_named() {
    let mut case = Case::new(3);
    let mut exclude = |node: usize| {
        let agent = case.fleet.agents.pop();
        let obstacle = Obstacle::NodeNotReady("NodeStatusUnknown: gone".to_owned());
        let out = OutOfReach { obstacle, agent };
        case.fleet.out_of_reach.insert(format!("node-{node}"), out);
        let (status, _, message) = case.finding_of(Configured);
        assert_eq!(status, "True");
        message
    };
    assert_eq!(
        exclude(2),
        "2 of 2 nodes run a ready agent with the sink, node-2 is excluded: the node is not ready \
         (NodeStatusUnknown: gone)"
    );
    assert_eq!(
        exclude(1),
        "1 of 1 nodes run a ready agent with the sink, 2 are excluded, for example node-1: \
         the node is not ready (NodeStatusUnknown: gone)"
    );
}

#[test]
fn a_refused_sink_is_not_configured() {
    let mut case = Case::new(3);
    case.verdict = Err(Refusal::new(
        Reason::SecretNotFound,
        "the Secret a/b does not exist",
    ));
    assert_eq!(
        case.finding_of(Accepted),
        finding("False", "SecretNotFound", "the Secret a/b does not exist")
    );
    assert_eq!(case.finding_of(Configured).0, "False");
    assert_eq!(case.finding_of(Delivering).0, "False");
}

#[test]
fn delivering_summarizes_the_agents_reports() {
    let mut case = Case::new(3);
    assert_eq!(case.finding_of(Delivering).1, "NotObserved");
    let mut delivery = Delivery {
        agents: 3,
        connected: 3,
        ..Delivery::default()
    };
    case.delivery = Some(delivery.clone());
    assert_eq!(
        case.finding_of(Delivering),
        finding("True", "Connected", "3 of 3 nodes are connected")
    );
    delivery.connected = 2;
    case.delivery = Some(delivery.clone());
    assert_eq!(case.finding_of(Delivering).1, "Connecting");
    delivery.failures = vec![Failure {
        kind: ErrorKind::Tls,
        agents: 1,
        node: "node-2".to_owned(),
    }];
    case.delivery = Some(delivery.clone());
    let (status, reason, message) = case.finding_of(Delivering);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "TlsFailed"));
    assert!(
        message.starts_with("1 of 3 nodes are not connected: TLS failed"),
        "{message}"
    );
    assert!(message.ends_with("on node-2 for example"), "{message}");
    let error = last_error(None, case.delivery.as_ref(), at(5)).unwrap();
    assert_eq!(
        (error.reason.as_str(), error.node.as_str()),
        ("TlsFailed", "node-2")
    );
    // The same error does not change later, and stays after recovery.
    let later = last_error(Some(&error), case.delivery.as_ref(), at(9)).unwrap();
    assert_eq!(later, error);
    delivery.failures.clear();
    assert_eq!(
        last_error(Some(&error), Some(&delivery), at(9)),
        Some(error)
    );
}

#[test]
fn a_connected_sink_with_old_messages_is_not_delivering() {
    let mut case = Case::new(3);
    let behind = Behind {
        agents: 2,
        age: Duration::from_secs(119),
        is_half_full: false,
        node: "node-1".to_owned(),
    };
    let mut finding_while_behind = |behind: &Behind, failures: &[Failure]| {
        case.delivery = Some(Delivery {
            agents: 3,
            connected: 3 - failures.len(),
            failures: failures.to_vec(),
            behind: Some(behind.clone()),
            ..Delivery::default()
        });
        let error = last_error(None, case.delivery.as_ref(), at(5)).unwrap();
        let (status, reason, message) = case.finding_of(Delivering);
        assert_eq!((status.as_str(), &reason), ("False", &error.reason));
        (reason, message, error.node)
    };
    let late = "messages wait for more than a minute on 2 of 3 nodes, on node-1 for example";
    let (reason, message, node) = finding_while_behind(&behind, &[]);
    assert_eq!((reason.as_str(), node.as_str()), ("Behind", "node-1"));
    assert_eq!(message, format!("3 of 3 nodes are connected; {late}"));

    // The message does not change while messages only get older.
    let older = Behind {
        age: Duration::from_secs(299),
        ..behind.clone()
    };
    assert_eq!(finding_while_behind(&older, &[]).1, message);

    let full = Behind {
        age: Duration::ZERO,
        is_half_full: true,
        ..behind.clone()
    };
    let (_, message, _) = finding_while_behind(&full, &[]);
    assert!(
        message.ends_with("and the queue is at least half full (bufferLimit)"),
        "{message}"
    );

    let failure = Failure {
        kind: ErrorKind::Connect,
        agents: 1,
        node: "node-2".to_owned(),
    };
    let (reason, message, node) = finding_while_behind(&behind, &[failure]);
    assert_eq!(
        (reason.as_str(), node.as_str()),
        ("ConnectFailed", "node-2")
    );
    assert!(message.ends_with(late), "{message}");
}

#[test]
fn delivering_includes_the_controllers_events() {
    let mut case = Case::new(3);
    let mut finding_with_events =
        |agents: usize, is_connected: bool, failing: Option<ErrorKind>| {
            let events = EventDelivery {
                is_connected,
                failing,
                tally: EventTally::default(),
            };
            case.delivery = Some(Delivery {
                agents,
                connected: agents,
                events: Some(events),
                ..Delivery::default()
            });
            let error = last_error(None, case.delivery.as_ref(), at(5));
            (case.finding_of(Delivering), error.map(|error| error.node))
        };
    let nodes = "3 of 3 nodes are connected";
    let connected = finding(
        "True",
        "Connected",
        &format!("{nodes}, and the controller for events"),
    );
    assert_eq!(finding_with_events(3, true, None), (connected, None));
    let not_yet = finding(
        "Unknown",
        "Connecting",
        &format!("{nodes}, the controller not yet"),
    );
    assert_eq!(finding_with_events(3, false, None), (not_yet, None));
    let failed = finding(
        "False",
        "ConnectFailed",
        &format!(
            "{nodes}, but the controller, which sends events, is not: no connection can be made \
             to this host and port"
        ),
    );
    let by = Some("controller".to_owned());
    assert_eq!(
        finding_with_events(3, false, Some(ErrorKind::Connect)),
        (failed, by)
    );
    let nobody = "no agent running this sink has reported yet";
    let (found, _) = finding_with_events(0, true, None);
    assert_eq!(found, finding("Unknown", "NotObserved", nobody));
}

#[test]
fn counts_are_written_at_intervals() {
    let delivery = |acknowledged| Delivery {
        acknowledged,
        ..Delivery::default()
    };
    let every = Duration::from_secs(60);
    let write = |before: Option<&Counts>, acknowledged, is_news, now| {
        counts(before, &delivery(acknowledged), is_news, every, at(now))
    };
    let first = write(None, 10, false, 100);
    assert_eq!((first.acknowledged, first.observed_time.0), (10, at(100)));
    assert_eq!(write(Some(&first), 20, false, 130), first);
    assert_eq!(write(Some(&first), 20, true, 130).acknowledged, 20);
    let later = write(Some(&first), 20, false, 160);
    assert_eq!(later.last_acknowledged_time, Some(Time(at(160))));
    // Nothing is written without new counts.
    assert_eq!(write(Some(&later), 20, true, 900), later);
    // Agents restarted, so the counters start again.
    let restarted = write(Some(&later), 5, false, 900);
    assert_eq!(
        (restarted.acknowledged, restarted.last_acknowledged_time),
        (5, Some(Time(at(160))))
    );
}

#[test]
fn failures_and_recoveries_are_announced() {
    let condition = |type_: ConditionType, status: &str, reason: &str| Condition {
        type_: type_.to_string(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: "m".repeat(2000),
        observed_generation: None,
        last_transition_time: Time(at(0)),
    };
    let good = condition(Delivering, "True", "Connected");
    let bad = condition(Delivering, "False", "TlsFailed");
    let worse = condition(Delivering, "False", "ConnectFailed");
    let rolling = condition(Configured, "False", "RollingOut");
    let rolled_back = condition(Configured, "False", Reason::RolledBack.as_str());
    let connecting = condition(Delivering, "Unknown", "NotObserved");
    let has_failed =
        |before: &Condition| before.type_ == Delivering.as_str() && before.reason != "Connected";
    let type_ = |before: Option<&Condition>, now: &Condition| {
        let event = announcement(before, now, before.is_some_and(has_failed))?;
        assert!(event.note.is_some_and(|note| note.len() < 1024));
        Some(event.type_)
    };
    for (before, now, expected) in [
        (None, &good, None),
        (Some(&good), &good, None),
        (Some(&good), &bad, Some(EventType::Warning)),
        (Some(&bad), &bad, None),
        (Some(&bad), &worse, Some(EventType::Warning)),
        (Some(&bad), &good, Some(EventType::Normal)),
        (Some(&connecting), &good, Some(EventType::Normal)),
        (None, &rolling, None),
        // Other conditions report the reason.
        (None, &condition(Ready, "False", "BadCertificate"), None),
        (Some(&rolling), &rolled_back, Some(EventType::Warning)),
        (
            None,
            &condition(Delivering, "False", Reason::NotAccepted.as_str()),
            None,
        ),
        (
            None,
            &condition(Accepted, "False", "BadCertificate"),
            Some(EventType::Warning),
        ),
    ] {
        assert_eq!(type_(before, now), expected, "{} {}", now.type_, now.reason);
    }
}

#[test]
fn changed_numbers_are_not_announced() {
    let status = |ready: usize, time| SinkStatus {
        observed_generation: Some(1),
        conditions: Case::new(ready).conditions(&[], time),
        counts: None,
        last_error: None,
    };
    assert!(is_news(&SinkStatus::default(), &status(0, 10)));
    assert!(!is_news(&status(0, 10), &status(1, 20)));
    assert!(is_news(&status(2, 10), &status(3, 20)));
}

/// Tools give up on a stalled object.
#[test]
fn a_sink_that_may_recover_is_not_stalled() {
    let mut case = Case::new(0);
    let mut is_stalled = |reason| {
        case.verdict = Err(Refusal::new(reason, "why"));
        let conditions = case.conditions(&[], 0);
        conditions
            .iter()
            .any(|condition| condition.type_ == Stalled.as_str())
    };
    for reason in [
        Reason::SecretNotFound,
        Reason::SecretNotReadable,
        Reason::ConfigMapNotFound,
        Reason::ConfigMapNotReadable,
        Reason::KeyNotFound,
        Reason::NotLookedUp,
    ] {
        assert!(!is_stalled(reason), "{reason}");
    }
    assert!(is_stalled(Reason::InvalidValue) && is_stalled(Reason::BadCertificate));
}

#[test]
fn a_sink_that_waits_for_its_retry_is_neither_rolled_back_nor_stalled() {
    let mut case = Case::new(0);
    // Agents still have the previous good revision.
    case.decided.plan.configuration.parts.clear();
    let file = case.verdict.as_ref().unwrap().file.clone();
    let mut finding_if_held = |is_suspect| {
        let why = "on node node-1: the container exited".to_owned();
        let held = HoldReason { why, is_suspect };
        case.decided.plan.held.insert(file.clone(), held);
        let (_, reason, message) = case.finding_of(Configured);
        let conditions = case.conditions(&[], 0);
        let mut types = conditions.iter().map(|condition| condition.type_.as_str());
        (
            reason,
            message,
            types.any(|type_| type_ == Stalled.as_str()),
        )
    };
    let (reason, message, is_stalled) = finding_if_held(true);
    assert_eq!((reason.as_str(), is_stalled), ("RollingOut", false));
    assert!(message.contains("retried in turn"), "{message}");
    let (reason, _, is_stalled) = finding_if_held(false);
    assert_eq!((reason.as_str(), is_stalled), ("RolledBack", true));
}

/// The trial of another namespace's change fails; the plan is older than the failure.
#[test]
fn unchanged_sinks_are_neither_rolled_back_nor_stalled() {
    let mut case = Case::new(3);
    let revision = case.decided.plan.revision.clone();
    let unchanged = Arc::clone(&case.decided.revisions[&revision]);
    case.decided.revisions.insert("old".to_owned(), unchanged);
    let tried = &mut case.fleet.agents[0];
    (tried.ready_since, tried.restarts) = (None, 2);
    tried.problem = Some("the container exited with code 1".to_owned());
    let before = case.conditions(&[], 0);
    case.decided.history.good = Some(Since {
        revision: "old".to_owned(),
        template: String::new(),
        since: at(0),
    });
    case.decided.history.failed = Some(Failed {
        revision,
        template: None,
        setback: Setback {
            why: "on node node-0: the container exited with code 1".to_owned(),
            since: at(20),
            times: 1,
        },
        node: Some("node-0".to_owned()),
        never_ran: false,
    });
    let conditions = case.conditions(&before, 20);
    let reasons: Vec<&str> = conditions.iter().map(|c| c.reason.as_str()).collect();
    assert!(!reasons.contains(&"RolledBack"), "{reasons:?}");

    // A sink that was only in the failed revision is rolled back.
    case.decided
        .revisions
        .insert("old".to_owned(), Arc::default());
    assert_eq!(case.finding_of(Configured).1, "RolledBack");
}

#[test]
fn a_node_that_was_unhealthy_before_does_not_block_configured() {
    let mut case = Case::new(3);
    let agent = &mut case.fleet.agents[2];
    (agent.ready_since, agent.restarts) = (None, 5);
    assert_eq!(case.finding_of(Configured).0, "False");
    case.decided.history.unhealthy.insert("node-2".to_owned());
    let (status, _, message) = case.finding_of(Configured);
    assert_eq!(status, "True");
    let expected = "2 of 2 nodes run a ready agent with the sink, node-2 is excluded: the agent \
                    is not ready";
    assert_eq!(message, expected);
}

/// A new leader does not know yet since when the agent is not ready.
#[test]
fn an_excluded_node_does_not_end_configured_when_another_controller_leads() {
    let mut case = Case::new(3);
    let agent = &mut case.fleet.agents[2];
    agent.ready_since = None;
    agent.problem = Some("the container does not start (ErrImagePull)".to_owned());
    case.decided.history.unhealthy.insert("node-2".to_owned());
    let before = case.conditions(&[], 300);
    case.fleet.agents[2].observed_since = Some(at(310));
    let after = case.conditions(&before, 320);
    let configured = |conditions: &[Condition]| {
        let mut found = conditions.iter();
        let found = found.find(|found| found.type_ == Configured.as_str());
        found.unwrap().status.clone()
    };
    assert_eq!(
        (configured(&before), configured(&after)),
        ("True".to_owned(), "True".to_owned())
    );
}
