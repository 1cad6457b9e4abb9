//! The input of the ready-to-use configurations for Kubernetes nodes: the formats of container
//! runtimes, labels, restarts, fast writers, and the agent's own log.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod ready;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use ready::{
    OWN_NAMESPACE, OWN_POD, app, configuration, lines_read, messages, start, texts, tls_receiver,
    variable, variables, write_pod,
};
use rig::containers::{Container, Node, pod_uid};
use rig::fluent_bit;
use rig::pki::Pki;
use rig::port::free_port;
use rig::wait::{BOUND, until};
use serde_json::json;

const TIME: &str = "2026-03-01T12:00:00.123456789Z";
const FILES: [&str; 2] = ["kubernetes.conf", "kubernetes.yaml"];

/// Writes a line in the format of Docker's log driver `json-file`.
fn docker(container: &mut Container, text: &str, stream: &str) {
    let line = json!({"log": text, "stream": stream, "time": TIME});
    container.append(format!("{line}\n").as_bytes());
}

#[test]
fn docker_logs_are_parsed_like_cri_logs() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let node = Node::new(&dir.path().join("log"));
        let mut cri = node.start("shop", "cri", "app");
        let mut log = node.start("shop", "docker", "app");
        for container in [&cri, &log] {
            write_pod(&dir, container, &json!({}));
        }
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
        let agent = start(&program, &configuration(file), &variables);
        let messages = messages(&receiver, 6, &agent);
        agent.stop();
        assert_eq!(receiver.count(), 6);
        let of = |pod: &str| {
            let app_name = format!("pod.log/shop/{pod}/app");
            let of_pod = messages.iter();
            let of_pod = of_pod.filter(|m| m.app_name.as_deref() == Some(&app_name));
            of_pod.map(|m| m.text().to_owned()).collect::<Vec<_>>()
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

/// A file of labels belongs to the pod with its UID: the next pod of a `StatefulSet` waits until
/// `sink-agent` has replaced it.
#[test]
fn a_recreated_pod_has_its_own_labels() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let node = Node::new(&dir.path().join("log"));
        let agent = start(&program, &configuration(file), &variables);
        for (round, labels) in ["old", "new"].into_iter().enumerate() {
            let uid = pod_uid("shop", labels);
            let mut container = node.start_in("shop", "web-0", &uid, "app");
            container.write(TIME, "stdout", labels);
            sleep(Duration::from_secs(1));
            write_pod(&dir, &container, &json!({"app": labels}));
            let messages = messages(&receiver, round as u64 + 1, &agent);
            let last = messages.last().unwrap();
            assert_eq!((last.text(), app(last)), (labels, Some(labels)), "{file}");
        }
    }
}

#[test]
fn changed_labels_are_read_again() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let pki = Pki::new();
    let receiver = tls_receiver(&pki);
    let dir = tempfile::tempdir().unwrap();
    let variables = variables(&dir, &receiver.address(), &pki);
    let mut container = Node::new(&dir.path().join("log")).start("shop", "web-0", "app");
    let agent = start(&program, &configuration("kubernetes.yaml"), &variables);
    for labels in ["old", "new"] {
        write_pod(&dir, &container, &json!({"app": labels}));
        let looked_up = until(BOUND, || {
            container.write(TIME, "stdout", "a line");
            let messages = messages(&receiver, receiver.count() + 1, &agent);
            (app(messages.last()?) == Some(labels)).then_some(())
        });
        looked_up.unwrap_or_else(|error| panic!("{labels}: {error}\n{}", agent.log()));
    }
}

/// Lines without labels are better than none.
#[test]
fn a_pod_whose_labels_are_unknown_is_read_after_a_while() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let pki = Pki::new();
    let receiver = tls_receiver(&pki);
    let dir = tempfile::tempdir().unwrap();
    let variables = variables(&dir, &receiver.address(), &pki);
    let mut container = Node::new(&dir.path().join("log")).start("shop", "web-0", "app");
    container.write(TIME, "stdout", "a line");
    let agent = start(&program, &configuration("kubernetes.yaml"), &variables);
    let messages = messages(&receiver, 1, &agent);
    assert_eq!((messages[0].text(), app(&messages[0])), ("a line", None));
}

/// The files that are rotated while Fluent Bit does not run are read, compressed or not.
#[test]
fn a_restart_reads_the_files_that_were_rotated_meanwhile() {
    const RESTARTS: usize = 3;
    const LINES: usize = 1000;
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut container = Node::new(&dir.path().join("log")).start("shop", "web-0", "app");
        write_pod(&dir, &container, &json!({}));
        let mut written = 0;
        let mut write = |container: &mut Container| {
            for _ in 0..LINES {
                container.write(TIME, "stdout", &format!("line {written}"));
                written += 1;
            }
            written
        };
        let mut log = String::new();
        for restart in 0..RESTARTS {
            let agent = start(&program, &configuration(file), &variables);
            let count = write(&mut container);
            messages(&receiver, count as u64, &agent);
            log = agent.stop();
            for _ in 0..=restart {
                write(&mut container);
                container.rotate();
            }
            write(&mut container);
        }
        let agent = start(&program, &configuration(file), &variables);
        let count = write(&mut container);
        let messages = messages(&receiver, count as u64, &agent);
        log.push_str(&agent.stop());
        assert_eq!(receiver.count(), count as u64, "{file}: duplicates\n{log}");
        let expected: Vec<String> = (0..count).map(|line| format!("line {line}")).collect();
        assert_eq!(texts(&messages), expected, "{file}: {log}");
    }
}

/// Reading continues with the new configuration where it stopped.
#[test]
fn a_hot_reload_neither_loses_nor_duplicates_messages() {
    const RELOADS: usize = 3;
    const LINES: usize = 500;
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut container = Node::new(&dir.path().join("log")).start("shop", "web-0", "app");
        write_pod(&dir, &container, &json!({}));
        let agent = start(&program, &configuration(file), &variables);
        agent.wait_for_log("connected to", 1, BOUND).unwrap();
        for round in 0..=RELOADS {
            for line in round * LINES..(round + 1) * LINES {
                container.write(TIME, "stdout", &format!("line {line}"));
            }
            if round == RELOADS {
                break;
            }
            agent.reload();
            for (text, count) in [
                ("successful reload done", round + 1),
                ("connected to", round + 2),
            ] {
                agent.wait_for_log(text, count, BOUND).unwrap();
            }
        }
        let count = (RELOADS + 1) * LINES;
        let messages = messages(&receiver, count as u64, &agent);
        let log = agent.stop();
        assert_eq!(receiver.count(), count as u64, "{file}: duplicates\n{log}");
        let expected: Vec<String> = (0..count).map(|line| format!("line {line}")).collect();
        assert_eq!(texts(&messages), expected, "{file}: {log}");
    }
}

/// Returns the number of lines that the input has read.
fn lines(variables: &[(&'static str, String)]) -> Option<usize> {
    lines_read(variable(variables, "HTTP_PORT").parse().unwrap())
}

/// A file that grows faster than it is read must not block the other files.
#[test]
fn a_fast_growing_file_does_not_delay_other_files() {
    const BLOCK: usize = 20_000;
    /// The minimum number of lines that are always unread.
    const AHEAD: usize = 5 * BLOCK;
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for file in FILES {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let node = Node::new(&dir.path().join("log"));
        let start_pod = |pod| {
            let container = node.start("shop", pod, "app");
            write_pod(&dir, &container, &json!({}));
            container
        };
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
        let agent = start(&program, &configuration(file), &variables);
        let all_arrived = AtomicBool::new(false);
        let arrived = thread::scope(|scope| {
            scope.spawn(|| {
                while !all_arrived.load(Ordering::Relaxed) {
                    keep_ahead(lines(&variables).unwrap_or(0));
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
    for file in FILES {
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
        for container in containers.iter().chain([&own]) {
            write_pod(&dir, container, &json!({}));
        }
        let agent = start(&program, &configuration(file), &variables);
        agent.wait_for_log("cannot connect to", 1, BOUND).unwrap();
        for line in agent.log().lines() {
            own.write(TIME, "stderr", line);
        }
        // Twice, so that lines written before the first check have been read too.
        for expected in [PODS, 2 * PODS] {
            for container in &mut containers {
                container.write(TIME, "stdout", "a line");
            }
            let all_read = || (lines(&variables)? >= expected).then_some(());
            let read = until(BOUND, all_read);
            read.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
        }
        assert_eq!(lines(&variables), Some(2 * PODS), "{file}");
    }
}
