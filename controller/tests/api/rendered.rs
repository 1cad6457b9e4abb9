//! Tests of the rendered plan in a real Fluent Bit that reads containers' logs.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use controller::plan::Plan;
use controller::snapshot::{ObjectName, SinkId, Snapshot, Stored, Version};
use proptest::prelude::*;
use receiver::{Listen, Message, Options, Receiver};
use rig::containers::{Node, pod_uid};
use rig::fluent_bit::{self, FluentBit};
use rig::wait::BOUND;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::settings_in;

const LINES: usize = 200;

pub(crate) fn receiver() -> Receiver {
    Receiver::start(Options::new(Listen::Tcp)).unwrap()
}

pub(crate) fn tcp(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port, "transport": "tcp"})
}

fn stored<T: serde::de::DeserializeOwned>(spec: Value) -> Stored<T> {
    Stored::Spec(Box::new(serde_json::from_value(spec).unwrap()))
}

/// Adds a sink that was created before any line was written.
pub(crate) fn add_sink(snapshot: &mut Snapshot, namespace: &str, name: &str, spec: Value) {
    let name = ObjectName::new(namespace, name);
    let id = SinkId::Namespaced(name.clone());
    snapshot.log_sinks.insert(name, stored(spec));
    snapshot.versions.insert(id, version(CREATED));
}

/// Adds a cluster sink like [`add_sink`].
pub(crate) fn add_cluster_sink(snapshot: &mut Snapshot, name: &str, spec: Value) {
    let id = SinkId::Cluster(name.to_owned());
    let sinks = &mut snapshot.cluster_log_sinks;
    sinks.insert(name.to_owned(), stored(spec));
    snapshot.versions.insert(id, version(CREATED));
}

const CREATED: &str = "2026-02-01T12:00:00Z";

/// Returns the version of a new object with this creation time.
pub(crate) fn version(created: &str) -> Version {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    Version {
        uid: format!("uid-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        generation: Some(1),
        created: Some(created.parse().unwrap()),
    }
}

/// Writes the plan's files, and returns the path of the main file.
pub(crate) fn write(plan: &Plan, dir: &TempDir) -> PathBuf {
    let files = plan.configuration.files.iter();
    write_files(files, &dir.path().join("config"))
}

/// Writes the files of a revision, and returns the path of the main file.
pub(crate) fn write_files<'f>(
    files: impl Iterator<Item = (&'f String, impl AsRef<[u8]>)>,
    folder: &Path,
) -> PathBuf {
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
    folder.join("fluent-bit.yaml")
}

/// Starts an agent with the files that [`write_files`] has written.
pub(crate) fn start(program: &Path, configuration: &Path) -> FluentBit {
    let variables = [("NODE_NAME", "node-0".to_owned())];
    FluentBit::start(program, &host::libraries(), configuration, &variables)
}

/// Returns the number of lines that arrived from each pod. Each line must be complete
/// and from a pod.
fn lines(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for received in receiver.received() {
        let message: Message = received.message.unwrap();
        let (pod, _) = message.text().split_once(' ').unwrap();
        assert!(
            message
                .app_name
                .as_deref()
                .unwrap()
                .contains(&format!("/{pod}/"))
        );
        *lines.entry(pod.to_owned()).or_default() += 1;
    }
    lines
}

fn counts(pods: &[&str]) -> BTreeMap<String, usize> {
    pods.iter().map(|pod| ((*pod).to_owned(), LINES)).collect()
}

#[test]
fn each_sink_gets_only_the_logs_of_its_namespace() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let [shop, team, all, rest] = [receiver(), receiver(), receiver(), receiver()];
    let mut snapshot = Snapshot::default();
    for (namespace, receiver) in [("shop", &shop), ("shop-2", &team)] {
        add_sink(&mut snapshot, namespace, "sink", tcp(receiver.port()));
    }
    for (name, receiver, excluded) in [("all", &all, vec![]), ("the.rest", &rest, vec!["shop"])] {
        let spec = json!({"sink": tcp(receiver.port()), "excludeNamespaces": excluded});
        add_cluster_sink(&mut snapshot, name, spec);
    }
    let plan = Plan::new(&snapshot, &settings);
    assert!(
        plan.verdicts.values().all(Result::is_ok),
        "{:?}",
        plan.verdicts
    );

    let node = Node::new(&dir.path().join("log"));
    for (namespace, pod) in [("shop", "web"), ("shop-2", "db"), ("other", "alone")] {
        let mut container = node.start(namespace, pod, "app");
        for line in 0..LINES {
            container.write(
                "2026-03-01T12:00:00.123456789Z",
                "stdout",
                &format!("{pod} {line}"),
            );
        }
    }
    let configuration = write(&plan, &dir);
    let agent = start(&program, &configuration);
    for (receiver, pods) in [
        (&shop, &["web"][..]),
        (&team, &["db"]),
        (&all, &["web", "db", "alone"]),
        (&rest, &["db", "alone"]),
    ] {
        let count = (pods.len() * LINES) as u64;
        let arrived = receiver.wait_for(count, BOUND);
        assert!(arrived.is_ok(), "{arrived:?}\n{}", agent.log());
    }
    // Messages being sent when the agent stops arrive before it exits.
    agent.stop();
    assert_eq!(lines(&shop), counts(&["web"]));
    assert_eq!(lines(&team), counts(&["db"]));
    assert_eq!(lines(&all), counts(&["web", "db", "alone"]));
    assert_eq!(lines(&rest), counts(&["db", "alone"]));
}

/// Includes a name of maximum length.
#[test]
fn only_selected_logs_arrive() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let [errors, apps, labelled, all] = [receiver(), receiver(), receiver(), receiver()];
    let mut snapshot = Snapshot::default();
    for (name, receiver, selection) in [
        ("errors", &errors, json!({"stream": "stderr"})),
        (
            "apps",
            &apps,
            json!({"containers": ["app*"], "exclude": {"containers": ["app-x"]}}),
        ),
        (
            "labelled",
            &labelled,
            json!({"podSelector": {"matchLabels": {"app": "shop"}}}),
        ),
    ] {
        let mut spec = tcp(receiver.port());
        spec["selection"] = selection;
        add_sink(&mut snapshot, "shop", name, spec);
    }
    let long = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    add_cluster_sink(&mut snapshot, &long, json!({"sink": tcp(all.port())}));
    let plan = Plan::new(&snapshot, &settings);

    let node = Node::new(&dir.path().join("log"));
    for (pod, name, label) in [
        ("web", "app", "shop"),
        ("db", "app-x", "other"),
        ("edge", "proxy", "shop"),
    ] {
        let mut container = node.start("shop", pod, name);
        write_labels(&settings.paths.labels, pod, label);
        for line in 0..LINES {
            for stream in ["stdout", "stderr"] {
                let text = format!("{name} {line}");
                container.write("2026-03-01T12:00:00.123456789Z", stream, &text);
            }
        }
    }
    let configuration = write(&plan, &dir);
    let agent = start(&program, &configuration);
    let lines_by_container = |receiver: &Receiver| {
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        for received in receiver.received() {
            let message = received.message.unwrap();
            let (container, _) = message.text().split_once(' ').unwrap();
            *lines.entry(container.to_owned()).or_default() += 1;
        }
        lines
    };
    let expected_lines = |names: &[&str], times: usize| -> BTreeMap<String, usize> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), times * LINES))
            .collect()
    };
    for (receiver, expected) in [
        (&errors, expected_lines(&["app", "app-x", "proxy"], 1)),
        (&apps, expected_lines(&["app"], 2)),
        (&labelled, expected_lines(&["app", "proxy"], 2)),
        (&all, expected_lines(&["app", "app-x", "proxy"], 2)),
    ] {
        let count = expected.values().sum::<usize>() as u64;
        let arrived = receiver.wait_for(count, BOUND);
        assert!(arrived.is_ok(), "{arrived:?}\n{}", agent.log());
        assert_eq!(lines_by_container(receiver), expected);
    }
    agent.stop();
    assert_eq!(
        lines_by_container(&errors),
        expected_lines(&["app", "app-x", "proxy"], 1)
    );
    assert_eq!(lines_by_container(&apps), expected_lines(&["app"], 2));
    assert_eq!(
        lines_by_container(&labelled),
        expected_lines(&["app", "proxy"], 2)
    );
}

/// Writes the labels of a pod, as `sink-agent` does.
fn write_labels(folder: &str, pod: &str, app: &str) {
    let metadata = json!({
        "name": pod,
        "namespace": "shop",
        "uid": pod_uid("shop", pod),
        "labels": {"app": app},
    });
    let path = Path::new(folder).join(format!("shop_{pod}.meta"));
    fs::write(path, json!({"metadata": metadata}).to_string()).unwrap();
}

fn accepted_by(program: &Path, snapshot: &Snapshot) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(snapshot, &settings_in(&dir));
    let configuration = write(&plan, &dir);
    let variables = [("NODE_NAME", "node-0".to_owned())];
    FluentBit::dry_run(program, &host::libraries(), &configuration, &variables)
}

#[test]
fn an_agent_without_anything_to_read_starts() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let mut snapshot = Snapshot::default();
    accepted_by(&program, &snapshot).unwrap();
    // A cluster sink whose selector matches no namespace.
    let spec = json!({"sink": tcp(514), "namespaceSelector": {"matchLabels": {"region": "eu"}}});
    add_cluster_sink(&mut snapshot, "eu", spec);
    accepted_by(&program, &snapshot).unwrap();
    assert!(runs(&program, &snapshot), "it ends");
}

/// Returns whether an agent runs until its health check responds.
fn runs(program: &Path, snapshot: &Snapshot) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let plan = Plan::new(snapshot, &settings);
    let configuration = write(&plan, &dir);
    let port = settings.agent.metrics_port;
    let _agent = start(program, &configuration);
    rig::wait::until(BOUND, || fluent_bit::get(port, "/api/v1/uptime")).is_ok()
}

/// Fewer cases than usual, because each one starts a Fluent Bit.
#[test]
fn an_agent_starts_with_any_accepted_sinks() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let text = "[ \"'\\\\:#{}\\[\\]$,*&!|>%@`a-zäß€=-]{1,30}";
    let texts = proptest::collection::vec(text, 4);
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(texts in texts)| {
        let mut spec = tcp(514);
        spec["format"] = json!({
            "appName": texts[0], "hostname": texts[1], "message": texts[2], "structuredData": texts[3],
        });
        let mut snapshot = Snapshot::default();
        add_sink(&mut snapshot, "shop", "evil", spec);
        add_sink(&mut snapshot, "shop", "good", tcp(514));
        prop_assert_eq!(accepted_by(&program, &snapshot), Ok(()));
    });
}
