use std::path::PathBuf;

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::{Pair, Pki};
use rig::rsyslog::{Input, Rsyslog};
use serde_json::{Value, json};

use super::*;

fn test(spec: Value) -> SinkTest {
    SinkTest {
        sink: "shop/siem".to_owned(),
        namespace: "shop".to_owned(),
        spec: serde_json::from_value(spec).unwrap(),
    }
}

fn ask(spec: Value, folder: &Path) -> TestReport {
    let objects = objects_in(folder, "shop").unwrap();
    run_test(&test(spec), objects, "here").unwrap()
}

fn tls(pair: Pair, client_ca: Option<PathBuf>) -> Receiver {
    let Pair { cert, key } = pair;
    let files = TlsFiles {
        cert,
        key,
        client_ca,
    };
    Receiver::start(Options::new(Listen::Tls(files))).unwrap()
}

/// Creates a folder like a kubelet's mount of an object with these keys.
fn mounted(kind: &str, name: &str, files: &[(&str, &Path)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join(kind).join(name);
    fs::create_dir_all(object.join("..data")).unwrap();
    for (key, file) in files {
        fs::copy(file, object.join(key)).unwrap();
    }
    folder
}

fn nothing() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(report: &TestReport) -> Vec<&str> {
    let steps = report.servers.iter().flat_map(|server| &server.steps);
    steps.map(|step| step.name.as_str()).collect()
}

#[test]
fn a_message_arrives_over_tls_with_the_mounted_secrets() {
    let pki = Pki::new();
    let receiver = tls(pki.server(), Some(pki.ca()));
    let Pair { cert, key } = pki.client();
    let folder = mounted("secrets", "own", &[("tls.crt", &cert), ("tls.key", &key)]);
    let pem = fs::read_to_string(pki.ca()).unwrap();
    let spec = json!({
        "host": "localhost", "port": receiver.port(),
        "tls": {"ca": {"pem": pem}, "clientCertificateSecret": "own"},
    });
    let report = ask(spec, folder.path());
    assert!(report.passed, "{report:#?}");
    assert_eq!(names(&report), ["name", "connect", "tls", "message"]);
    let received = receiver.wait_for(1, Duration::from_secs(30)).unwrap();
    let message = received[0].message.as_ref().unwrap();
    let text = message.msg.as_deref().unwrap();
    assert_eq!(text, b"test message for the sink shop/siem from here");
}

#[test]
fn a_receiver_that_requires_another_certificate_is_reported() {
    let pki = Pki::new();
    let receiver = tls(pki.server(), Some(pki.ca()));
    let pem = fs::read_to_string(pki.ca()).unwrap();
    let spec = json!({
        "host": "localhost", "port": receiver.port(), "tls": {"ca": {"pem": pem}},
    });
    let report = ask(spec, nothing().path());
    let last = report.servers[0].steps.last().unwrap();
    assert!(!report.passed && last.name == "tls", "{report:#?}");
    let hint = last.hint.as_deref().unwrap();
    assert!(hint.contains("tls.clientCertificateSecret"), "{hint}");
}

#[test]
fn each_server_is_tested() {
    let receiver = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let servers = json!([
        {"host": "127.0.0.1", "port": receiver.port()},
        {"host": "no-such-host.invalid"},
    ]);
    let spec = json!({"servers": servers, "transport": "tcp"});
    let report = ask(spec, nothing().path());
    assert!(!report.passed);
    assert_eq!(names(&report), ["connect", "message", "name"]);
    assert!(report.servers[0].steps.iter().all(|step| step.passed));
    assert!(!report.servers[1].steps[0].passed);
}

#[test]
fn relp_confirms_the_delivery_and_udp_does_not() {
    let Some(relp) = Rsyslog::start(&Input::Relp { tls: None }) else {
        return;
    };
    let spec = json!({"host": "127.0.0.1", "port": relp.port(), "transport": "relp"});
    let report = ask(spec, nothing().path());
    let last = report.servers[0].steps.last().unwrap();
    assert!(
        report.passed && last.text.ends_with("program (RELP)"),
        "{report:#?}"
    );
    let udp = Receiver::start(Options::new(Listen::Udp)).unwrap();
    let spec = json!({"host": "127.0.0.1", "port": udp.port(), "transport": "udp"});
    let report = ask(spec, nothing().path());
    assert!(
        report.passed && names(&report) == ["message"],
        "{report:#?}"
    );
    let last = report.servers[0].steps.last().unwrap();
    assert!(last.text.ends_with("acknowledges nothing"), "{report:#?}");
}

#[test]
fn an_invalid_sink_is_refused_with_the_controllers_message() {
    let missing = mounted("secrets", "own", &[]);
    fs::remove_dir(missing.path().join("secrets/own/..data")).unwrap();
    for (spec, words) in [
        (json!({"host": "a b"}), "InvalidValue: host \"a b\""),
        (
            json!({"host": "a", "tls": {"clientCertificateSecret": "own"}}),
            "SecretNotFound: tls.clientCertificateSecret: the Secret shop/own does not exist",
        ),
        (
            json!({"host": "a", "tls": {"ca": {"configMap": {"name": "ca"}}}}),
            "ConfigMapNotFound: tls.ca.configMap: the ConfigMap shop/ca does not exist",
        ),
    ] {
        let report = ask(spec, missing.path());
        let why = report.refused.clone().unwrap();
        assert!(!report.passed && why.starts_with(words), "{why}");
        assert!(report.servers.is_empty());
    }
}
