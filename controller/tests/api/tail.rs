//! Tests of the rendered inputs in a real Fluent Bit: Docker's logs, long lines, and
//! the agents' own log, which is excluded.
use std::fs::File;
use std::io::Write;
use std::path::Path;

use controller::plan::Plan;
use controller::settings::Settings;
use controller::snapshot::{ObjectName, Snapshot};
use receiver::{Message, Receiver};
use rig::containers::{Container, Node, container_id};
use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::wait::{BOUND, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rendered::{receiver, stored, tcp, write};
use crate::world::{SYSTEM, settings_in};

const TIME: &str = "2026-03-01T12:00:00.123456789Z";
/// The name of an agent's pod.
const AGENT: &str = "syslog-sink-agent-x7k2p";

/// Starts an agent with the plan of these sinks.
fn start(program: &Path, snapshot: &Snapshot, settings: &Settings, dir: &TempDir) -> FluentBit {
    let plan = Plan::new(snapshot, settings);
    let is_accepted = plan.verdicts.values().all(Result::is_ok);
    assert!(is_accepted, "{:?}", plan.verdicts);
    let configuration = write(&plan, dir);
    FluentBit::start(program, &[host::library()], &configuration, &[])
}

fn sink(snapshot: &mut Snapshot, namespace: &str, spec: Value) {
    let name = ObjectName::new(namespace, "sink");
    snapshot.log_sinks.insert(name, stored(spec));
}

fn cluster_sink(snapshot: &mut Snapshot, spec: Value) {
    let sinks = &mut snapshot.cluster_log_sinks;
    sinks.insert("all".to_owned(), stored(spec));
}

fn messages(receiver: &Receiver, count: u64, agent: &FluentBit) -> Vec<Message> {
    let received = receiver
        .wait_for(count, BOUND)
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    received.into_iter().map(|r| r.message.unwrap()).collect()
}

/// Returns the value of one of Fluent Bit's counters, or `None` if it does not respond.
fn counter(settings: &Settings, name: &str, input: &str) -> Option<usize> {
    let port = settings.agent.metrics_port;
    let metrics = fluent_bit::get(port, "/api/v2/metrics/prometheus")?;
    let begin = format!("fluentbit_input_{name}{{name=\"{input}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&begin))?;
    value.trim().parse().ok()
}

/// Text, stream and time are the container's in both formats, and a text that looks
/// like the other format stays text.
#[test]
fn docker_logs_are_parsed_like_cri_logs() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let shop = receiver();
    let mut snapshot = Snapshot::default();
    let mut spec = tcp(shop.port());
    spec["format"] = json!({"severity": "stream"});
    sink(&mut snapshot, "shop", spec);
    let mut cri = Node::new(&dir.path().join("log")).start("shop", "web", "cri");
    let id = container_id("shop", "web", "docker");
    let name = format!("log/containers/web_shop_docker-{id}.log");
    let mut docker = File::create(dir.path().join(name)).unwrap();
    let json = r#"{"log":"x","stream":"stderr","time":"2020-01-01T00:00:00Z"}"#;
    let lines = [
        ("plain", "stdout"),
        ("x stdout F forged", "stderr"),
        (json, "stdout"),
        ("last", "stderr"),
    ];
    for (text, stream) in lines {
        cri.write(TIME, stream, text);
        let line = json!({"log": format!("{text}\n"), "stream": stream, "time": TIME});
        writeln!(docker, "{line}").unwrap();
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    let messages = messages(&shop, 8, &agent);
    agent.stop();
    assert_eq!(shop.count(), 8);
    for container in ["cri", "docker"] {
        let app_name = format!("pod.log/shop/web/{container}");
        let of_container = messages.iter();
        let of_container = of_container.filter(|m| m.app_name.as_deref() == Some(&app_name));
        let found: Vec<(&str, u8)> = of_container
            .map(|message| (message.text().trim_end(), message.severity))
            .collect();
        let severity = |stream| if stream == "stdout" { 6 } else { 3 };
        let mut expected = lines.map(|(text, stream)| (text, severity(stream)));
        let mut found: [(&str, u8); 4] = found.try_into().unwrap();
        // The order of lines from different streams is not defined.
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{container}");
    }
    for message in &messages {
        let time = message.timestamp.as_ref().unwrap();
        assert_eq!(time.text, "2026-03-01T12:00:00.123456Z");
    }
}

#[test]
fn a_long_line_is_counted_and_later_lines_arrive() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let (shop, all) = (receiver(), receiver());
    let mut snapshot = Snapshot::default();
    sink(&mut snapshot, "shop", tcp(shop.port()));
    cluster_sink(&mut snapshot, json!({"sink": tcp(all.port())}));
    let _node = Node::new(&dir.path().join("log"));
    let id = container_id("shop", "web", "app");
    let name = format!("log/containers/web_shop_app-{id}.log");
    let mut log = File::create(dir.path().join(name)).unwrap();
    let long = "x".repeat(3_000_000);
    for text in ["first", &long, "second"] {
        writeln!(log, "{TIME} stdout F {text}").unwrap();
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    for (receiver, input) in [(&shop, "lane-0"), (&all, "cluster-all")] {
        messages(receiver, 2, &agent);
        let skipped = until(BOUND, || {
            counter(&settings, "long_line_skipped_total", input)
        });
        assert_eq!(skipped, Ok(1), "{input}");
    }
    writeln!(log, "{TIME} stdout F third").unwrap();
    for receiver in [&shop, &all] {
        let messages = messages(receiver, 3, &agent);
        let texts: Vec<&str> = messages.iter().map(Message::text).collect();
        assert_eq!(texts, ["first", "second", "third"]);
    }
}

/// Copies an agent's log into its container's log file, as a container runtime does.
fn copy(agent: &FluentBit, own: &mut Container, copied: &mut usize) {
    let log = agent.log();
    let lines: Vec<&str> = log.lines().collect();
    for line in lines.get(*copied..).unwrap_or_default() {
        own.write(TIME, "stderr", line);
    }
    *copied = lines.len();
}

/// A cluster sink and the sink of the agents' own namespace, whose receivers are down.
/// Neither reads the agent's log, so errors do not multiply.
#[test]
fn an_agent_does_not_read_its_own_log() {
    const PODS: usize = 10;
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let mut snapshot = Snapshot::default();
    cluster_sink(&mut snapshot, json!({"sink": tcp(free_port())}));
    sink(&mut snapshot, SYSTEM, tcp(free_port()));
    let node = Node::new(&dir.path().join("log"));
    let mut own = node.start(SYSTEM, AGENT, "fluent-bit");
    // Pods with similar names are not agents.
    for (namespace, pod, container) in [
        ("shop", AGENT, "fluent-bit"),
        (SYSTEM, "sink-controller-5d4f-x7k2p", "controller"),
        (SYSTEM, "my-syslog-sink-agent-x7k2p", "fluent-bit"),
        (SYSTEM, "syslog-sink-agent-x7k2", "fluent-bit"),
        (SYSTEM, AGENT, "proxy"),
    ] {
        let mut container = node.start(namespace, pod, container);
        container.write(TIME, "stdout", "a line");
    }
    for pod in 5..PODS {
        let mut container = node.start("shop", &format!("web-{pod}"), "app");
        container.write(TIME, "stdout", "a line");
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    let mut copied = 0;
    let retried = until(BOUND, || {
        copy(&agent, &mut own, &mut copied);
        let retries = agent.log().matches("failed to flush chunk").count();
        (retries >= 4 * PODS).then_some(())
    });
    retried.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    let records = |input| counter(&settings, "records_total", input);
    assert_eq!(records("cluster-all"), Some(PODS));
    assert_eq!(records("lane-0"), Some(4));
}

/// An operator can enable reading the agents' log, here while nothing fails.
#[test]
fn a_cluster_sink_can_include_the_agents_log() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let all = receiver();
    let mut snapshot = Snapshot::default();
    let spec = json!({"sink": tcp(all.port()), "includeAgentLogs": true});
    cluster_sink(&mut snapshot, spec);
    let node = Node::new(&dir.path().join("log"));
    let mut own = node.start(SYSTEM, AGENT, "fluent-bit");
    own.write(TIME, "stderr", "an agent's line");
    let agent = start(&program, &snapshot, &settings, &dir);
    let messages = messages(&all, 1, &agent);
    assert_eq!(messages[0].text(), "an agent's line");
}
