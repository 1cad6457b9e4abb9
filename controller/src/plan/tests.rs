use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rig::pki::Pki;

mod fields;

use super::*;
use crate::configuration::PEM;
use crate::history::Since;
use crate::settings::Settings;
use api::{CaSource, Format, KeyReference, LogSinkSpec, Reason, Server, TlsSpec, Transport};
use k8s_openapi::jiff::Timestamp;

use crate::snapshot::{Lookup, ObjectName, Version};

fn spec(value: serde_json::Value) -> LogSinkSpec {
    serde_json::from_value(value).unwrap()
}

fn tcp(host: &str) -> LogSinkSpec {
    spec(serde_json::json!({"host": host, "transport": "tcp"}))
}

fn snapshot(sinks: Vec<(&str, &str, LogSinkSpec)>) -> Snapshot {
    let version = |(namespace, name, _): &(&str, &str, LogSinkSpec)| {
        let name = ObjectName::new(namespace, name);
        (SinkId::Namespaced(name.clone()), version(&name.to_string()))
    };
    let versions = sinks.iter().map(version).collect();
    let stored = |(namespace, name, spec): (&str, &str, LogSinkSpec)| {
        (
            ObjectName::new(namespace, name),
            Stored::Spec(Box::new(spec)),
        )
    };
    Snapshot {
        log_sinks: sinks.into_iter().map(stored).collect(),
        versions,
        ..Snapshot::default()
    }
}

/// Returns the version of the object with this name.
fn version(name: &str) -> Version {
    Version {
        uid: format!("uid-of-{}", name.replace('/', "-")),
        generation: Some(1),
        created: None,
    }
}

fn plan(snapshot: &Snapshot) -> Plan {
    Plan::new(snapshot, &Settings::default())
}

fn text<'p>(plan: &'p Plan, file: &str) -> &'p str {
    std::str::from_utf8(&plan.configuration.files[file]).unwrap()
}

fn refusal(plan: &Plan, namespace: &str, name: &str) -> Refusal {
    let id = SinkId::Namespaced(ObjectName::new(namespace, name));
    plan.verdicts[&id].clone().unwrap_err()
}

/// Sinks of every kind, with certificates that never change.
fn example() -> Snapshot {
    let pem = include_bytes!("../../tests/golden/ca.crt").to_vec();
    let mut full = spec(serde_json::json!({
        "servers": [{"host": "a.example.com"}, {"host": "2001:db8::7", "port": 10514}],
        "transport": "relp+tls",
        "tls": {
            "ca": {"configMap": {"name": "ca"}},
            "serverName": "logs.example.com",
            "minVersion": "1.3",
        },
        "format": {
            "facility": "local3",
            "severity": "$level",
            "appName": "$kubernetes['labels']['app'] ?? 'none'",
            "structuredData": "[origin@32473 ip=\"$ip\"]",
        },
        "sharing": "balance",
        "selection": {
            "containers": ["web", "worker-*"],
            "podSelector": {
                "matchLabels": {"app": "shop"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["web", "db"]}],
            },
            "stream": "stderr",
            "exclude": {"containers": ["*-proxy"]},
        },
        "maxMessageSize": 65536,
        "bufferLimit": "2G",
    }));
    full.tls.as_mut().unwrap().pins = vec![];
    let mut snapshot = snapshot(vec![
        ("shop", "plain", tcp("logs.example.com")),
        ("shop", "full", full),
        (
            "team-a",
            "tls",
            spec(serde_json::json!({"host": "10.0.0.7", "tls": {"insecureSkipVerify": true}})),
        ),
    ]);
    snapshot.config_maps.insert(
        ObjectName::new("shop", "ca"),
        Lookup::Found(BTreeMap::from([("ca.crt".to_owned(), pem)])),
    );
    for (name, selector, excluded) in [
        ("all", serde_json::json!(null), vec!["kube-system", "shop"]),
        (
            "eu.west",
            serde_json::json!({"matchLabels": {"region": "eu"}}),
            vec![],
        ),
    ] {
        let spec = serde_json::from_value(serde_json::json!({
            "sink": {"host": "siem.example.com", "transport": "tcp"},
            "namespaceSelector": selector,
            "excludeNamespaces": excluded,
        }));
        let stored = Stored::Spec(Box::new(spec.unwrap()));
        snapshot.cluster_log_sinks.insert(name.to_owned(), stored);
        let id = SinkId::Cluster(name.to_owned());
        snapshot.versions.insert(id, version(name));
    }
    let region = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    snapshot.namespaces = BTreeMap::from([
        ("shop".to_owned(), region),
        ("team-a".to_owned(), BTreeMap::new()),
    ]);
    snapshot
}

/// `UPDATE_GOLDEN=1` rewrites the files, for review.
#[test]
fn the_configuration_matches_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rendered");
    let plan = plan(&example());
    assert!(
        plan.verdicts.values().all(Result::is_ok),
        "{:?}",
        plan.verdicts
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, content) in &plan.configuration.files {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }
    let golden: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&plan.configuration.files), names(&golden));
    for (name, content) in &plan.configuration.files {
        let ours = String::from_utf8_lossy(content);
        assert_eq!(ours, String::from_utf8_lossy(&golden[name]), "{name}");
    }
}

#[test]
fn a_new_sink_changes_only_its_own_file() {
    let mut known = example();
    let before = plan(&known);
    let name = ObjectName::new("team-a", "another");
    let stored = Stored::Spec(Box::new(tcp("other.example.com")));
    known.log_sinks.insert(name, stored);
    let after = plan(&known);
    let changed: Vec<&String> = after
        .configuration
        .files
        .iter()
        .filter(|(name, content)| before.configuration.files.get(*name) != Some(content))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(changed, ["ns-team-a.yaml"]);
    assert_ne!(before.revision, after.revision);
}

#[test]
fn without_sinks_an_agent_reads_nothing() {
    let plan = plan(&Snapshot::default());
    let files: Vec<&String> = plan.configuration.files.keys().collect();
    assert_eq!(files, ["fluent-bit.yaml"]);
    assert!(!text(&plan, "fluent-bit.yaml").contains("pod_logs"));
}

/// Returns specs that are refused, each with the reason and a part of the message.
#[allow(clippy::too_many_lines, reason = "a table")]
fn refused() -> Vec<(LogSinkSpec, Reason, &'static str)> {
    let tls = |tls: TlsSpec| LogSinkSpec {
        transport: Transport::Tls,
        tls: Some(tls),
        ..tcp("logs.example.com")
    };
    let ca = |source: CaSource| {
        tls(TlsSpec {
            ca: Some(source),
            ..TlsSpec::default()
        })
    };
    let secret = |name: &str, key: &str| CaSource {
        secret: Some(KeyReference {
            name: name.to_owned(),
            key: key.to_owned(),
        }),
        ..CaSource::default()
    };
    let formatted = |appname: &str| LogSinkSpec {
        format: Format {
            app_name: Some(appname.to_owned()),
            ..Format::default()
        },
        ..tcp("logs.example.com")
    };
    let selecting = |selection: serde_json::Value| LogSinkSpec {
        selection: serde_json::from_value(selection).unwrap(),
        ..tcp("logs.example.com")
    };
    vec![
        (tcp("a,b"), Reason::InvalidValue, "host \"a,b\": is neither"),
        (
            LogSinkSpec {
                servers: Some(vec![]),
                host: None,
                ..tcp("a")
            },
            Reason::InvalidValue,
            "either host or servers",
        ),
        (
            LogSinkSpec {
                servers: Some(vec![Server {
                    host: "b".to_owned(),
                    port: None,
                }]),
                ..tcp("a")
            },
            Reason::InvalidValue,
            "either host or servers",
        ),
        (
            LogSinkSpec {
                port: Some(0),
                ..tcp("a")
            },
            Reason::InvalidValue,
            "port \"0\": allowed is 1 to 65535",
        ),
        (
            LogSinkSpec {
                max_message_size: Some(10),
                ..tcp("a")
            },
            Reason::InvalidValue,
            "maxMessageSize \"10\": ",
        ),
        (
            LogSinkSpec {
                tls: Some(TlsSpec::default()),
                ..tcp("a")
            },
            Reason::InvalidValue,
            "tls is for the transports",
        ),
        (
            formatted("$a["),
            Reason::InvalidValue,
            "format.appName \"$a[\": ",
        ),
        (
            formatted("a\nb"),
            Reason::InvalidValue,
            "format.appName \"a\\nb\": has the character '\\n'",
        ),
        (formatted("${HOME}"), Reason::InvalidValue, "has ${...}"),
        (
            ca(secret("none", "ca.crt")),
            Reason::SecretNotFound,
            "the Secret shop/none does not exist",
        ),
        (
            ca(secret("secret", "ca.crt")),
            Reason::SecretNotReadable,
            "the Secret shop/secret cannot be read: no right to",
        ),
        (
            ca(secret("some", "none")),
            Reason::KeyNotFound,
            "only ca.crt",
        ),
        // An older schema accepted it.
        (
            ca(secret("../../team-a/secrets/other", "ca.crt")),
            Reason::InvalidValue,
            "tls.ca.secret \"../../team-a/secrets/other\": is not the name of a Secret",
        ),
        (
            selecting(serde_json::json!({"containers": ["web", "a b"]})),
            Reason::InvalidValue,
            "selection.containers \"web,a b\": invalid name \"a b\"",
        ),
        (
            selecting(serde_json::json!({"podSelector": {"matchLabels": {"app": "a,b"}}})),
            Reason::InvalidValue,
            "selection.podSelector \"a,b\": is not the value of a label",
        ),
        (
            selecting(
                serde_json::json!({"exclude": {"podSelector": {"matchExpressions": [
                    {"key": "app", "operator": "In", "values": []},
                ]}}}),
            ),
            Reason::InvalidValue,
            "selection.exclude.podSelector \"app\": needs values",
        ),
        (
            ca(secret("some", "ca.crt")),
            Reason::BadCertificate,
            "contains no certificate in PEM",
        ),
        (
            ca(CaSource {
                pem: Some("no".to_owned()),
                ..CaSource::default()
            }),
            Reason::BadCertificate,
            "tls.ca.pem contains no certificate",
        ),
        (
            ca(CaSource::default()),
            Reason::InvalidValue,
            "exactly one of",
        ),
        (
            tls(TlsSpec {
                pins: vec!["sha-256:AB".to_owned()],
                ..TlsSpec::default()
            }),
            Reason::InvalidValue,
            "tls.pins \"sha-256:AB\": ",
        ),
        (
            tls(TlsSpec {
                client_certificate_secret: Some("other".to_owned()),
                ..TlsSpec::default()
            }),
            Reason::SecretNotFound,
            "the Secret shop/other does not exist",
        ),
    ]
}

#[test]
fn an_invalid_sink_is_refused_and_affects_no_other_sink() {
    for (spec, reason, words) in refused() {
        let mut known = snapshot(vec![
            ("shop", "bad", spec),
            ("shop", "good", tcp("good.example.com")),
        ]);
        known.secrets.insert(
            ObjectName::new("shop", "some"),
            Lookup::Found(BTreeMap::from([("ca.crt".to_owned(), b"text".to_vec())])),
        );
        known.secrets.insert(
            ObjectName::new("shop", "secret"),
            Lookup::Unreadable("no right to".to_owned()),
        );
        // Secrets of other namespaces cannot be referenced.
        known.secrets.insert(
            ObjectName::new("team-a", "other"),
            Lookup::Found(BTreeMap::new()),
        );
        let plan = plan(&known);
        let Refusal {
            reason: found,
            message,
        } = refusal(&plan, "shop", "bad");
        assert_eq!(found, reason, "{message}");
        assert!(message.contains(words), "{message}");
        let outputs = text(&plan, "ns-shop.yaml");
        assert!(outputs.contains("good.example.com"), "{outputs}");
        assert_eq!(outputs.matches("name: \"syslog_sink\"").count(), 1);
    }
}

/// The API server has not answered for one tenant's Secret since the controller
/// started.
#[test]
fn a_sink_with_an_unknown_secret_keeps_its_current_file() {
    let with_ca = |host: &str| {
        spec(serde_json::json!({
            "host": host,
            "tls": {"ca": {"secret": {"name": "ca", "key": "ca.crt"}}},
        }))
    };
    let mut known = snapshot(vec![
        ("shop", "tls", with_ca("old.example.com")),
        ("bank", "tcp", tcp("old.example.com")),
    ]);
    let pem = std::fs::read(Pki::new().ca()).unwrap();
    let ca = Lookup::Found(BTreeMap::from([("ca.crt".to_owned(), pem)]));
    let name = ObjectName::new("shop", "ca");
    known.secrets.insert(name.clone(), ca);
    let before = plan(&known);

    let files = Arc::new(before.configuration.clone());
    let mut later = snapshot(vec![
        ("shop", "tls", with_ca("new.example.com")),
        ("shop", "tcp", tcp("new.example.com")),
        ("bank", "tcp", tcp("new.example.com")),
        ("zoo", "tls", with_ca("new.example.com")),
    ]);
    let unknown = Lookup::Unknown("etcd is down".to_owned());
    later.secrets.insert(name, unknown.clone());
    later.secrets.insert(ObjectName::new("zoo", "ca"), unknown);
    later.revisions.insert(before.revision.clone(), files);
    later.history.good = Some(Since {
        revision: before.revision.clone(),
        template: before.template.clone(),
        since: Timestamp::UNIX_EPOCH,
    });
    let plan = plan(&later);
    let refusal = refusal(&plan, "shop", "tls");
    assert!(refusal.is_not_looked_up() && refusal.message.contains("etcd is down"));
    // Including its certificate.
    for (name, content) in &before.configuration.files {
        if name == "ns-shop.yaml" || name.ends_with(PEM) {
            assert_eq!(plan.configuration.files.get(name), Some(content), "{name}");
        }
    }
    assert!(text(&plan, "ns-bank.yaml").contains("new.example.com"));
    assert!(!plan.configuration.files.contains_key("ns-zoo.yaml"));
}

/// Some agents already have the unknown object's file.
#[test]
fn a_sink_with_an_unknown_secret_keeps_its_file_during_a_roll() {
    let with_ca = |host: &str| {
        spec(serde_json::json!({"host": host, "tls": {"ca": {"secret": {"name": "ca"}}}}))
    };
    let mut known = snapshot(vec![("shop", "tls", with_ca("new.example.com"))]);
    let pem = std::fs::read(Pki::new().ca()).unwrap();
    let ca = Lookup::Found(BTreeMap::from([("ca.crt".to_owned(), pem)]));
    let name = ObjectName::new("shop", "ca");
    known.secrets.insert(name.clone(), ca);
    let rolled = plan(&known);

    let since = |revision: &str| Since {
        revision: revision.to_owned(),
        template: rolled.template.clone(),
        since: Timestamp::UNIX_EPOCH,
    };
    let roll = serde_json::json!({"revision": rolled.revision, "since": Timestamp::UNIX_EPOCH});
    known.history.good = Some(since("old"));
    known.history.roll = Some(serde_json::from_value(roll).unwrap());
    let configuration = Arc::new(rolled.configuration.clone());
    known
        .revisions
        .insert(rolled.revision.clone(), configuration);
    known.revisions.insert("old".to_owned(), Arc::default());
    known
        .secrets
        .insert(name, Lookup::Unknown("etcd is down".to_owned()));
    assert_eq!(plan(&known).revision, rolled.revision);
}

#[test]
fn an_invalid_stored_object_is_refused() {
    let mut known = snapshot(vec![("shop", "good", tcp("good.example.com"))]);
    let stored = Stored::Invalid("missing field `transport`".to_owned());
    known
        .log_sinks
        .insert(ObjectName::new("shop", "old"), stored);
    let plan = plan(&known);
    let refusal = refusal(&plan, "shop", "old");
    assert_eq!(refusal.reason, Reason::InvalidObject);
    assert!(refusal.message.contains("missing field"));
    assert!(text(&plan, "ns-shop.yaml").contains("good.example.com"));
}

#[test]
fn a_client_certificate_must_match_its_key() {
    let pki = Pki::new();
    let read = |path| std::fs::read(path).unwrap();
    let (client, other) = (pki.client(), pki.server());
    let mut known = snapshot(vec![(
        "shop",
        "tls",
        spec(serde_json::json!({
            "host": "logs.example.com",
            "tls": {"clientCertificateSecret": "client"},
        })),
    )]);
    let name = ObjectName::new("shop", "client");
    let data = |cert, key| {
        Lookup::Found(BTreeMap::from([
            ("tls.crt".to_owned(), read(cert)),
            ("tls.key".to_owned(), read(key)),
        ]))
    };
    known
        .secrets
        .insert(name.clone(), data(&client.cert, &other.key));
    assert_eq!(
        refusal(&plan(&known), "shop", "tls").reason,
        Reason::BadCertificate
    );
    known.secrets.insert(name, data(&client.cert, &client.key));
    let plan = plan(&known);
    assert!(plan.verdicts.values().all(Result::is_ok));
    let yaml = ["fluent-bit.yaml", "ns-shop.yaml"];
    let others = plan
        .configuration
        .files
        .keys()
        .filter(|name| !yaml.contains(&name.as_str()));
    assert_eq!(others.count(), 2);
}

proptest! {
    /// Whatever users write: the renderer began every line of the configuration, and no
    /// value spans more than one line.
    #[test]
    fn values_cannot_inject_configuration(
        texts in proptest::collection::vec("\\PC{1,40}|[ \\n\\r\\t\"'\\\\:#{}\\[\\]$,*&!|>%@`a-z-]{1,40}", 5),
    ) {
        let mut evil = tcp("logs.example.com");
        evil.format = Format {
            app_name: Some(texts[0].clone()),
            hostname: Some(texts[1].clone()),
            message: Some(texts[2].clone()),
            structured_data: Some(texts[3].clone()),
            ..Format::default()
        };
        evil.buffer_limit.clone_from(&texts[4]);
        let known = snapshot(vec![("shop", "evil", evil), ("team-a", "good", tcp("a.example.com"))]);
        let plan = plan(&known);
        prop_assert!(plan.configuration.files.contains_key("ns-team-a.yaml"));
        for (name, content) in plan.configuration.files.iter().filter(|(name, _)| name.starts_with("ns-")) {
            let parsed: serde_json::Value =
                serde_saphyr::from_str(std::str::from_utf8(content).unwrap()).unwrap();
            let outputs = parsed["pipeline"]["outputs"].as_array().unwrap();
            prop_assert_eq!(outputs.len(), 1);
            let tags = outputs[0]["match"].as_str().unwrap();
            let namespace = name.trim_start_matches("ns-").trim_end_matches(".yaml");
            prop_assert_eq!(tags, format!("ns.{namespace}"));
            prop_assert_eq!(outputs[0]["namespace"].as_str(), Some(namespace));
            let text = std::str::from_utf8(content).unwrap();
            let has_variable = text.contains("${");
            prop_assert!(!has_variable);
            for line in text.lines().skip(2) {
                let begins = line.starts_with("    - name: \"") || line.starts_with("      ");
                prop_assert!(begins && line.ends_with('"'), "{}", line);
            }
        }
    }
}

#[test]
fn a_thousand_sinks_are_planned_together() {
    let mut known = Snapshot::default();
    for number in 0..1000 {
        let name = ObjectName::new(&format!("ns-{}", number / 2), &format!("sink-{number}"));
        let stored = Stored::Spec(Box::new(tcp("logs.example.com")));
        known.log_sinks.insert(name, stored);
    }
    let plan = plan(&known);
    assert!(plan.verdicts.values().all(Result::is_ok));
    assert_eq!(plan.configuration.files.len(), 1 + 500);
    let size: usize = plan.configuration.files.values().map(Vec::len).sum();
    assert!(size < 500_000, "{size} bytes");
}

#[test]
fn the_sinks_of_a_namespace_are_limited() {
    let settings = Settings {
        max_sinks_per_namespace: 2,
        ..Settings::default()
    };
    let sinks = ["c", "b", "a"].map(|name| ("shop", name, tcp("logs.example.com")));
    let mut known = snapshot(sinks.into());
    for (age, name) in ["c", "b", "a"].into_iter().enumerate() {
        let id = SinkId::Namespaced(ObjectName::new("shop", name));
        let created = Timestamp::from_second(1_772_366_400 + age as i64).unwrap();
        let version = Version {
            created: Some(created),
            ..version(name)
        };
        known.versions.insert(id, version);
    }
    let one = ObjectName::new("team-a", "sink");
    let stored = Stored::Spec(Box::new(tcp("logs.example.com")));
    known.log_sinks.insert(one, stored);
    let plan = Plan::new(&known, &settings);
    // The newest sink is refused, whatever its name.
    let refused = refusal(&plan, "shop", "a");
    assert_eq!(refused.reason, Reason::TooManySinks);
    assert!(refused.message.contains("has 2 older sinks"), "{refused}");
    assert_eq!(
        plan.verdicts
            .values()
            .filter(|verdict| verdict.is_err())
            .count(),
        1
    );
}

#[test]
fn the_buffers_on_a_node_are_limited() {
    let sink = |limit: &str| spec(serde_json::json!({"host": "a", "bufferLimit": limit}));
    let sink = |limit| LogSinkSpec {
        transport: Transport::Tcp,
        ..sink(limit)
    };
    let mut known = snapshot(vec![
        ("shop", "a", sink("10G")),
        ("shop", "b", sink("10001M")),
        ("shop", "c", sink("9500M")),
        ("shop", "d", sink("501M")),
        ("shop", "e", sink("500M")),
        ("team-a", "other", sink("10G")),
    ]);
    let cluster = serde_json::json!({"sink": sink("100G")});
    let stored = Stored::Spec(Box::new(serde_json::from_value(cluster).unwrap()));
    known.cluster_log_sinks.insert("all".to_owned(), stored);
    let plan = plan(&known);
    for (name, reason, words) in [
        (
            "b",
            Reason::InvalidValue,
            "bufferLimit \"10001M\": the operator allows at most 10G",
        ),
        (
            "d",
            Reason::TooLarge,
            "bufferLimit: older sinks of the namespace have 19500M of a node's disk, and together \
             at most 20G",
        ),
    ] {
        let refused = refusal(&plan, "shop", name);
        assert_eq!(refused.reason, reason);
        assert!(refused.message.starts_with(words), "{refused}");
    }
    let refused = plan.verdicts.values().filter(|verdict| verdict.is_err());
    assert_eq!(refused.count(), 2);
}

#[test]
fn a_recreated_sink_has_its_own_queue() {
    let mut known = snapshot(vec![("shop", "siem", tcp("logs.example.com"))]);
    let before = plan(&known);
    let id = SinkId::Namespaced(ObjectName::new("shop", "siem"));
    known.versions.insert(id, version("another"));
    let after = plan(&known);
    assert!(text(&before, "ns-shop.yaml").contains("queue_name: \"uid-of-shop-siem\""));
    assert!(text(&after, "ns-shop.yaml").contains("queue_name: \"uid-of-another\""));
}

#[test]
fn the_certificates_of_a_namespace_are_limited() {
    let pem = String::from_utf8(include_bytes!("../../tests/golden/ca.crt").to_vec()).unwrap();
    let many = pem.repeat(90_000 / pem.len());
    let sinks = (0..8).map(|number| {
        let mut sink = spec(serde_json::json!({"host": "logs.example.com"}));
        sink.tls = Some(TlsSpec {
            ca: Some(CaSource {
                pem: Some(format!("{many}\n# {number}\n")),
                ..CaSource::default()
            }),
            ..TlsSpec::default()
        });
        (
            "shop",
            ["a", "b", "c", "d", "e", "f", "g", "h"][number],
            sink,
        )
    });
    let plan = plan(&snapshot(sinks.collect()));
    assert_eq!(refusal(&plan, "shop", "g").reason, Reason::TooLarge);
    assert_eq!(
        plan.verdicts
            .values()
            .filter(|verdict| verdict.is_ok())
            .count(),
        5
    );
}

#[test]
fn names_of_maximum_length_fit_into_file_names() {
    let mut known = Snapshot::default();
    for last in ["a", "b"] {
        let name = format!("{}{last}", "long.name-".repeat(26).get(..252).unwrap());
        let spec = serde_json::json!({"sink": {"host": "logs.example.com", "transport": "tcp"}});
        let stored = Stored::Spec(Box::new(serde_json::from_value(spec).unwrap()));
        known.cluster_log_sinks.insert(name, stored);
    }
    let plan = plan(&known);
    let names: Vec<&String> = plan.configuration.files.keys().collect();
    assert_eq!(names.len(), 3);
    // A file name may have 255 bytes, a Secret's key 253.
    assert!(names.iter().all(|name| name.len() < 220), "{names:?}");
}

#[test]
fn cluster_sinks_are_limited() {
    let mut known = Snapshot::default();
    for number in 0..33 {
        let spec = serde_json::json!({"sink": {"host": "logs.example.com", "transport": "tcp"}});
        let stored = Stored::Spec(Box::new(serde_json::from_value(spec).unwrap()));
        known
            .cluster_log_sinks
            .insert(format!("sink-{number}"), stored);
    }
    let refused = plan(&known).verdicts;
    let refused: Vec<_> = refused
        .values()
        .filter_map(|verdict| verdict.as_ref().err())
        .collect();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].message.contains("32 older ClusterLogSinks"),
        "{}",
        refused[0]
    );
}

/// Returns the values of a key in the output of a sink.
fn values<'p>(plan: &'p Plan, file: &str, key: &str) -> Vec<&'p str> {
    let begin = format!("      {key}: ");
    let lines = text(plan, file).lines();
    let values = lines.filter_map(|line| line.strip_prefix(begin.as_str()));
    values.map(|value| value.trim_matches('"')).collect()
}

#[test]
fn a_cluster_sink_gets_the_namespaces_that_it_reads() {
    let no_namespace = serde_json::json!({"matchLabels": {"region": "us"}});
    let europe = serde_json::json!({"matchLabels": {"region": "eu"}});
    for (selector, excluded, only, but) in [
        (None, &[][..], &[][..], &[][..]),
        (None, &["b", "a"], &[], &["a,b"]),
        (Some(&europe), &["a"], &["shop"], &[]),
        // Not all namespaces.
        (Some(&no_namespace), &[], &["-"], &[]),
    ] {
        let mut known = example();
        let spec = serde_json::from_value(serde_json::json!({
            "sink": {"host": "siem.example.com", "transport": "tcp"},
            "namespaceSelector": selector,
            "excludeNamespaces": excluded,
        }));
        let stored = Stored::Spec(Box::new(spec.unwrap()));
        known.cluster_log_sinks.insert("all".to_owned(), stored);
        let plan = plan(&known);
        let values = |key| values(&plan, "cluster-all.yaml", key);
        assert_eq!(values("namespaces"), only, "{selector:?}");
        assert_eq!(values("exclude_namespaces"), but, "{selector:?}");
        assert_eq!(values("cluster"), ["on"]);
        assert_eq!(values("match"), ["ns.*"]);
    }
}

#[test]
fn the_agents_own_logs_are_excluded_where_they_would_be_read() {
    let settings = Settings::default();
    let own = settings.namespace.as_str();
    let mut known = snapshot(vec![
        ("shop", "sink", tcp("a.example.com")),
        (own, "sink", tcp("a.example.com")),
    ]);
    for (name, excluded, include) in [
        ("all", &[][..], false),
        ("others", &[own], false),
        ("agents", &[], true),
    ] {
        let spec = serde_json::json!({
            "sink": {"host": "a", "transport": "tcp"},
            "excludeNamespaces": excluded,
            "includeAgentLogs": include,
        });
        let stored = Stored::Spec(Box::new(serde_json::from_value(spec).unwrap()));
        known.cluster_log_sinks.insert(name.to_owned(), stored);
    }
    let plan = plan(&known);
    let agents = format!("{own}/syslog-sink-agent-*");
    for (file, is_excluded) in [
        ("ns-shop.yaml", false),
        (&*format!("ns-{own}.yaml"), true),
        ("cluster-all.yaml", true),
        ("cluster-others.yaml", false),
        ("cluster-agents.yaml", false),
    ] {
        let expected: &[&str] = if is_excluded { &[&agents] } else { &[] };
        assert_eq!(values(&plan, file, "exclude_pods"), expected, "{file}");
    }
}

#[test]
fn a_sink_gets_the_lines_since_its_creation() {
    let mut known = snapshot(vec![("shop", "sink", tcp("a.example.com"))]);
    assert!(values(&plan(&known), "ns-shop.yaml", "since").is_empty());
    let id = SinkId::Namespaced(ObjectName::new("shop", "sink"));
    let version = Version {
        created: Some("2026-03-01T13:00:00+01:00".parse().unwrap()),
        ..version("sink")
    };
    known.versions.insert(id, version);
    let plan = plan(&known);
    let since = values(&plan, "ns-shop.yaml", "since");
    assert_eq!(since, ["2026-03-01T12:00:00Z"]);
}

/// Files of an earlier version of the controller, for inputs of the kind `tail`.
#[test]
fn files_of_another_format_are_part_of_no_new_revision() {
    let mut known = snapshot(vec![
        ("bank", "sink", tcp("a.example.com")),
        ("shop", "sink", tcp("a.example.com")),
    ]);
    let wanted = plan(&known);
    let stored = serde_json::json!({"namespace": "shop", "hasInput": false, "sinks": {}});
    let mut before = wanted.configuration.clone();
    for name in ["ns-bank.yaml", "ns-shop.yaml"] {
        let part = serde_json::from_value(stored.clone()).unwrap();
        before.parts.insert(name.to_owned(), part);
        before.files.insert(name.to_owned(), b"tail".to_vec());
    }
    let good = Since {
        revision: "before".to_owned(),
        template: "another".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    };
    known.history.good = Some(good);
    known
        .revisions
        .insert("before".to_owned(), Arc::new(before));
    // The template failed together with files, and is tried without changes of files.
    let failed = serde_json::json!({"revision": "failed", "template": wanted.template});
    known.history.failed = Some(serde_json::from_value(failed).unwrap());
    assert!(known.history.tries_template_alone(&wanted.template));
    assert_eq!(plan(&known).configuration, wanted.configuration);

    // A file is held back: its sinks wait for the new template.
    known.history.failed = None;
    let held = serde_json::json!({"ns-shop.yaml": {"content": "other"}});
    known.history.held = serde_json::from_value(held).unwrap();
    let plan = plan(&known);
    assert_eq!(plan.held.keys().collect::<Vec<_>>(), ["ns-shop.yaml"]);
    assert!(!plan.configuration.files.contains_key("ns-shop.yaml"));
    assert!(text(&plan, "ns-bank.yaml").contains("a.example.com"));
}
