//! `kubectl sink describe`.

use controller::resources::SinkStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::access::{Cluster, Sink};
use crate::cli::{Named, Output};
use crate::failure::Failure;
use crate::list::server;
use crate::output::{age, document, table};

/// The answer is what is printed.
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
        return vec!["Conditions:  none: no controller has seen the sink".to_owned()];
    }
    let generation = sink.0["metadata"]["generation"].as_i64();
    let mut lines = vec!["Conditions:".to_owned()];
    if status.observed_generation != generation {
        lines.push("  (of an earlier spec: the controller has not seen this one)".to_owned());
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
        "Logs:        {} acknowledged, {} dropped, by the agents that run, since each one's start; as of {}",
        counts.acknowledged,
        counts.dropped,
        ago(counts.observed_time.0, now),
    )];
    lines.extend(counts.events.map(|events| {
        format!(
            "Events:      {} acknowledged, {} dropped, {} waiting",
            events.acknowledged, events.dropped, events.waiting,
        )
    }));
    lines
}

/// What the owner can do about the first condition that is bad.
fn advice(status: &SinkStatus) -> Option<&'static str> {
    let mut conditions = status.conditions.iter();
    let bad = conditions.find(|condition| condition.status == "False")?;
    Some(match bad.reason.as_str() {
        "InvalidValue" => "change the field that the condition names",
        "SecretNotFound" | "ConfigMapNotFound" => {
            "create it in the sink's namespace (for a ClusterLogSink: the controller's)"
        }
        "SecretNotReadable" => {
            "allow the controller to read it: bind its ServiceAccount to the ClusterRole syslog-sink-secrets in this namespace"
        }
        "KeyNotFound" => "name one of the keys that the condition lists",
        "BadCertificate" => "put a certificate in PEM there, and the key that belongs to it",
        "TooManySinks" | "TooLarge" => "delete or shorten a sink, or ask the operator for more",
        "RollingOut" => "wait: the agents are replaced a few at a time",
        "RolledBack" => "see the condition; the agents kept what they had before",
        "ConnectFailed" | "NameNotResolved" | "TimedOut" | "TlsFailed" | "RelpFailed"
        | "ConnectionBroken" | "ConnectionClosed" => {
            "`kubectl sink test` finds the step that fails, and why"
        }
        _ => return None,
    })
}
