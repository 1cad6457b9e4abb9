//! Tests of the ready-to-use configurations, unchanged, in a real Fluent Bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod ready;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::time::Duration;

use ready::{OWN_NAMESPACE, OWN_POD, configuration, start, tls_receiver, variables, write_pod};
use receiver::{Listen, Options, Receiver};
use rig::containers::{Container, Node};
use rig::fluent_bit::{self, FluentBit};
use rig::pki::Pki;
use rig::rsyslog::{Driver, Input, Parsed, Rsyslog};
use rig::wait::BOUND;
use tempfile::TempDir;

const NAMESPACES: usize = 10;
const CONTAINERS: usize = 50;
const LINES: usize = 2000;
/// The time limit for a hundred thousand lines on a busy machine.
const LONG: Duration = Duration::from_secs(180);

fn start_containers(node: &Node, dir: &TempDir) -> Vec<Container> {
    (0..CONTAINERS)
        .map(|number| {
            let namespace = format!("ns-{}", number % NAMESPACES);
            let container = node.start(&namespace, &format!("pod-{number}"), "app");
            let labels = serde_json::json!({"app": "app", "team": namespace});
            write_pod(dir, &container, &labels);
            container
        })
        .collect()
}

/// Returns a time with nanoseconds, which is different for each line.
fn time(line: usize) -> String {
    format!(
        "2026-03-01T12:{:02}:{:02}.{:06}789Z",
        line / 60 % 60,
        line % 60,
        line
    )
}

fn expected_time(line: usize) -> String {
    format!(
        "2026-03-01T12:{:02}:{:02}.{:06}Z",
        line / 60 % 60,
        line % 60,
        line
    )
}

/// Asserts that each line arrived once, in order, with its own time and origin.
fn check(messages: &[Parsed], log: &str) {
    let mut next: HashMap<&str, usize> = HashMap::new();
    for message in messages {
        let (pod, line) = message.msg.split_once(' ').unwrap();
        let line: usize = line.parse().unwrap();
        let number: usize = pod.strip_prefix("pod-").unwrap().parse().unwrap();
        let namespace = format!("ns-{}", number % NAMESPACES);
        let expected = next.entry(pod).or_default();
        assert_eq!(line, *expected, "{pod}: once, and in order\n{log}");
        *expected += 1;

        assert_eq!(message.app_name, format!("pod.log/{namespace}/{pod}/app"));
        assert_eq!(message.hostname, "node-1");
        assert_eq!(message.timestamp, expected_time(line));
        assert_eq!(
            message.structured_data,
            format!(
                "[kubernetes@47450 app=\"app\" team=\"{namespace}\" namespace_name=\"{namespace}\" \
                 object_name=\"{pod}\" container_name=\"app\" vm_id=\"node-1\"]"
            )
        );
    }
    assert_eq!(next.len(), CONTAINERS);
    assert!(next.values().all(|lines| *lines == LINES), "{next:?}");
}

fn container_logs(file: &str) {
    let pki = Pki::new();
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let input = Input::Tls {
        driver: Driver::OpenSsl,
        server: pki.server(),
        ca: pki.ca(),
        mutual: false,
    };
    // The main queue of the package's configuration has two workers, which reorder
    // messages.
    let Some(rsyslog) = Rsyslog::configure(input).direct_queue().start() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(&dir.path().join("log"));
    let mut containers = start_containers(&node, &dir);
    let variables = variables(&dir, &rsyslog.address(), &pki);
    let fluent_bit = start(&program, &configuration(file), &variables);
    for line in 0..LINES {
        for container in &mut containers {
            let text = format!("{} {line}", container.pod);
            container.write(&time(line), "stdout", &text);
            if line == LINES / 2 {
                container.rotate();
            }
        }
    }
    let messages = rsyslog
        .wait_for(CONTAINERS * LINES, LONG)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", fluent_bit.log(), rsyslog.log()));
    let log = fluent_bit.stop();
    assert_eq!(
        rsyslog.messages().len(),
        messages.len(),
        "duplicate messages\n{log}"
    );
    check(&messages, &log);
}

#[test]
fn container_logs_classic() {
    container_logs("kubernetes.conf");
}

#[test]
fn container_logs_yaml() {
    container_logs("kubernetes.yaml");
}

#[test]
fn every_configuration_passes_a_dry_run() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let variables = variables(&dir, "127.0.0.1:6514", &pki);
    for name in ["kubernetes", "standalone", "sidecar"] {
        for syntax in ["conf", "yaml"] {
            let file = configuration(&format!("{name}.{syntax}"));
            FluentBit::dry_run(&program, &host::libraries(), &file, &variables).unwrap();
        }
    }
}

/// Returns the host, program and text of each message.
fn file_lines(file: &str) -> Option<Vec<(String, String, String)>> {
    let program = fluent_bit::find()?;
    let pki = Pki::new();
    let receiver = tls_receiver(&pki);
    let dir = tempfile::tempdir().unwrap();
    let variables = variables(&dir, &receiver.address(), &pki);
    let mut log = fs::File::create(dir.path().join("app.log")).unwrap();
    let fluent_bit = start(&program, &configuration(file), &variables);
    for line in 0..1000 {
        writeln!(log, "line {line}").unwrap();
    }
    let received = receiver
        .wait_for(1000, BOUND)
        .unwrap_or_else(|error| panic!("{error}\n{}", fluent_bit.log()));
    fluent_bit.stop();
    assert_eq!(receiver.count(), 1000);
    assert!(receiver.errors().is_empty(), "{:?}", receiver.errors());
    let lines = received.into_iter().map(|received| {
        let message = received.message.unwrap();
        let text = message.text().to_owned();
        (message.hostname.unwrap(), message.app_name.unwrap(), text)
    });
    Some(lines.collect())
}

#[test]
fn a_machines_files_arrive() {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for file in ["standalone.conf", "standalone.yaml"] {
        let Some(lines) = file_lines(file) else {
            return;
        };
        for (number, (host, app_name, text)) in lines.into_iter().enumerate() {
            assert_eq!(host, hostname.trim());
            assert_eq!(app_name, "app");
            assert_eq!(text, format!("line {number}"));
        }
    }
}

#[test]
fn a_sidecar_delivers_the_files_of_another_container() {
    for file in ["sidecar.conf", "sidecar.yaml"] {
        let Some(lines) = file_lines(file) else {
            return;
        };
        for (number, (host, app_name, text)) in lines.into_iter().enumerate() {
            assert_eq!(host, "node-1");
            let pod = format!("pod.log/{OWN_NAMESPACE}/{OWN_POD}/app");
            assert_eq!(app_name, pod);
            assert_eq!(text, format!("line {number}"));
        }
    }
}

#[test]
fn a_hot_reload_neither_loses_nor_duplicates_messages() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    for configuration in ["standalone.conf", "standalone.yaml"] {
        let pki = Pki::new();
        let receiver = tls_receiver(&pki);
        let dir = tempfile::tempdir().unwrap();
        let variables = variables(&dir, &receiver.address(), &pki);
        let mut file = fs::File::create(dir.path().join("app.log")).unwrap();
        let configuration = ready::configuration(configuration);
        let fluent_bit = start(&program, &configuration, &variables);
        fluent_bit.wait_for_log("connected to", 1, BOUND).unwrap();
        for round in 0..4 {
            for line in 0..250 {
                writeln!(file, "line {}", round * 250 + line).unwrap();
            }
            fluent_bit.reload();
            // A signal during a reload would stop Fluent Bit without calling the exit
            // of its outputs.
            for (text, count) in [
                ("successful reload done", round + 1),
                ("connected to", round + 2),
            ] {
                fluent_bit.wait_for_log(text, count, BOUND).unwrap();
            }
        }
        let received = receiver
            .wait_for(1000, BOUND)
            .unwrap_or_else(|error| panic!("{error}\n{}", fluent_bit.log()));
        let log = fluent_bit.stop();
        assert_eq!(receiver.count(), 1000, "{log}");
        for (number, received) in received.into_iter().enumerate() {
            let text = format!("line {number}");
            assert_eq!(received.message.unwrap().text(), text, "{log}");
        }
        let errors = receiver.errors();
        assert!(errors.is_empty(), "{errors:?}\n{log}");
    }
}

/// Two outputs, one of them restricted to a namespace; long lines; both streams.
#[test]
fn an_output_with_a_namespace_gets_only_its_records() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let limited = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let all = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(&dir.path().join("log"));
    let configuration = dir.path().join("fluent-bit.conf");
    let log = dir.path().display();
    fs::write(
        &configuration,
        format!(
            "[SERVICE]\n    Flush 1\n    scheduler.base 1\n    scheduler.cap 2\n\
             [INPUT]\n    Name tail\n    Path {log}/log/containers/*.log\n    \
             Tag kube.var.log.containers.<file>.log\n    Tag_Regex (?<file>[^/]+)\\.log$\n    \
             multiline.parser cri\n    Read_from_Head On\n    Refresh_Interval 1\n    \
             Buffer_Max_Size 1M\n\
             [OUTPUT]\n    Name syslog_sink\n    Match *\n    servers {}\n    transport tcp\n    \
             severity stream\n    max_message_size 64k\n    namespace shop\n    Retry_Limit no_limits\n    Workers 1\n\
             [OUTPUT]\n    Name syslog_sink\n    Match *\n    servers {}\n    transport tcp\n    \
             cluster true\n    max_message_size 64k\n    Retry_Limit no_limits\n    Workers 1\n",
            limited.address(),
            all.address()
        ),
    )
    .unwrap();
    let fluent_bit = FluentBit::start(&program, &[host::library()], &configuration, &[]);
    let long = "0123456789abcdef".repeat(2500);
    for namespace in ["shop", "payments", "shop-2"] {
        let mut container = node.start(namespace, "web-0", "app");
        container.write(&time(0), "stdout", "to stdout");
        container.write(&time(1), "stderr", "to stderr");
        container.write(&time(2), "stdout", &long);
    }
    all.wait_for(9, BOUND).unwrap();
    let mine = limited.wait_for(3, BOUND).unwrap();
    let log = fluent_bit.stop();
    assert_eq!(limited.count(), 3);
    assert_eq!(fluent_bit::refused_by_namespace_check(&log), 6, "{log}");
    let mine: Vec<_> = mine.into_iter().map(|m| m.message.unwrap()).collect();
    for (message, (severity, text)) in
        mine.iter()
            .zip([(6, "to stdout"), (3, "to stderr"), (6, &long)])
    {
        assert_eq!(message.app_name.as_deref(), Some("pod.log/shop/web-0/app"));
        assert_eq!(message.severity, severity);
        assert_eq!(message.text(), text);
    }
}
