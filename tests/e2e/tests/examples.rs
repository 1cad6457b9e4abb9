//! The example receivers of docs/RECEIVERS.md receive the messages of a sink, before
//! and after a restart and a crash.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs;
use std::ops::DerefMut;
use std::path::Path;

use e2e::{APP_NAME, line, send};
use rig::document;
use rig::pki::Pki;
use rig::port::free_port;
use rig::rsyslog::{Rsyslog, has_module};
use rig::syslog_ng::SyslogNg;
use rig::syslogd::Syslogd;
use rig::wait::{BOUND, until};
use tempfile::TempDir;

/// Returns the text of an example.
fn example(name: &str) -> String {
    let document = fs::read_to_string(document::path("RECEIVERS.md")).unwrap();
    let (_, rest) = document
        .split_once(&format!("<!-- example: {name} -->\n```text\n"))
        .unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Replaces the example's files, folder and port with those of the test.
fn adapt(text: &str, pki: &Pki, dir: &Path, port: u16) -> String {
    let server = pki.server();
    let port = port.to_string();
    let path = |path: &Path| path.display().to_string();
    [
        ("/etc/ssl/receiver/ca.pem", path(&pki.ca())),
        ("/etc/ssl/receiver/receiver.pem", path(&server.cert)),
        ("/etc/ssl/receiver/receiver.key", path(&server.key)),
        ("/var/log/clusters.log", path(&dir.join("clusters.log"))),
        ("6514", port.clone()),
        ("2514", port),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn check<D: DerefMut<Target = Syslogd>>(
    text: &str,
    transport: &str,
    start: impl FnOnce(&str, TempDir, u16) -> Option<D>,
) {
    let pki = Pki::new();
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = dir.path().join("clusters.log");
    let text = adapt(text, &pki, dir.path(), port);
    let Some(mut daemon) = start(&text, dir, port) else {
        return;
    };
    let (ca, client) = (pki.ca(), pki.client());
    let options = [
        ("transport", transport),
        ("tls_ca_file", ca.to_str().unwrap()),
        ("tls_cert_file", client.cert.to_str().unwrap()),
        ("tls_key_file", client.key.to_str().unwrap()),
    ];
    let mut expected = Vec::new();
    for (round, signal) in [Some("-TERM"), Some("-KILL"), None].into_iter().enumerate() {
        let lines = (0..100).map(|number| format!("line {round} {number}"));
        let lines: Vec<String> = lines.collect();
        let _ = send(
            &daemon.address(),
            &options,
            lines.iter().map(|text| line(text)).collect(),
        );
        expected.extend(lines);
        let written = || fs::read_to_string(&file).unwrap_or_default();
        until(BOUND, || {
            (written().lines().count() >= expected.len()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", written(), daemon.log()));
        if let Some(signal) = signal {
            daemon.restart(signal);
        }
    }
    let written = fs::read_to_string(&file).unwrap();
    for (written, text) in written.lines().zip(&expected) {
        assert!(written.contains(APP_NAME), "{written}");
        assert!(written.ends_with(text), "{written}");
    }
    assert_eq!(written.lines().count(), expected.len());
}

#[test]
fn rsyslog_tls() {
    let text = example("rsyslog-tls");
    for (driver, module) in [("ossl", "lmnsd_ossl.so"), ("gtls", "lmnsd_gtls.so")] {
        if !has_module(module) {
            rig::skip(&format!("rsyslog has no {module}"));
            continue;
        }
        let text = text.replace("\"ossl\"", &format!("\"{driver}\""));
        check(&text, "tls", Rsyslog::start_with);
    }
}

#[test]
fn rsyslog_relp() {
    if !has_module("imrelp.so") {
        return rig::skip("rsyslog has no imrelp.so");
    }
    check(&example("rsyslog-relp"), "relp+tls", Rsyslog::start_with);
}

#[test]
fn syslog_ng_tls() {
    check(&example("syslog-ng-tls"), "tls", SyslogNg::start_with);
}
