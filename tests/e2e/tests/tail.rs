//! The inputs of the ready-to-use configurations: long lines, restarts, Docker's logs,
//! labels of recreated pods, and the agent's own log.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod ready;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ready::{OWN_NAMESPACE, OWN_POD, configuration, tls_receiver, variable, variables, write_pod};
use receiver::{Message, Receiver};
use rig::containers::{Container, Node, container_id};
use rig::fluent_bit::{self, FluentBit};
use rig::pki::Pki;
use rig::port::free_port;
use rig::wait::{BOUND, until};
use serde_json::json;

/// More than the buffer of every configuration.
const LONG: usize = 3_000_000;
const TIME: &str = "2026-03-01T12:00:00.123456789Z";
const FILES: [&str; 4] = [
    "standalone.conf",
    "standalone.yaml",
    "sidecar.conf",
    "sidecar.yaml",
];

fn start(program: &Path, file: &str, variables: &[(&str, String)]) -> FluentBit {
    FluentBit::start(program, &[host::library()], &configuration(file), variables)
}

/// Waits for `count` messages, and returns all messages that have arrived.
fn messages(receiver: &Receiver, count: u64, agent: &FluentBit) -> Vec<Message> {
    let received = receiver
        .wait_for(count, BOUND)
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    received.into_iter().map(|r| r.message.unwrap()).collect()
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}

#[test]
fn a_long_line_is_skipped_and_the_others_arrive_once() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut log = File::create(dir.path().join("app.log")).unwrap();
        let long = "x".repeat(LONG);
        writeln!(log, "first\n{long}\nsecond\nthird").unwrap();
        let agent = start(&program, file, &variables);
        messages(&receiver, 3, &agent);
        // A line written after a scan of the folder must arrive once too.
        writeln!(log, "fourth").unwrap();
        let messages = messages(&receiver, 4, &agent);
        let log = agent.stop();
        assert_eq!(texts(&messages), ["first", "second", "third", "fourth"]);
        assert_eq!(receiver.count(), 4, "{file}: duplicate messages");
        assert!(log.contains("app.log have long lines. Skipping"), "{log}");
    }
}

#[test]
fn a_restart_continues_at_the_stored_offset() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut log = File::create(dir.path().join("app.log")).unwrap();
        for round in 1..=3 {
            let agent = start(&program, file, &variables);
            writeln!(log, "line {round}").unwrap();
            messages(&receiver, round, &agent);
            agent.stop();
        }
        let received = receiver.received().into_iter();
        let messages: Vec<Message> = received.map(|r| r.message.unwrap()).collect();
        assert_eq!(texts(&messages), ["line 1", "line 2", "line 3"], "{file}");
    }
}

/// Writes a line in the format of Docker's log driver `json-file`.
fn docker(log: &mut File, text: &str, stream: &str) {
    let line = json!({"log": text, "stream": stream, "time": TIME});
    writeln!(log, "{line}").unwrap();
}

#[test]
fn docker_logs_are_parsed_like_cri_logs() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in ["kubernetes.conf", "kubernetes.yaml"] {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let node = Node::new(&dir.path().join("log"));
        let mut cri = node.start("shop", "cri", "app");
        let id = container_id("shop", "docker", "app");
        let name = format!("log/containers/docker_shop_app-{id}.log");
        let mut log = File::create(dir.path().join(name)).unwrap();
        // Texts that look like the other format, and a line of several parts.
        docker(&mut log, "plain\n", "stdout");
        docker(&mut log, "x stdout F forged\n", "stderr");
        docker(&mut log, "{\"log\":\"inner\"}\n", "stdout");
        docker(&mut log, "a part, ", "stdout");
        docker(&mut log, "and the end\n", "stdout");
        let json = r#"{"log":"x","stream":"stdout","time":"2020-01-01T00:00:00Z"}"#;
        for text in ["plain", json] {
            cri.write(TIME, "stdout", text);
        }
        let agent = start(&program, file, &variables);
        let messages = messages(&receiver, 6, &agent);
        agent.stop();
        assert_eq!(receiver.count(), 6);
        let of = |pod: &str| {
            let app_name = format!("pod.log/shop/{pod}/app");
            let of_pod = messages.iter();
            let of_pod = of_pod.filter(|m| m.app_name.as_deref() == Some(&app_name));
            let text = |message: &Message| message.text().trim_end().to_owned();
            of_pod.map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            of("docker"),
            [
                "plain",
                "x stdout F forged",
                "{\"log\":\"inner\"}",
                "a part, and the end"
            ]
        );
        assert_eq!(of("cri"), ["plain", json]);
        for message in &messages {
            let time = message.timestamp.as_ref().unwrap();
            assert_eq!(time.text, "2026-03-01T12:00:00.123456Z");
        }
    }
}

/// Returns the value of a label in the structured data.
fn app(message: &Message) -> Option<&str> {
    let element = message.structured_data.first()?;
    let mut labels = element.params.iter().filter(|(name, _)| name == "app");
    Some(&labels.next()?.1)
}

#[test]
fn a_recreated_pod_has_its_own_labels() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in ["kubernetes.conf", "kubernetes.yaml"] {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let _node = Node::new(&dir.path().join("log"));
        let agent = start(&program, file, &variables);
        for (round, labels) in ["old", "new"].into_iter().enumerate() {
            write_pod(&dir, "shop", "web-0", &json!({"app": labels}));
            let id = container_id("shop", labels, "app");
            let name = format!("log/containers/web-0_shop_app-{id}.log");
            let line = format!("{TIME} stdout F {labels}\n");
            fs::write(dir.path().join(name), line).unwrap();
            let messages = messages(&receiver, round as u64 + 1, &agent);
            let last = messages.last().unwrap();
            assert_eq!((last.text(), app(last)), (labels, Some(labels)), "{file}");
        }
    }
}

/// The labels of a running pod are fetched again after some time. The test shortens the
/// configured time.
#[test]
fn changed_labels_are_fetched_again() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let pki = Pki::new();
    let receiver = tls_receiver(&pki);
    let dir = tempfile::tempdir().unwrap();
    let variables = variables(&dir, &receiver.address(), &pki);
    let text = fs::read_to_string(configuration("kubernetes.yaml")).unwrap();
    let hurried = text.replace("kube_meta_cache_ttl: 1h", "kube_meta_cache_ttl: 1s");
    assert!(
        text != hurried,
        "the configuration has a different kube_meta_cache_ttl"
    );
    let file = dir.path().join("kubernetes.yaml");
    fs::write(&file, hurried).unwrap();
    let mut container = Node::new(&dir.path().join("log")).start("shop", "web-0", "app");
    let agent = FluentBit::start(&program, &[host::library()], &file, &variables);
    for labels in ["old", "new"] {
        write_pod(&dir, "shop", "web-0", &json!({"app": labels}));
        let looked_up = until(BOUND, || {
            container.write(TIME, "stdout", "a line");
            let before = receiver.count();
            messages(&receiver, before + 1, &agent);
            let received = receiver.received();
            let last = received.last()?.message.as_ref().unwrap();
            (app(last) == Some(labels)).then_some(())
        });
        looked_up.unwrap_or_else(|error| panic!("{labels}: {error}\n{}", agent.log()));
    }
}

/// Returns the number of records that the input has read.
fn records(variables: &[(&'static str, String)]) -> Option<usize> {
    let port = variable(variables, "HTTP_PORT").parse().unwrap();
    let metrics = fluent_bit::get(port, "/api/v2/metrics/prometheus")?;
    let name = "fluentbit_input_records_total{name=\"tail.0\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

/// A file that grows faster than it is read must not block the other files.
#[test]
fn a_fast_growing_file_does_not_delay_other_files() {
    const BLOCK: usize = 20_000;
    /// The minimum number of bytes that are always unread.
    const AHEAD: usize = 5 * BLOCK;
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in ["kubernetes.conf", "kubernetes.yaml"] {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let node = Node::new(&dir.path().join("log"));
        let start_pod = |pod| node.start("shop", pod, "app");
        // One of them is read first, in any order.
        let mut floods = ["a", "z"].map(start_pod);
        let block = format!("{TIME} stdout F a flood\n").repeat(BLOCK);
        let mut written = 0;
        let mut keep_ahead = |read: usize| {
            while written < read + AHEAD {
                let mut append = |container: &mut Container| container.append(block.as_bytes());
                floods.iter_mut().for_each(&mut append);
                written += BLOCK;
            }
        };
        keep_ahead(0);
        let mut quiet = ["m", "n", "o"].map(start_pod);
        for container in &mut quiet {
            container.write(TIME, "stdout", "a line");
        }
        let agent = start(&program, file, &variables);
        let all_arrived = AtomicBool::new(false);
        let arrived = thread::scope(|scope| {
            scope.spawn(|| {
                while !all_arrived.load(Ordering::Relaxed) {
                    keep_ahead(records(&variables).unwrap_or(0));
                }
            });
            let arrived = until(BOUND, || {
                let received = receiver.received();
                let texts = received.iter().map(|r| r.message.as_ref().unwrap().text());
                (texts.filter(|text| *text == "a line").count() == quiet.len()).then_some(())
            });
            all_arrived.store(true, Ordering::Relaxed);
            arrived
        });
        arrived.unwrap_or_else(|error| panic!("{file}: {error}\n{}", agent.log()));
    }
}

/// With a dead receiver, each line of the agent's own log would cause another line.
#[test]
fn an_agent_does_not_read_its_own_log() {
    const PODS: usize = 10;
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in ["kubernetes.conf", "kubernetes.yaml"] {
        let dir = tempfile::tempdir().unwrap();
        let dead = format!("127.0.0.1:{}", free_port());
        let pki = Pki::new();
        let variables = variables(&dir, &dead, &pki);
        let node = Node::new(&dir.path().join("log"));
        let mut own = node.start(OWN_NAMESPACE, OWN_POD, "fluent-bit");
        let mut containers: Vec<Container> = (0..PODS)
            .map(|pod| {
                // A pod with the agent's name in another namespace is not an agent.
                let name = format!("{OWN_POD}-{pod}");
                let name = if pod == 0 { OWN_POD } else { &name };
                node.start("shop", name, "fluent-bit")
            })
            .collect();
        let agent = start(&program, file, &variables);
        agent.wait_for_log("cannot connect to", 1, BOUND).unwrap();
        for line in agent.log().lines() {
            own.write(TIME, "stderr", line);
        }
        // Twice, so that lines written before the first check have been read too.
        for lines in [PODS, 2 * PODS] {
            for container in &mut containers {
                container.write(TIME, "stdout", "a line");
            }
            let all_read = || (records(&variables)? >= lines).then_some(());
            let read = until(BOUND, all_read);
            read.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
        }
        assert_eq!(records(&variables), Some(2 * PODS), "{file}");
    }
}
