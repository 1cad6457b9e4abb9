//! `kubectl sink list`.

use api::ConditionType;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::access::{Cluster, Scope, Sink};
use crate::cli::{List, ListOutput, Output};
use crate::failure::Failure;
use crate::output::{age, document, table};

/// Returns the text to print.
pub(crate) async fn list(cluster: &Cluster, list: &List) -> Result<String, Failure> {
    let mut sinks = Vec::new();
    if list.all_namespaces || list.kind.cluster {
        sinks.extend(cluster.list(&Scope::Cluster).await?);
    }
    if list.all_namespaces {
        sinks.extend(cluster.list(&Scope::AllNamespaces).await?);
    } else if !list.kind.cluster {
        sinks.extend(cluster.list(&cluster.scope(false)).await?);
    }
    let documents = |output| {
        let items: Vec<&Value> = sinks.iter().map(|Sink(object)| object).collect();
        document(
            &json!({"apiVersion": "v1", "kind": "List", "items": items}),
            output,
        )
    };
    match list.output {
        Some(ListOutput::Json) => documents(Output::Json),
        Some(ListOutput::Yaml) => documents(Output::Yaml),
        Some(ListOutput::Name) => Ok(sinks.iter().map(name).collect()),
        Some(ListOutput::Wide) | None if sinks.is_empty() => {
            eprintln!("No sinks found{}.", scope_of(cluster, list));
            Ok(String::new())
        }
        wide => {
            let is_wide = wide == Some(ListOutput::Wide);
            let now = Timestamp::now();
            let rows = sinks.iter().map(|sink| row(sink, is_wide, now));
            let rows: Vec<_> = std::iter::once(heading(is_wide)).chain(rows).collect();
            Ok(table(&rows))
        }
    }
}

fn scope_of(cluster: &Cluster, list: &List) -> String {
    match (list.all_namespaces, list.kind.cluster) {
        (true, _) => String::new(),
        (false, true) => " in the cluster".to_owned(),
        (false, false) => format!(" in the namespace {}", cluster.namespace),
    }
}

/// Returns the name as `kubectl get -o name` prints it.
fn name(sink: &Sink) -> String {
    let kind = sink.text("/kind").to_lowercase();
    format!("{kind}.syslogsink.io/{}\n", sink.name())
}

fn heading(is_wide: bool) -> Vec<String> {
    let columns = [
        "NAMESPACE",
        "NAME",
        "SERVER",
        "TRANSPORT",
        "ACCEPTED",
        "CONFIGURED",
        "DELIVERING",
        "AGE",
    ];
    let more = ["ACKNOWLEDGED", "WAITING", "DROPPED", "EVENTS", "LAST ERROR"];
    let more = more.into_iter().filter(|_| is_wide);
    columns.into_iter().chain(more).map(str::to_owned).collect()
}

fn row(sink: &Sink, is_wide: bool, now: Timestamp) -> Vec<String> {
    let status = sink.status();
    let is = |type_| status.status_of(type_).to_string();
    let namespace = match sink.namespace() {
        "" => "(cluster)",
        namespace => namespace,
    };
    let mut row = vec![
        namespace.to_owned(),
        sink.name().to_owned(),
        server(sink),
        sink.sink()["transport"]
            .as_str()
            .unwrap_or("tls")
            .to_owned(),
        is(ConditionType::Accepted),
        is(ConditionType::Configured),
        is(ConditionType::Delivering),
        age(sink.created(), now),
    ];
    if is_wide {
        let counts = status.counts.as_ref();
        let number = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        let events = counts.and_then(|counts| counts.events);
        row.push(number(counts.map(|counts| counts.acknowledged)));
        row.push(number(counts.map(|counts| counts.waiting)));
        row.push(number(counts.map(|counts| counts.dropped)));
        row.push(number(events.map(|events| events.acknowledged)));
        row.push(status.last_error.map_or("-".to_owned(), |error| {
            let ago = age(Some(error.time.0), now);
            format!("{} on {}, {ago} ago", error.reason, error.node)
        }));
    }
    row
}

/// Returns the first server, and the number of others.
pub(crate) fn server(sink: &Sink) -> String {
    let sink = sink.sink();
    let others = sink["servers"].as_array().map_or(0, Vec::len);
    let of = |server: &Value| {
        let host = server["host"].as_str().unwrap_or("<none>");
        let port = server["port"].as_u64();
        match port {
            Some(port) if host.contains(':') => format!("[{host}]:{port}"),
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    };
    match others {
        0 => of(sink),
        1 => of(&sink["servers"][0]),
        more => format!("{} +{}", of(&sink["servers"][0]), more - 1),
    }
}
