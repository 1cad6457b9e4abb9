//! Tests of the rendered input in a real Fluent Bit: Docker's logs, long lines, rotations
//! while no agent runs, beginnings, and the agents' own log, which is excluded.
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use controller::plan::Plan;
use controller::settings::Settings;
use controller::snapshot::{ObjectName, Snapshot};
use k8s_openapi::jiff::Timestamp;
use receiver::{Message, Receiver};
use rig::containers::{Container, Node};
use rig::fluent_bit::{self, FluentBit};
use rig::wait::{BOUND, until};
use serde_json::json;
use tempfile::TempDir;

use crate::rendered::{self, add_cluster_sink, add_sink, receiver, tcp, version, write};
use crate::world::{SYSTEM, settings_in};

const TIME: &str = "2026-03-01T12:00:00.123456789Z";
/// The name of an agent's pod.
const AGENT: &str = "syslog-sink-agent-x7k2p";

/// Starts an agent with the plan of these sinks.
fn start(program: &Path, snapshot: &Snapshot, settings: &Settings, dir: &TempDir) -> FluentBit {
    let plan = Plan::new(snapshot, settings);
    let is_accepted = plan.verdicts.values().all(Result::is_ok);
    assert!(is_accepted, "{:?}", plan.verdicts);
    rendered::start(program, &write(&plan, dir))
}

fn messages(receiver: &Receiver, count: u64, agent: &FluentBit) -> Vec<Message> {
    let received = receiver
        .wait_for(count, BOUND)
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    received.into_iter().map(|r| r.message.unwrap()).collect()
}

/// Returns the value of one of the input's counters, or `None` if Fluent Bit does not respond.
fn counter(settings: &Settings, name: &str) -> Option<usize> {
    let port = settings.agent.metrics_port;
    let metrics = fluent_bit::get(port, "/api/v2/metrics/prometheus")?;
    let begin = format!("pod_logs_{name}{{name=\"pods\"}} ");
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
    add_sink(&mut snapshot, "shop", "sink", spec);
    let mut cri = Node::new(&dir.path().join("log")).start("shop", "web", "cri");
    let folder = dir.path().join("log/pods/shop_web_0a1b2c3d/docker");
    fs::create_dir_all(&folder).unwrap();
    let mut docker = File::create(folder.join("0.log")).unwrap();
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
fn a_long_line_arrives_in_pieces_and_is_counted() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let (shop, all) = (receiver(), receiver());
    let mut snapshot = Snapshot::default();
    let large = |receiver: &Receiver| {
        let mut spec = tcp(receiver.port());
        spec["maxMessageSize"] = json!(2_000_000);
        spec
    };
    add_sink(&mut snapshot, "shop", "sink", large(&shop));
    add_cluster_sink(&mut snapshot, "all", json!({"sink": large(&all)}));
    let mut web = Node::new(&dir.path().join("log")).start("shop", "web", "app");
    let long = "x".repeat(2_500_000);
    for text in ["first", &long, "second"] {
        web.write(TIME, "stdout", text);
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    for receiver in [&shop, &all] {
        let messages = messages(receiver, 5, &agent);
        let sizes: Vec<usize> = messages
            .iter()
            .map(|message| message.text().len())
            .collect();
        assert_eq!(sizes, [5, 1 << 20, 1 << 20, long.len() - (2 << 20), 6]);
    }
    let is_counted = until(BOUND, || {
        counter(&settings, "cut_lines_total").filter(|lines| *lines > 0)
    });
    assert!(is_counted.is_ok(), "{is_counted:?}");
}

/// Writes lines with consecutive numbers.
fn write_lines(container: &mut Container, numbers: std::ops::Range<usize>) {
    for number in numbers {
        container.write(TIME, "stdout", &format!("line {number}"));
    }
}

/// Returns the numbers of the lines that arrived, in order.
fn numbers(messages: &[Message]) -> Vec<usize> {
    let number = |message: &Message| message.text().strip_prefix("line ")?.parse().ok();
    messages.iter().filter_map(number).collect()
}

/// While no agent runs, the kubelet rotates and compresses the files. Nothing is lost or
/// repeated.
#[test]
fn an_agent_continues_where_the_last_one_stopped() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let (shop, all) = (receiver(), receiver());
    let mut snapshot = Snapshot::default();
    add_sink(&mut snapshot, "shop", "sink", tcp(shop.port()));
    add_cluster_sink(&mut snapshot, "all", json!({"sink": tcp(all.port())}));
    let mut web = Node::new(&dir.path().join("log")).start("shop", "web", "app");
    write_lines(&mut web, 0..100);
    let agent = start(&program, &snapshot, &settings, &dir);
    for receiver in [&shop, &all] {
        messages(receiver, 100, &agent);
    }
    agent.stop();
    for part in 1..4 {
        write_lines(&mut web, part * 100..(part + 1) * 100);
        web.rotate();
    }
    write_lines(&mut web, 400..500);
    let agent = start(&program, &snapshot, &settings, &dir);
    for receiver in [&shop, &all] {
        let messages = messages(receiver, 500, &agent);
        assert_eq!(numbers(&messages), (0..500).collect::<Vec<_>>());
    }
    agent.stop();
    assert_eq!((shop.count(), all.count()), (500, 500));
}

/// The configuration of an agent of an earlier version, with the queue `uid`.
fn tail_configuration(settings: &Settings, dir: &TempDir, port: u16) -> String {
    let (log, queues) = (
        dir.path().join("log").display().to_string(),
        settings.paths.queues(),
    );
    format!(
        "service:
  flush: 1
pipeline:
  inputs:
    - name: tail
      path: {log}/containers/*.log
      tag: sink.ns.shop.var.log.containers.<file>
      tag_regex: '(?<file>[^/_]+_(?<ns>[^/_]+)_[^/_]+\\.log)$'
      multiline.parser: docker, cri
      read_from_head: on
  outputs:
    - name: syslog_sink
      match: sink.ns.shop.*
      servers: 127.0.0.1:{port}
      transport: tcp
      namespace: shop
      queue_path: {queues}
      queue_name: uid
      retry_limit: no_limits
"
    )
}

/// An upgrade from an earlier version: the sink gets what was written since.
#[test]
fn an_agent_continues_where_tail_stopped() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let shop = receiver();
    let mut web = Node::new(&dir.path().join("log")).start("shop", "web", "app");
    write_lines(&mut web, 0..100);
    let file = dir.path().join("config/tail.yaml");
    fs::write(&file, tail_configuration(&settings, &dir, shop.port())).unwrap();
    let agent = FluentBit::start(&program, &[host::library()], &file, &[]);
    messages(&shop, 100, &agent);
    agent.stop();
    for number in 100..200 {
        let now = Timestamp::now().to_string();
        web.write(&now, "stdout", &format!("line {number}"));
    }
    web.rotate();

    let mut snapshot = Snapshot::default();
    add_sink(&mut snapshot, "shop", "sink", tcp(shop.port()));
    for version in snapshot.versions.values_mut() {
        version.uid = "uid".to_owned();
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    let messages = messages(&shop, 200, &agent);
    agent.stop();
    assert_eq!(numbers(&messages), (0..200).collect::<Vec<_>>());
    assert_eq!(shop.count(), 200);
}

/// A second sink of a namespace does not make the first one get anything again.
#[test]
fn a_sink_gets_the_lines_since_its_creation() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let (first, second) = (receiver(), receiver());
    let mut snapshot = Snapshot::default();
    add_sink(&mut snapshot, "shop", "first", tcp(first.port()));
    let mut web = Node::new(&dir.path().join("log")).start("shop", "web", "app");
    for (hour, text) in [(10, "old"), (12, "new")] {
        let time = format!("2026-03-01T{hour}:00:00.000000000Z");
        web.write(&time, "stdout", text);
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    messages(&first, 2, &agent);
    agent.stop();
    add_sink(&mut snapshot, "shop", "second", tcp(second.port()));
    let id = ObjectName::new("shop", "second").into();
    let created = version("2026-03-01T11:00:00Z");
    snapshot.versions.insert(id, created);
    let agent = start(&program, &snapshot, &settings, &dir);
    web.write("2026-03-01T13:00:00.000000000Z", "stdout", "last");
    for (receiver, expected) in [
        (&first, &["old", "new", "last"][..]),
        (&second, &["new", "last"]),
    ] {
        let messages = messages(receiver, expected.len() as u64, &agent);
        let texts: Vec<&str> = messages.iter().map(Message::text).collect();
        assert_eq!(texts, expected);
    }
    agent.stop();
    assert_eq!((first.count(), second.count()), (3, 2));
}

/// Neither a cluster sink nor the sink of the agents' own namespace gets their log, so
/// errors do not multiply.
#[test]
fn sinks_do_not_get_the_agents_own_log() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let settings = settings_in(&dir);
    let (all, own) = (receiver(), receiver());
    let mut snapshot = Snapshot::default();
    add_cluster_sink(&mut snapshot, "all", json!({"sink": tcp(all.port())}));
    add_sink(&mut snapshot, SYSTEM, "sink", tcp(own.port()));
    let node = Node::new(&dir.path().join("log"));
    let mut agents = node.start(SYSTEM, AGENT, "fluent-bit");
    agents.write(TIME, "stderr", "an agent's line");
    // Pods with similar names are not agents.
    for (namespace, pod, container) in [
        ("shop", AGENT, "fluent-bit"),
        (SYSTEM, "sink-controller-5d4f-x7k2p", "controller"),
        (SYSTEM, "my-syslog-sink-agent-x7k2p", "fluent-bit"),
    ] {
        let mut container = node.start(namespace, pod, container);
        container.write(TIME, "stdout", "a line");
    }
    let agent = start(&program, &snapshot, &settings, &dir);
    for (receiver, count) in [(&all, 3), (&own, 2)] {
        messages(receiver, count, &agent);
    }
    // Each output has every line that was read.
    let read = until(BOUND, || {
        counter(&settings, "read_lines_total").filter(|lines| *lines == 4)
    });
    assert_eq!(read, Ok(4));
    agent.stop();
    for (receiver, count) in [(&all, 3), (&own, 2)] {
        let received = receiver.received().into_iter();
        let texts: Vec<String> = received
            .map(|received| received.message.unwrap().text().to_owned())
            .collect();
        assert_eq!(texts, vec!["a line"; count]);
    }
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
    add_cluster_sink(&mut snapshot, "all", spec);
    let node = Node::new(&dir.path().join("log"));
    let mut own = node.start(SYSTEM, AGENT, "fluent-bit");
    own.write(TIME, "stderr", "an agent's line");
    let agent = start(&program, &snapshot, &settings, &dir);
    let messages = messages(&all, 1, &agent);
    assert_eq!(messages[0].text(), "an agent's line");
}
