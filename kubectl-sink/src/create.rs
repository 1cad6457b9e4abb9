//! `kubectl sink create`.

use std::fs;
use std::time::Duration;

use api::{ConditionStatus, ConditionType, LogSinkSpec};
use serde_json::{Map, Value, json};

use crate::access::{Cluster, Scope, Sink};
use crate::cli::{Access, Connection, Create, Output, Selection, Tls};
use crate::failure::Failure;
use crate::manifest::{add, manifest};
use crate::output::document;

/// The interval at which the status of a new sink is read.
const LOOK: Duration = Duration::from_millis(500);

/// The answer is what is printed.
pub(crate) async fn create(access: &Access, create: &Create) -> Result<String, Failure> {
    let name = &create.sink.name;
    let is_cluster_scoped = create.sink.kind.cluster;
    let spec = spec(create)?;
    if create.dry_run {
        let namespace = access.namespace.as_deref();
        let object = manifest(name, namespace, is_cluster_scoped, spec);
        return document(&object, create.output.unwrap_or(Output::Yaml));
    }
    let cluster = Cluster::connect(access).await?;
    let scope = cluster.scope(is_cluster_scoped);
    let object = manifest(name, Some(&cluster.namespace), is_cluster_scoped, spec);
    let mut sink = cluster.create(&scope, &object).await?;
    if let Some(patience) = create.wait {
        sink = until_delivering(&cluster, &scope, name, patience).await?;
    }
    match create.output {
        Some(output) => document(&sink.0, output),
        None => Ok(format!("{} created\n", scope.name(name))),
    }
}

/// Returns the fields that were given, and no others: the API server adds defaults.
fn spec(create: &Create) -> Result<Map<String, Value>, Failure> {
    let Create {
        sink,
        connection,
        tls,
        selection,
        buffer_limit,
        max_message_size,
        wait: _,
        dry_run: _,
        output: _,
    } = create;
    let Connection {
        host,
        port,
        servers,
        balance,
        transport,
    } = connection;
    let mut spec = Map::new();
    let servers: Vec<Value> = servers.iter().map(server).collect();
    add(&mut spec, "host", host.as_deref());
    add(&mut spec, "port", *port);
    add(&mut spec, "servers", some(servers));
    add(&mut spec, "sharing", balance.then_some("balance"));
    add(&mut spec, "transport", transport.as_deref());
    add(&mut spec, "tls", some_map(tls_of(tls)?));
    add(
        &mut spec,
        "selection",
        some_map(selection_fields(selection)),
    );
    add(&mut spec, "events", selection.no_events.then_some(false));
    let warnings = json!({"minimumLevel": "Warning"});
    let warnings = selection.only_warnings.then_some(warnings);
    add(&mut spec, "eventSelection", warnings);
    add(&mut spec, "bufferLimit", buffer_limit.as_deref());
    add(&mut spec, "maxMessageSize", *max_message_size);
    let typed = serde_json::from_value::<LogSinkSpec>(Value::Object(spec.clone()));
    typed.map_err(|error| Failure::new(format!("no sink can be made of this: {error}")))?;
    if !sink.kind.cluster {
        return Ok(spec);
    }
    let mut whole = Map::new();
    whole.insert("sink".to_owned(), Value::Object(spec));
    let labels = some_map(labels(&selection.namespace_labels));
    add(&mut whole, "namespaceSelector", labels.map(selector));
    let excluded = some(selection.excluded_namespaces.clone());
    add(&mut whole, "excludeNamespaces", excluded);
    let agent_logs = selection.include_agent_logs.then_some(true);
    add(&mut whole, "includeAgentLogs", agent_logs);
    Ok(whole)
}

fn server((host, port): &(String, Option<u16>)) -> Value {
    let mut server = Map::new();
    add(&mut server, "host", Some(host.as_str()));
    add(&mut server, "port", *port);
    Value::Object(server)
}

fn tls_of(tls: &Tls) -> Result<Map<String, Value>, Failure> {
    let Tls {
        ca_secret,
        ca_config_map,
        ca_file,
        client_certificate_secret,
        server_name,
        pins,
        min_tls_version,
        insecure_skip_verify,
    } = tls;
    let pem = ca_file.as_ref().map(|file| {
        fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))
    });
    let mut ca = Map::new();
    add(&mut ca, "pem", pem.transpose()?);
    add(&mut ca, "secret", ca_secret.as_deref().map(reference));
    add(
        &mut ca,
        "configMap",
        ca_config_map.as_deref().map(reference),
    );
    let mut tls = Map::new();
    add(&mut tls, "ca", some_map(ca));
    let identity = client_certificate_secret.as_deref();
    add(&mut tls, "clientCertificateSecret", identity);
    add(&mut tls, "serverName", server_name.as_deref());
    add(&mut tls, "pins", some(pins.clone()));
    add(&mut tls, "minVersion", min_tls_version.as_deref());
    let trusting = insecure_skip_verify.then_some(true);
    add(&mut tls, "insecureSkipVerify", trusting);
    Ok(tls)
}

/// `NAME[/KEY]`.
fn reference(text: &str) -> Value {
    match text.split_once('/') {
        Some((name, key)) => json!({"name": name, "key": key}),
        None => json!({"name": text}),
    }
}

fn selection_fields(selection: &Selection) -> Map<String, Value> {
    let mut excluded = Map::new();
    let names = selection.excluded_containers.clone();
    add(&mut excluded, "containers", some(names));
    let mut fields = Map::new();
    add(
        &mut fields,
        "containers",
        some(selection.containers.clone()),
    );
    let pods = some_map(labels(&selection.pod_labels));
    add(&mut fields, "podSelector", pods.map(selector));
    add(&mut fields, "stream", selection.stream.as_deref());
    add(&mut fields, "exclude", some_map(excluded));
    fields
}

fn labels(labels: &[(String, String)]) -> Map<String, Value> {
    let labels = labels.iter().cloned();
    labels.map(|(key, value)| (key, value.into())).collect()
}

fn selector(labels: Map<String, Value>) -> Map<String, Value> {
    Map::from_iter([("matchLabels".to_owned(), Value::Object(labels))])
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_map(map: Map<String, Value>) -> Option<Map<String, Value>> {
    (!map.is_empty()).then_some(map)
}

async fn until_delivering(
    cluster: &Cluster,
    scope: &Scope,
    name: &str,
    patience: Duration,
) -> Result<Sink, Failure> {
    let mut last = "the controller has not reported its status yet".to_owned();
    let waiting = async {
        loop {
            let sink = cluster.get(scope, name).await?;
            let status = sink.status();
            if let Some(accepted) = status.condition(ConditionType::Accepted)
                && ConditionStatus::of(accepted) == ConditionStatus::False
            {
                return Err(Failure::new(accepted.message.clone()));
            }
            if let Some(delivering) = status.condition(ConditionType::Delivering) {
                if ConditionStatus::of(delivering) == ConditionStatus::True {
                    return Ok(sink);
                }
                last = format!("{}: {}", delivering.reason, delivering.message);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(patience, waiting).await;
    waited.unwrap_or_else(|_| {
        let name = scope.name(name);
        let problem = format!("the {name} was created, but does not deliver yet: {last}");
        Err(Failure::new(problem))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn spec_of(arguments: &str) -> Value {
        let words = ["kubectl-sink", "create", "siem"].into_iter();
        let cli = Cli::try_parse_from(words.chain(arguments.split(' '))).unwrap();
        let Command::Create(create) = cli.command else {
            panic!("{arguments}");
        };
        Value::Object(spec(&create).unwrap())
    }

    #[test]
    fn only_given_options_are_written() {
        assert_eq!(
            spec_of("--host logs.example"),
            json!({"host": "logs.example"})
        );
        assert_eq!(
            spec_of("--server a --server [::1]:514 --balance --transport tcp --no-events"),
            json!({
                "servers": [{"host": "a"}, {"host": "::1", "port": 514}],
                "sharing": "balance", "transport": "tcp", "events": false,
            })
        );
        assert_eq!(
            spec_of(
                "--host a --ca-secret logs-ca --client-certificate-secret own --pin sha-256:AB"
            ),
            json!({"host": "a", "tls": {
                "ca": {"secret": {"name": "logs-ca"}},
                "clientCertificateSecret": "own", "pins": ["sha-256:AB"],
            }})
        );
        assert_eq!(
            spec_of("--host a --container web --exclude-container istio-* --pod-label app=web"),
            json!({"host": "a", "selection": {
                "containers": ["web"], "podSelector": {"matchLabels": {"app": "web"}},
                "exclude": {"containers": ["istio-*"]},
            }})
        );
        assert_eq!(
            spec_of(
                "--cluster --host a --ca-config-map cas/root.pem --exclude-namespace kube-system \
                 --include-agent-logs"
            ),
            json!({
                "sink": {
                    "host": "a",
                    "tls": {"ca": {"configMap": {"name": "cas", "key": "root.pem"}}},
                },
                "excludeNamespaces": ["kube-system"],
                "includeAgentLogs": true,
            })
        );
    }

    #[test]
    fn inconsistent_options_are_refused() {
        for arguments in [
            "--port 514",
            "--host a --server b",
            "--host a --balance",
            "--host a --ca-secret x --ca-file y",
            "--host a --exclude-namespace x",
            "--host a --include-agent-logs",
            "--host a --transport quic",
        ] {
            let words = ["kubectl-sink", "create", "siem"].into_iter();
            let parsed = Cli::try_parse_from(words.chain(arguments.split(' ')));
            assert!(parsed.is_err(), "{arguments}");
        }
    }
}
