//! `kubectl sink describe`.

use api::{ConditionStatus, Reason, SinkStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::access::{Cluster, Sink};
use crate::cli::{Named, Output};
use crate::failure::Failure;
use crate::list::server;
use crate::output::{age, document, table};

/// Returns the text to print.
pub(crate) async fn describe(cluster: &Cluster, named: &Named) -> Result<String, Failure> {
    let scope = cluster.scope(named.kind.cluster);
    let sink = cluster.get(&scope, &named.name).await?;
    let status = sink.status();
    let now = Timestamp::now();
    let mut lines = vec![format!("Name:        {}", sink.name())];
    lines.push(match sink.namespace() {
        "" => "Kind:        ClusterLogSink".to_owned(),
        namespace => format!("Namespace:   {namespace}"),
    });
    lines.push(format!("Server:      {}", server(&sink)));
    let created = sink.created().map(|time| ago(time, now));
    lines.extend(created.map(|created| format!("Created:     {created}")));
    lines.extend(conditions(&sink, &status, now));
    lines.extend(counts(&status, now));
    if let Some(error) = &status.last_error {
        let since = ago(error.time.0, now);
        let (reason, node) = (&error.reason, &error.node);
        lines.push(format!("Last error:  {reason} on {node}, {since}"));
    }
    let advice = advice(&status);
    lines.extend(advice.map(|advice| format!("What to do:  {advice}")));
    lines.push("Spec:".to_owned());
    let spec = document(&sink.0["spec"], Output::Yaml)?;
    lines.extend(spec.lines().map(|line| format!("  {line}")));
    Ok(lines.join("\n") + "\n")
}

fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago ({time})", age(Some(time), now))
}

fn conditions(sink: &Sink, status: &SinkStatus, now: Timestamp) -> Vec<String> {
    if status.conditions.is_empty() {
        return vec!["Conditions:  none, no controller has seen the sink yet".to_owned()];
    }
    let generation = sink.0["metadata"]["generation"].as_i64();
    let mut lines = vec!["Conditions:".to_owned()];
    if status.observed_generation != generation {
        lines.push(
            "  (of an earlier spec; the controller has not seen the current one yet)".to_owned(),
        );
    }
    let row = |condition: &Condition| {
        vec![
            format!("  {}", condition.type_),
            condition.status.clone(),
            age(Some(condition.last_transition_time.0), now),
            format!("{}: {}", condition.reason, condition.message),
        ]
    };
    let rows: Vec<Vec<String>> = status.conditions.iter().map(row).collect();
    lines.extend(table(&rows).lines().map(str::to_owned));
    lines
}

fn counts(status: &SinkStatus, now: Timestamp) -> Vec<String> {
    let Some(counts) = &status.counts else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "Logs:        {} acknowledged, {} dropped (by the running agents, each since its start), as of {}",
        counts.acknowledged,
        counts.dropped,
        ago(counts.observed_time.0, now),
    )];
    lines.extend(counts.oldest_waiting_time.as_ref().map(|oldest| {
        format!(
            "Waiting:     {} messages on the nodes' disks, the oldest since {}",
            counts.waiting,
            ago(oldest.0, now),
        )
    }));
    lines.extend(counts.events.map(|events| {
        format!(
            "Events:      {} acknowledged, {} dropped, {} waiting",
            events.acknowledged, events.dropped, events.waiting,
        )
    }));
    lines
}

/// Returns advice on the first condition that is not `True`; none if all are, or if the
/// reason is unknown to this version.
fn advice(status: &SinkStatus) -> Option<&'static str> {
    let mut conditions = status.conditions.iter();
    let bad =
        conditions.find(|condition| ConditionStatus::of(condition) != ConditionStatus::True)?;
    what_to_do(Reason::from_name(&bad.reason)?)
}

/// Returns advice on a reason; none if nothing is wrong.
const fn what_to_do(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Accepted | Reason::Complete | Reason::Connected => return None,
        Reason::InvalidValue => "change the field that the condition names",
        Reason::SecretNotFound | Reason::ConfigMapNotFound => {
            "create it in the sink's namespace (for a ClusterLogSink: the controller's)"
        }
        Reason::NotLookedUp => "wait until the API server answers the controller",
        Reason::SecretNotReadable => {
            "allow the controller to read it: bind its ServiceAccount to the ClusterRole \
             syslog-sink-secrets in this namespace"
        }
        Reason::ConfigMapNotReadable => {
            "ask the operator: the controller's ClusterRole must allow it to get ConfigMaps"
        }
        Reason::KeyNotFound => "refer to one of the keys that the condition lists",
        Reason::BadCertificate => "provide a certificate in PEM, and the key that belongs to it",
        Reason::InvalidObject => {
            "apply the sink again: it was stored under an older schema, and the condition \
             explains what does not match"
        }
        Reason::TooManySinks | Reason::TooLarge => {
            "delete a sink or make one smaller, or ask the operator to raise the limit"
        }
        Reason::RollingOut => "wait: agents are being replaced, a few at a time",
        Reason::RolledBack => {
            "see the condition for what happened to the agents; change the sink if it is the cause: \
             unchanged, it is retried only after minutes to hours"
        }
        Reason::NotAccepted => "see the condition Accepted",
        Reason::Connecting => {
            "wait: the agents are connecting; if this does not change, run `kubectl sink test` to find the \
             step that fails"
        }
        Reason::NotObserved => {
            "wait: no agent has reported yet; if this does not change, the agents are not ready, \
             or the controller cannot read their metrics"
        }
        Reason::Behind => {
            "find out why the receiver accepts less than is written (its log, its disk, the \
             network): beyond bufferLimit the oldest messages are lost"
        }
        Reason::ConnectFailed
        | Reason::NameNotResolved
        | Reason::TimedOut
        | Reason::TlsFailed
        | Reason::RelpFailed
        | Reason::ConnectionBroken
        | Reason::ConnectionClosed => {
            "run `kubectl sink test` to find the step that fails, and why"
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> SinkStatus {
        let condition = |(type_, status, reason): &(&str, &str, &str)| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-03-01T12:00:00Z",
            })
        };
        let conditions: Vec<_> = conditions.iter().map(condition).collect();
        serde_json::from_value(json!({"conditions": conditions})).unwrap()
    }

    #[test]
    fn the_first_condition_that_is_not_good_has_advice() {
        let accepted = ("Accepted", "True", "Accepted");
        let complete = ("Configured", "True", "Complete");
        for (conditions, expected) in [
            (
                vec![accepted, complete, ("Delivering", "True", "Connected")],
                None,
            ),
            (
                vec![accepted, complete, ("Delivering", "Unknown", "NotObserved")],
                what_to_do(Reason::NotObserved),
            ),
            (
                vec![
                    ("Accepted", "False", "BadCertificate"),
                    ("Configured", "False", "NotAccepted"),
                ],
                what_to_do(Reason::BadCertificate),
            ),
            (vec![("Accepted", "False", "FromTheFuture")], None),
        ] {
            assert_eq!(advice(&status(&conditions)), expected, "{conditions:?}");
        }
    }

    /// Every reason of a condition that is not `True` has advice.
    #[test]
    fn every_bad_reason_has_advice() {
        let without = Reason::ALL
            .iter()
            .filter(|reason| what_to_do(**reason).is_none());
        let without: Vec<&str> = without.map(|reason| reason.as_str()).collect();
        assert_eq!(without, ["Accepted", "Complete", "Connected"]);
    }
}
