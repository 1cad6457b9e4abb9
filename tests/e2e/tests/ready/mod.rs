//! The ready-to-use configurations of fluent-bit-conf, unchanged, in a real Fluent Bit, and
//! what tests of the input `pod_logs` share.
#![allow(dead_code, reason = "each test uses only a part")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use receiver::{Listen, Message, Options, Receiver, TlsFiles};
use rig::containers::Container;
use rig::fluent_bit::{self, FluentBit};
use rig::pki::Pki;
use rig::port::free_port;
use rig::wait::BOUND;
use tempfile::TempDir;

/// The name of the agent's pod, as Kubernetes generates it for a `DaemonSet`.
pub(crate) const OWN_POD: &str = "syslog-sink-x7k2p";
pub(crate) const OWN_NAMESPACE: &str = "logging";

pub(crate) fn configuration(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fluent-bit-conf")
        .join(file)
}

/// Returns the variables of fluent-bit-conf/README.md.
pub(crate) fn variables(dir: &TempDir, address: &str, pki: &Pki) -> Vec<(&'static str, String)> {
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir_all(dir.path().join("state")).unwrap();
    vec![
        (
            "SYSLOG_SINK_SERVERS",
            address.replace("127.0.0.1", "localhost"),
        ),
        ("SYSLOG_SINK_CA", pki.ca().display().to_string()),
        ("SYSLOG_SINK_CERT", String::new()),
        ("SYSLOG_SINK_KEY", String::new()),
        ("STATE_DIR", path("state")),
        ("LOG_DIR", path("log")),
        ("LOG_FILES", path("app.log")),
        ("KUBE_META_DIR", path("meta")),
        ("HTTP_PORT", free_port().to_string()),
        ("NODE_NAME", "node-1".to_owned()),
        ("POD_NAMESPACE", OWN_NAMESPACE.to_owned()),
        ("POD_NAME", OWN_POD.to_owned()),
        ("CONTAINER_NAME", "app".to_owned()),
    ]
}

/// Returns the value of a variable.
pub(crate) fn variable<'v>(variables: &'v [(&'static str, String)], name: &str) -> &'v str {
    let mut found = variables.iter().filter(|(found, _)| *found == name);
    &found.next().unwrap().1
}

/// Starts Fluent Bit with both libraries.
pub(crate) fn start(
    program: &Path,
    configuration: &Path,
    variables: &[(&str, String)],
) -> FluentBit {
    FluentBit::start(program, &host::libraries(), configuration, variables)
}

/// Writes the labels of a container's pod as `sink-agent` does.
pub(crate) fn write_pod(dir: &TempDir, container: &Container, labels: &serde_json::Value) {
    let Container {
        namespace,
        pod,
        uid,
        ..
    } = container;
    let object = serde_json::json!({
        "metadata": {"name": pod, "namespace": namespace, "uid": uid, "labels": labels},
        "spec": {"nodeName": "node-1"},
    });
    let folder = dir.path().join("meta");
    fs::create_dir_all(&folder).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
    file.write_all(object.to_string().as_bytes()).unwrap();
    let name = format!("{namespace}_{pod}.meta");
    file.persist(folder.join(name)).unwrap();
}

/// Waits for `count` messages, and returns all messages that have arrived.
pub(crate) fn messages(receiver: &Receiver, count: u64, agent: &FluentBit) -> Vec<Message> {
    let received = receiver
        .wait_for(count, BOUND)
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    received.into_iter().map(|r| r.message.unwrap()).collect()
}

pub(crate) fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}

/// Returns the value of the label `app` of a message's pod.
pub(crate) fn app(message: &Message) -> Option<&str> {
    message.param("kubernetes@47450", "app")
}

/// Returns the number of lines that the input has read.
pub(crate) fn lines_read(port: u16) -> Option<usize> {
    let metrics = fluent_bit::get(port, "/api/v2/metrics/prometheus")?;
    let name = "pod_logs_read_lines_total{name=\"pod_logs.0\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

pub(crate) fn tls_receiver(pki: &Pki) -> Receiver {
    let server = pki.server();
    let files = TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: None,
    };
    Receiver::start(Options::new(Listen::Tls(files))).unwrap()
}
