//! `kubectl sink migrate`: converts the sinks of Pivotal's PKS.
//!
//! PKS renamed its resources twice and kept their fields: `type`, `host`,
//! `port`, `enable_tls` and `insecure_skip_verify`
//! (`github.com/knative/observability`, `pkg/apis/sink/v1alpha1/types.go`).

use std::fs;
use std::io::{self, Read};

use http::Request;
use serde_json::{Map, Value, json};

use crate::access::{Cluster, of_list};
use crate::cli::{Access, Migrate, Output};
use crate::failure::Failure;
use crate::manifest::{add, manifest};
use crate::output::{document, print};

/// API versions, with the plural names of the namespaced and the cluster-scoped resource.
const RESOURCES: [(&str, &str, &str); 3] = [
    (
        "observability.knative.dev/v1alpha1",
        "logsinks",
        "clusterlogsinks",
    ),
    ("pksapi.io/v1beta1", "logsinks", "clusterlogsinks"),
    ("apps.pivotal.io/v1beta1", "sinks", "clustersinks"),
];

/// A converted sink.
#[derive(Debug, PartialEq)]
struct Migrated {
    /// The name of the PKS sink.
    name: String,
    /// The new object; none if the sink cannot be converted.
    manifest: Option<Value>,
    /// Notes for the user.
    notes: Vec<String>,
    /// Settings that cannot be converted.
    lost: Vec<String>,
}

impl Migrated {
    /// Returns the notes, one line each. Text of the PKS sink cannot break a line.
    fn remarks(&self) -> impl Iterator<Item = String> {
        let all = self.lost.iter().chain(&self.notes);
        let lines = all.map(|remark| format!("{}: {remark}", self.name));
        lines.map(|line| line.replace(|c: char| c.is_control() || c == '\u{2028}', " "))
    }
}

/// Prints the converted sinks. Notes go to standard error, and into YAML as comments.
pub(crate) async fn migrate(access: &Access, migrate: &Migrate) -> Result<(), Failure> {
    let objects = match &migrate.file {
        Some(file) => read(file)?,
        None => ask(&Cluster::connect(access).await?, migrate.all_namespaces).await?,
    };
    let migrated: Vec<Migrated> = objects
        .iter()
        .map(|object| sink(object, access.namespace.as_deref()))
        .collect();
    print(&text(&migrated, migrate.output)?)?;
    for sink in &migrated {
        sink.remarks().for_each(|line| eprintln!("{line}"));
    }
    match migrated.iter().filter(|sink| !sink.lost.is_empty()).count() {
        0 => Ok(()),
        count => Err(Failure::Incomplete(count)),
    }
}

fn text(migrated: &[Migrated], output: Output) -> Result<String, Failure> {
    if output == Output::Json {
        let items: Vec<&Value> = migrated.iter().flat_map(|m| &m.manifest).collect();
        return document(
            &json!({"apiVersion": "v1", "kind": "List", "items": items}),
            output,
        );
    }
    let mut text = String::new();
    for sink in migrated {
        text += "---\n";
        text.extend(sink.remarks().map(|line| format!("# {line}\n")));
        if let Some(manifest) = &sink.manifest {
            text += &document(manifest, output)?;
        }
    }
    Ok(text)
}

fn read(file: &std::path::Path) -> Result<Vec<Value>, Failure> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let shown = file.display();
    let text = text.map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|error| Failure::new(format!("{shown} is not valid YAML: {error}")))?;
    let objects: Vec<Value> = documents.into_iter().flat_map(items).collect();
    if objects.is_empty() {
        return Err(Failure::new(format!("{shown} contains no objects")));
    }
    Ok(objects)
}

/// Returns the items of a list, or the object itself.
fn items(object: Value) -> Vec<Value> {
    match object {
        Value::Null => Vec::new(),
        Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        object => vec![object],
    }
}

async fn ask(cluster: &Cluster, all: bool) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    let mut is_any_known = false;
    for (version, of_namespaces, of_cluster) in RESOURCES {
        let mut paths = Vec::new();
        if all {
            paths.push(of_namespaces.to_owned());
            paths.push(of_cluster.to_owned());
        } else {
            let namespace = &cluster.namespace;
            paths.push(format!("namespaces/{namespace}/{of_namespaces}"));
        }
        for path in paths {
            let what = format!("cannot list {path} of {version}");
            let request = Request::get(format!("/apis/{version}/{path}"));
            let request = request.body(Vec::new());
            let request = request.map_err(|error| Failure::new(format!("{what}: {error}")))?;
            match cluster.client.request::<Value>(request).await {
                Ok(list) => {
                    is_any_known = true;
                    found.extend(items(list).into_iter().map(|item| named(item, version)));
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(Failure::api(what)(error)),
            }
        }
    }
    if !is_any_known {
        let versions: Vec<&str> = RESOURCES.iter().map(|(version, ..)| *version).collect();
        let versions = versions.join(", ");
        return Err(Failure::new(format!(
            "the cluster has none of the API versions {versions}"
        )));
    }
    Ok(found)
}

fn named(item: Value, version: &str) -> Value {
    let is_in_namespace = item.pointer("/metadata/namespace").is_some();
    let kind = if is_in_namespace {
        "LogSink"
    } else {
        "ClusterLogSink"
    };
    of_list(item, version, kind)
}

/// Converts a PKS sink. `namespace` is used if the object has none.
fn sink(object: &Value, namespace: Option<&str>) -> Migrated {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or("<no name>");
    let namespace = text("/metadata/namespace").or(namespace);
    let kind = text("/kind").unwrap_or("<no kind>");
    let version = text("/apiVersion").unwrap_or("<no apiVersion>");
    let mut migrated = Migrated {
        name: match namespace {
            Some(namespace) if !kind.starts_with("Cluster") => format!("{kind} {namespace}/{name}"),
            _ => format!("{kind} {name}"),
        },
        manifest: None,
        notes: Vec::new(),
        lost: Vec::new(),
    };
    let is_cluster_scoped = match kind {
        _ if !RESOURCES.iter().any(|(known, ..)| *known == version) => None,
        "LogSink" | "Sink" => Some(false),
        "ClusterLogSink" | "ClusterSink" => Some(true),
        _ => None,
    };
    let Some(is_cluster_scoped) = is_cluster_scoped else {
        let problem = format!("cannot be converted: {kind} of {version} is not a PKS log sink");
        migrated.lost.push(problem);
        return migrated;
    };
    let none = Map::new();
    let fields = object
        .get("spec")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let Some(mut spec) = spec(fields, &mut migrated) else {
        return migrated;
    };
    if is_cluster_scoped {
        spec = Map::from_iter([("sink".to_owned(), Value::Object(spec))]);
    }
    let mut manifest = manifest(name, namespace, is_cluster_scoped, spec);
    if let Some(labels) = object.pointer("/metadata/labels") {
        manifest["metadata"]["labels"] = labels.clone();
    }
    migrated.manifest = Some(manifest);
    migrated
}

/// Returns the new spec; none if the sink cannot be converted.
fn spec(fields: &Map<String, Value>, migrated: &mut Migrated) -> Option<Map<String, Value>> {
    let Migrated { notes, lost, .. } = migrated;
    let is_set = |key: &str| fields.get(key).and_then(Value::as_bool) == Some(true);
    let kind = fields
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("syslog");
    if kind != "syslog" {
        lost.push(format!(
            "cannot be converted: type {kind:?}, only syslog is supported"
        ));
        return None;
    }
    let host = fields
        .get("host")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if host.is_empty() {
        lost.push("cannot be converted: host is missing".to_owned());
        return None;
    }
    let is_secure = is_set("enable_tls");
    let mut spec = Map::new();
    add(&mut spec, "host", Some(host));
    match fields.get("port").map(port) {
        Some(Some(port)) => add(&mut spec, "port", Some(port)),
        Some(None) => lost.push(format!("invalid port {}", fields["port"])),
        None => notes.push("no port: the transport's default port is used".to_owned()),
    }
    add(&mut spec, "transport", (!is_secure).then_some("tcp"));
    match (is_secure, is_set("insecure_skip_verify")) {
        (true, true) => {
            add(&mut spec, "tls", Some(json!({"insecureSkipVerify": true})));
            notes.push("trusts any certificate, as before: tls.ca is better".to_owned());
        }
        (true, false) => notes
            .push("trusts the CAs of the agents' image, as before: tls.ca names others".to_owned()),
        (false, true) => {
            notes.push("insecure_skip_verify has no effect without TLS, as before".to_owned());
        }
        (false, false) => {}
    }
    let known = [
        "type",
        "host",
        "port",
        "enable_tls",
        "insecure_skip_verify",
        "url",
    ];
    for (key, value) in fields {
        if !known.contains(&key.as_str()) {
            lost.push(format!("{key} cannot be converted: {value}"));
        }
    }
    Some(spec)
}

fn port(value: &Value) -> Option<u16> {
    let number = match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    };
    u16::try_from(number?).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pks(version: &str, kind: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"name": "siem", "namespace": "shop"},
            "spec": spec,
        })
    }

    #[test]
    fn all_former_names_of_the_resources_are_read() {
        let spec = json!({"type": "syslog", "host": "logs.example", "port": 514});
        for (version, kind) in [
            ("observability.knative.dev/v1alpha1", "LogSink"),
            ("pksapi.io/v1beta1", "LogSink"),
            ("apps.pivotal.io/v1beta1", "Sink"),
        ] {
            let migrated = sink(&pks(version, kind, &spec), None);
            assert_eq!(migrated.lost, Vec::<String>::new());
            let manifest = migrated.manifest.unwrap();
            assert_eq!(manifest["kind"], "LogSink");
            assert_eq!(
                manifest["metadata"],
                json!({"name": "siem", "namespace": "shop"})
            );
            let plain = json!({"host": "logs.example", "port": 514, "transport": "tcp"});
            assert_eq!(manifest["spec"], plain);
        }
        let cluster = json!({
            "apiVersion": "apps.pivotal.io/v1beta1", "kind": "ClusterSink",
            "metadata": {"name": "all"},
            "spec": {"type": "syslog", "host": "a", "port": 6514, "enable_tls": true},
        });
        let manifest = sink(&cluster, None).manifest.unwrap();
        assert_eq!(manifest["kind"], "ClusterLogSink");
        assert_eq!(
            manifest["spec"],
            json!({"sink": {"host": "a", "port": 6514}})
        );
    }

    #[test]
    fn certificate_checks_are_kept_and_noted() {
        let of = |spec: Value| sink(&pks("pksapi.io/v1beta1", "LogSink", &spec), None);
        let secure = json!({"host": "a", "port": 1, "enable_tls": true});
        let checked = of(secure.clone());
        assert_eq!(
            checked.manifest.unwrap()["spec"],
            json!({"host": "a", "port": 1})
        );
        assert!(checked.notes[0].starts_with("trusts the CAs"));
        let mut any = secure;
        any["insecure_skip_verify"] = true.into();
        let any = of(any);
        assert_eq!(
            any.manifest.unwrap()["spec"]["tls"],
            json!({"insecureSkipVerify": true})
        );
        assert!(any.notes[0].starts_with("trusts any certificate"));
    }

    #[test]
    fn settings_that_cannot_be_converted_are_named() {
        let of = |spec: Value| sink(&pks("pksapi.io/v1beta1", "LogSink", &spec), None);
        for (spec, words) in [
            (
                json!({"type": "webhook", "url": "https://x"}),
                "type \"webhook\"",
            ),
            (
                json!({"type": "http", "output_properties": {}}),
                "type \"http\"",
            ),
            (json!({"type": "syslog"}), "host is missing"),
        ] {
            let migrated = of(spec);
            assert!(migrated.manifest.is_none());
            assert!(migrated.lost[0].contains(words), "{:?}", migrated.lost);
        }
        let filtered = of(json!({"host": "a", "port": ":53", "filters": [{"x": 1}]}));
        assert_eq!(
            filtered.manifest.unwrap()["spec"],
            json!({"host": "a", "transport": "tcp"})
        );
        assert_eq!(
            filtered.lost,
            [
                "invalid port \":53\"",
                "filters cannot be converted: [{\"x\":1}]"
            ]
        );
        let mut hostile = pks("pksapi.io/v1beta1", "LogSink", &json!({"a": "\n- b"}));
        hostile["metadata"]["name"] = "x\n---\nkind: Secret".into();
        let hostile = sink(&hostile, None);
        assert!(hostile.remarks().all(|line| line.lines().count() == 1));
        let metrics = sink(&pks("pksapi.io/v1beta1", "MetricSink", &json!({})), None);
        assert!(metrics.lost[0].contains("MetricSink of pksapi.io/v1beta1"));
        let ours = sink(&pks("syslogsink.io/v1alpha1", "LogSink", &json!({})), None);
        assert!(ours.lost[0].contains("not a PKS log sink"));
    }
}
