//! The ready-to-use configurations of fluent-bit-conf, unchanged, in a real Fluent Bit.
#![allow(dead_code, reason = "each test uses only a part")]

use std::fs;
use std::path::{Path, PathBuf};

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::Pki;
use rig::port::free_port;
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

/// Writes the labels that the API server would return for a pod.
pub(crate) fn write_pod(dir: &TempDir, namespace: &str, pod: &str, labels: &serde_json::Value) {
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
    });
    let folder = dir.path().join("meta");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{namespace}_{pod}.meta"));
    fs::write(file, object.to_string()).unwrap();
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
