//! The input `pod_logs` in a real Fluent Bit: which lines arrive where, whole, and with which
//! identity.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod ready;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use ready::{app, start, texts, write_pod};
use receiver::{Listen, Message, Options, Receiver};
use rig::containers::{Container, Node};
use rig::event::map;
use rig::fluent_bit::{self, FluentBit};
use rig::wait::{BOUND, until};
use rmpv::Value;
use serde_json::json;
use tempfile::TempDir;

const TIME: &str = "2026-03-01T12:00:00.123456789Z";
const SHOP: &[(&str, &str)] = &[("match", "ns.shop"), ("namespace", "shop")];
const CLUSTER: &[(&str, &str)] = &[("match", "ns.*"), ("cluster", "on")];

/// A node with a folder for everything else.
struct World {
    dir: TempDir,
    node: Node,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::new(&dir.path().join("log"));
        Self { dir, node }
    }

    /// Starts a container whose pod has the labels `app: <namespace>`.
    fn start(&self, namespace: &str, pod: &str, name: &str) -> Container {
        let container = self.node.start(namespace, pod, name);
        write_pod(&self.dir, &container, &json!({"app": namespace}));
        container
    }

    /// Starts Fluent Bit with these keys of the input, and these outputs.
    fn run(&self, input: &[(&str, &str)], outputs: &str) -> Option<FluentBit> {
        let program = fluent_bit::find()?;
        let mut text = String::from(
            "service:\n  flush: 0.2\n  grace: 2\npipeline:\n  inputs:\n    - name: pod_logs\n      \
             node_name: node-1\n      mem_buf_limit: 16M\n",
        );
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let keys = [("path", path("log/pods")), ("start", "beginning".into())];
        let is_default = |(key, _): &(&str, String)| input.iter().all(|(given, _)| given != key);
        let keys = keys.into_iter().filter(is_default);
        let keys = keys.chain(input.iter().map(|(key, value)| (*key, (*value).to_owned())));
        for (key, value) in keys {
            writeln!(text, "      {key}: {value}").unwrap();
        }
        write!(text, "  outputs:\n{outputs}").unwrap();
        let configuration = self.dir.path().join("fluent-bit.yaml");
        fs::write(&configuration, text).unwrap();
        Some(start(&program, &configuration, &[]))
    }

    /// Returns an output with a queue.
    fn output(&self, name: &str, receiver: &Receiver, keys: &[(&str, &str)]) -> String {
        let mut text = format!(
            "    - name: syslog_sink
      alias: {name}
      identity: group
      servers: {}
      transport: tcp
      max_message_size: 64k
      queue_path: {}
      queue_name: {name}
      retry_limit: no_limits
",
            receiver.address(),
            self.queues(),
        );
        for (key, value) in keys {
            writeln!(text, "      {key}: {value}").unwrap();
        }
        text
    }

    fn queues(&self) -> String {
        self.dir.path().join("queues").display().to_string()
    }

    /// Starts Fluent Bit with an output for each receiver, with these keys, and with the files
    /// of labels.
    fn run_with_labels(&self, outputs: &[(&Receiver, &[(&str, &str)])]) -> Option<FluentBit> {
        let outputs = outputs.iter().enumerate();
        let outputs = outputs.map(|(number, (receiver, keys))| {
            self.output(&format!("output-{number}"), receiver, keys)
        });
        let labels = self.dir.path().join("meta").display().to_string();
        let input = [("queue_path", &*self.queues()), ("labels_path", &labels)];
        self.run(&input, &outputs.collect::<String>())
    }
}

fn receiver() -> Receiver {
    Receiver::start(Options::new(Listen::Tcp)).unwrap()
}

/// Waits for `count` messages, stops Fluent Bit, and returns all messages that have arrived.
fn exactly(count: usize, receiver: &Receiver, agent: FluentBit) -> Vec<Message> {
    ready::messages(receiver, count as u64, &agent);
    let log = agent.stop();
    let received = receiver.received().into_iter();
    let messages: Vec<Message> = received.map(|r| r.message.unwrap()).collect();
    assert_eq!(messages.len(), count, "{messages:#?}\n{log}");
    messages
}

/// Asserts the identity, the node and the labels of a message of a container.
fn assert_origin(message: &Message, container: &Container) {
    let Container {
        namespace,
        pod,
        name,
        ..
    } = container;
    let app_name = format!("pod.log/{namespace}/{pod}/{name}");
    assert_eq!(message.app_name.as_deref(), Some(&*app_name));
    assert_eq!(message.hostname.as_deref(), Some("node-1"));
    for (param, value) in [
        ("namespace_name", namespace),
        ("object_name", pod),
        ("container_name", name),
        ("vm_id", &"node-1".to_owned()),
    ] {
        let found = message.param("kubernetes@47450", param);
        assert_eq!(found, Some(&**value), "{param}");
    }
    assert_eq!(app(message), Some(&**namespace));
}

#[test]
fn each_output_gets_exactly_its_lines() {
    const LINES: usize = 200;
    let world = World::new();
    let (shop, cluster) = (receiver(), receiver());
    let Some(agent) = world.run_with_labels(&[(&shop, SHOP), (&cluster, CLUSTER)]) else {
        return;
    };
    let names = [
        ("shop", "web-0", "app"),
        ("shop", "web-0", "proxy"),
        ("shop", "web-1", "app"),
        ("shop-2", "web-0", "app"),
        ("bank", "shop", "shop"),
    ];
    let mut containers = names.map(|(namespace, pod, name)| world.start(namespace, pod, name));
    for line in 0..LINES {
        for container in &mut containers {
            let Container {
                namespace,
                pod,
                name,
                ..
            } = &*container;
            let text = format!("{namespace} {pod} {name} {line}");
            container.write(TIME, "stdout", &text);
        }
    }
    ready::messages(&shop, 3 * LINES as u64, &agent);
    let of_all = exactly(containers.len() * LINES, &cluster, agent);
    let received = shop.received().into_iter();
    let of_shop: Vec<Message> = received.map(|r| r.message.unwrap()).collect();
    assert_eq!(of_shop.len(), 3 * LINES);
    for (containers, messages) in [(&containers[..3], of_shop), (&containers[..], of_all)] {
        for container in containers {
            let begin = format!(
                "{} {} {} ",
                container.namespace, container.pod, container.name
            );
            let of_container = messages.iter();
            let of_container = of_container.filter(|message| message.text().starts_with(&begin));
            let mut count = 0;
            for message in of_container {
                assert_eq!(message.text(), format!("{begin}{count}"));
                assert_origin(message, container);
                count += 1;
            }
            assert_eq!(count, LINES, "{begin}");
        }
    }
}

/// A container can start, write and end between two looks at the folder. The kubelet removes its
/// pod's folder a little later.
#[test]
fn a_container_that_lives_for_a_moment_arrives() {
    const PODS: usize = 20;
    const LIFE: Duration = Duration::from_millis(50);
    const AFTERWARDS: Duration = Duration::from_secs(2);
    let world = World::new();
    let receiver = receiver();
    let Some(agent) = world.run_with_labels(&[(&receiver, CLUSTER)]) else {
        return;
    };
    let mut early = world.start("jobs", "early", "run");
    early.write(TIME, "stdout", "the input reads");
    ready::messages(&receiver, 1, &agent);
    let start = |pod| {
        let mut container = world.start("jobs", &format!("job-{pod}"), "run");
        container.write(TIME, "stdout", &format!("{pod} begins"));
        sleep(LIFE);
        container.write(TIME, "stderr", &format!("{pod} ends"));
        container
    };
    let containers: Vec<Container> = (0..PODS).map(start).collect();
    sleep(AFTERWARDS);
    containers.into_iter().for_each(Container::remove_pod);
    let messages = exactly(1 + 2 * PODS, &receiver, agent);
    let mut texts = texts(&messages[1..]);
    let mut expected: Vec<String> = (0..PODS)
        .flat_map(|pod| [format!("{pod} begins"), format!("{pod} ends")])
        .collect();
    texts.sort_unstable();
    expected.sort_unstable();
    assert_eq!(texts, expected);
}

/// The container runtime splits lines into parts of 16 KiB.
#[test]
fn long_lines_arrive_whole() {
    let world = World::new();
    let receiver = receiver();
    let mut container = world.start("shop", "web-0", "app");
    let mut other = world.start("shop", "web-1", "app");
    let lines: Vec<String> = (0..10)
        .map(|line| {
            let mut text = format!("line {line} ");
            while text.len() < 40 * 1024 {
                write!(text, "{} ", text.len()).unwrap();
            }
            text
        })
        .collect();
    for line in &lines {
        container.write(TIME, "stdout", line);
        other.write(TIME, "stderr", line);
        container.write(TIME, "stdout", "short");
    }
    let Some(agent) = world.run_with_labels(&[(&receiver, CLUSTER)]) else {
        return;
    };
    let messages = exactly(3 * lines.len(), &receiver, agent);
    let of = |pod: &str| {
        let app_name = format!("pod.log/shop/{pod}/app");
        let messages = messages.iter();
        let messages = messages.filter(|m| m.app_name.as_deref() == Some(&*app_name));
        messages.map(Message::text).collect::<Vec<_>>()
    };
    let both = lines.iter().flat_map(|line| [line.as_str(), "short"]);
    assert_eq!(of("web-0"), both.collect::<Vec<_>>());
    assert_eq!(of("web-1"), lines);
}

/// With `records flat`, outputs of Fluent Bit itself have the container in each record.
#[test]
fn flat_records_are_for_any_output() {
    let world = World::new();
    let mut container = world.start("shop", "web-0", "app");
    container.write(TIME, "stdout", "first");
    container.write(TIME, "stderr", "second");
    let folder = world.dir.path().join("out");
    fs::create_dir(&folder).unwrap();
    let output = format!(
        "    - name: file\n      match: kube.*\n      path: {}\n      file: lines\n      \
         format: out_file\n",
        folder.display()
    );
    let path = |name: &str| world.dir.path().join(name).display().to_string();
    let input = [
        ("records", "flat"),
        ("labels_path", &*path("meta")),
        ("position_path", &path("positions")),
    ];
    let Some(agent) = world.run(&input, &output) else {
        return;
    };
    let file = folder.join("lines");
    let lines = || fs::read_to_string(&file).unwrap_or_default();
    let read = until(BOUND, || (lines().lines().count() == 2).then_some(()));
    read.unwrap_or_else(|error| panic!("{error}\n{}\n{}", lines(), agent.log()));
    agent.stop();
    let kubernetes = json!({
        "namespace_name": "shop",
        "pod_name": "web-0",
        "pod_id": container.uid,
        "container_name": "app",
        "host": "node-1",
        "labels": {"app": "shop"},
    });
    let tag = format!(
        "kube.var.log.containers.web-0_shop_app-{:0>64}.log",
        container.uid.replace('-', "")
    );
    let records = [("first", "stdout"), ("second", "stderr")];
    for (line, (text, stream)) in lines().lines().zip(records) {
        // <tag>: [<time>, <record>]
        let (found, rest) = line.split_once(": [").unwrap();
        assert_eq!(found, tag);
        let (time, record) = rest.strip_suffix(']').unwrap().split_once(", ").unwrap();
        assert_eq!(time, "1772366400.123456789");
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        let expected = json!({"log": text, "stream": stream, "kubernetes": kubernetes});
        assert_eq!(record, expected);
    }
}

/// Returns the beginning of a group of records of another container, as the input encodes it.
fn group() -> Vec<u8> {
    let text = |entries: &[(&'static str, &str)]| {
        let entries = entries.iter().map(|(key, value)| (*key, (*value).into()));
        map(entries.collect())
    };
    let kubernetes = text(&[
        ("namespace_name", "bank"),
        ("pod_name", "vault-0"),
        ("container_name", "app"),
        ("host", "node-2"),
    ]);
    let time = Value::Ext(0, [(-1_i32).to_be_bytes(), [0; 4]].concat());
    let head = Value::Array(vec![time, map(vec![("kubernetes", kubernetes)])]);
    let mut bytes = Vec::new();
    let event = Value::Array(vec![head, map(vec![])]);
    rmpv::encode::write_value(&mut bytes, &event).unwrap();
    assert!(!bytes.contains(&b'\n'), "a line has no end within");
    bytes
}

/// A container writes everything that the input, its formats and the output use, as text.
#[test]
fn a_container_cannot_forge_its_identity() {
    let world = World::new();
    let (bank, cluster) = (receiver(), receiver());
    let mut forger = world.start("shop", "web-0", "app");
    let json = json!({
        "log": "forged\n",
        "stream": "stdout",
        "time": TIME,
        "kubernetes": {"namespace_name": "bank", "pod_name": "vault-0", "container_name": "app"},
        "_p": "P",
    });
    let header = format!("{TIME} stdout F forged");
    // The second part of the line looks like a line.
    let parts = format!("{:x<1$}{header}", "", 16 * 1024);
    let lines = [
        header.clone(),
        format!("{TIME} stdout P forged"),
        format!("\r{header}\r"),
        format!("\0{header}\u{85}{header}\u{2028}{header}"),
        json.to_string(),
        "[[-1, {\"kubernetes\": {\"namespace_name\": \"bank\"}}], {}]".to_owned(),
        "<14>1 2026-03-01T12:00:00Z node-2 pod.log/bank/vault-0/app - - - forged".to_owned(),
        "ns.bank".to_owned(),
        parts,
    ];
    for line in &lines {
        forger.write(TIME, "stdout", line);
    }
    // Bytes that are no text, as a whole line, after a header, and at the end of a part.
    let group = group();
    for flag in ["F", "P", "F"] {
        forger.append(format!("{TIME} stdout {flag} ").as_bytes());
        forger.append(&group);
        forger.append(b"\n");
    }
    forger.append(&group);
    forger.append(b"\n");
    forger.write(TIME, "stdout", "the end");
    // The lines, two of the group as text and one of it without a header, and the end.
    let count = lines.len() + 4;
    let only_bank: &[_] = &[("match", "ns.*"), ("namespace", "bank")];
    let Some(agent) = world.run_with_labels(&[(&bank, only_bank), (&cluster, CLUSTER)]) else {
        return;
    };
    let messages = exactly(count, &cluster, agent);
    for message in &messages {
        assert_origin(message, &forger);
        assert_eq!(message.structured_data.len(), 1);
    }
    assert_eq!(messages[0].text(), header);
    assert_eq!(messages[4].text(), lines[4]);
    assert_eq!(messages[8].text(), lines[8]);
    assert_eq!(messages[count - 1].text(), "the end");
    assert_eq!(bank.count(), 0);
}

#[test]
fn an_invalid_value_stops_fluent_bit_with_its_reason() {
    for (key, value, problem) in [
        (
            "path",
            "log/pods",
            "must be an absolute path, such as /var/log/pods",
        ),
        (
            "queue_path",
            "queues",
            "must be an absolute path, such as /var/log/pods",
        ),
        (
            "namespaces",
            "shop, Bank",
            "Bank is not a namespace: names of namespaces, separated by commas, are expected",
        ),
        (
            "exclude_pods",
            "/",
            "/ is not a pod: <namespace>/<pod>, separated by commas, is expected",
        ),
        (
            "start",
            "yesterday",
            "must be end, beginning, or a time such as 30m or 2h for the lines since then",
        ),
        (
            "max_line_size",
            "100M",
            "must be between 1k and 64M, such as 1M",
        ),
        (
            "labels_wait",
            "5",
            "must be a number with the unit s, m, h or d, such as 5s",
        ),
        ("records", "json", "must be group or flat"),
    ] {
        let world = World::new();
        let output = "    - name: stdout\n      match: '*'\n";
        let Some(mut agent) = world.run(&[(key, value)], output) else {
            return;
        };
        let ended = until(BOUND, || agent.has_ended().then_some(()));
        let log = agent.log();
        ended.unwrap_or_else(|error| panic!("{key}: {error}\n{log}"));
        let line = format!("invalid value \"{value}\" of {key}: {problem}");
        let errors = log.lines().filter(|line| line.contains("[error]"));
        assert!(errors.clone().any(|error| error.ends_with(&line)), "{log}");
    }
}

#[test]
fn each_container_uses_one_of_several_servers_and_keeps_its_order() {
    const CONTAINERS: usize = 12;
    const LINES: usize = 20;
    let world = World::new();
    let (first, second) = (receiver(), receiver());
    let keys = [CLUSTER, &[("sharing", "balance")]].concat();
    let servers = format!("{}, {}", first.address(), second.address());
    let output = world.output("sink", &first, &keys);
    let output = output.replace(&first.address(), &servers);
    let pods = (0..CONTAINERS).map(|pod| format!("web-{pod}"));
    let mut containers: Vec<Container> = pods.map(|pod| world.start("shop", &pod, "app")).collect();
    let Some(agent) = world.run(&[("queue_path", &*world.queues())], &output) else {
        return;
    };
    for line in 0..LINES {
        for container in &mut containers {
            container.write(TIME, "stdout", &line.to_string());
        }
    }
    let all = (CONTAINERS * LINES) as u64;
    let arrived = || (first.count() + second.count() >= all).then_some(());
    until(BOUND, arrived).unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    agent.stop();
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for receiver in [&first, &second] {
        let received = receiver.received().into_iter();
        let messages: Vec<Message> = received.map(|r| r.message.unwrap()).collect();
        let mut names = BTreeSet::new();
        for message in &messages {
            let name = message.app_name.clone().unwrap();
            names.insert(name.clone());
            lines
                .entry(name)
                .or_default()
                .push(message.text().to_owned());
        }
        assert!((1..CONTAINERS).contains(&names.len()), "{names:?}");
    }
    // A container with two servers would have its lines in another order.
    let expected: Vec<String> = (0..LINES).map(|line| line.to_string()).collect();
    assert_eq!(lines.len(), CONTAINERS);
    assert!(lines.values().all(|lines| *lines == expected), "{lines:?}");
}
