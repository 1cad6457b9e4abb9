//! Invalid settings and unusable receivers are reported in one line, which names the
//! output, the key, the value and the allowed values, or says what to do. No message is
//! lost meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use host::{Host, Run};
use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::event::{container_tag, event, map};
use rig::fluent_bit::{self, FluentBit};
use rig::pki::{Pair, Pki};
use rig::wait::{BOUND, until};

fn run(options: &[(&str, &str)]) -> Run {
    let body = map(vec![("log", "hello".into())]);
    let chunk = (container_tag("shop", "web-0", "nginx"), event(1, 0, body));
    Host::new().retries(3).output("sink", options).run(&[chunk])
}

/// Asserts that the output is not initialized, and that one log line contains `parts`.
fn assert_refused(options: &[(&str, &str)], parts: &[&str]) {
    let run = run(options);
    assert!(run.outputs.is_empty(), "{options:?} is accepted");
    assert_eq!(run.log.lines().count(), 1, "{}", run.log);
    assert!(
        run.log.starts_with("[error] [output:syslog_sink:sink] "),
        "{}",
        run.log
    );
    for part in parts {
        assert!(run.log.contains(part), "{part:?} is not in {}", run.log);
    }
}

#[test]
fn invalid_values_are_rejected() {
    let tcp = [("servers", "localhost:514"), ("transport", "tcp")];
    let port = "host:port or [IPv6 address]:port with a port from 1 to 65535";
    for (key, value, parts) in [
        ("servers", "localhost:0", [r#"servers "localhost:0""#, port]),
        ("servers", "localhost:x", [r#"servers "localhost:x""#, port]),
        (
            "transport",
            "sctp",
            [r#"transport "sctp""#, "tls, tcp, udp"],
        ),
        (
            "framing",
            "lf",
            [r#"framing "lf""#, "octet-counting, newline"],
        ),
        (
            "max_message_size",
            "0",
            [r#"max_message_size "0""#, "between 1024 and 16777216"],
        ),
        (
            "max_message_size",
            "99G",
            [r#"max_message_size "99G""#, "between 1024 and 16777216"],
        ),
        (
            "connect_timeout",
            "0",
            [r#"connect_timeout "0""#, "between 1ms and 60m"],
        ),
        (
            "severity",
            "$",
            [r#"severity "$""#, "no key follows the '$'"],
        ),
        (
            "structured_data",
            "[a",
            [r#"structured_data "[a""#, "expected [id@number"],
        ),
        (
            "namespace",
            "",
            ["namespace \"\"", "cluster on to send all"],
        ),
    ] {
        assert_refused(&[&tcp[..], &[(key, value)]].concat(), &parts);
    }
    assert_refused(&[], &["servers: missing", port]);
}

#[test]
fn unusable_tls_files_are_rejected() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (empty, prose) = (write("empty.pem", ""), write("prose.pem", "not PEM\n"));
    let (ca, client, other) = (pki.ca(), pki.client(), pki.foreign_client());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    for (keys, key, part) in [
        (
            vec![("tls_ca_file", "/no/such.pem".to_owned())],
            "tls_ca_file",
            "No such file",
        ),
        (
            vec![("tls_ca_file", text(&empty))],
            "tls_ca_file",
            "contains no certificate in PEM format",
        ),
        (
            vec![("tls_ca_file", text(&prose))],
            "tls_ca_file",
            "contains no certificate in PEM format",
        ),
        (
            vec![
                ("tls_ca_file", text(&ca)),
                ("tls_cert_file", text(&client.cert)),
            ],
            "tls_key_file",
            "set both or neither",
        ),
        (
            vec![
                ("tls_ca_file", text(&ca)),
                ("tls_cert_file", text(&client.cert)),
                ("tls_key_file", text(&other.key)),
            ],
            "tls_key_file",
            "does not belong to the certificate",
        ),
    ] {
        let mut options = vec![("servers", "localhost")];
        options.extend(keys.iter().map(|(key, value)| (*key, value.as_str())));
        assert_refused(
            &options,
            &[&format!("[output:syslog_sink:sink] {key}"), part],
        );
    }
}

/// Asserts that the output is initialized and returns its chunk for a retry, and that
/// the log says what to do.
fn assert_retried(options: &[(&str, &str)], parts: &[&str]) {
    let run = run(&[
        options,
        &[("backoff_min", "50ms"), ("connect_timeout", "2s")],
    ]
    .concat());
    assert_eq!(
        (run.outputs[0].ok, run.outputs[0].retry),
        (0, 1),
        "{}",
        run.log
    );
    for part in parts {
        assert!(run.log.contains(part), "{part:?} is not in {}", run.log);
    }
}

fn tls_receiver(server: Pair) -> Receiver {
    let files = TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: None,
    };
    Receiver::start(Options::new(Listen::Tls(files))).unwrap()
}

#[test]
fn untrusted_receivers_are_retried() {
    let pki = Pki::new();
    for (server, ca, parts) in [
        (
            pki.expired(),
            pki.ca(),
            ["certificate", "renew the receiver's certificate"],
        ),
        (
            pki.wrong_name(),
            pki.ca(),
            ["certificate", "set tls_server_name"],
        ),
        (
            pki.server(),
            pki.other_ca(),
            ["certificate", "set tls_ca_file"],
        ),
    ] {
        let receiver = tls_receiver(server);
        let address = receiver.address();
        assert_retried(
            &[("servers", &address), ("tls_ca_file", ca.to_str().unwrap())],
            &parts,
        );
        assert_eq!(receiver.count(), 0);
    }
}

#[test]
fn an_unverified_certificate_is_logged() {
    let pki = Pki::new();
    let receiver = tls_receiver(pki.wrong_name());
    let address = receiver.address();
    let run = run(&[("servers", &address), ("tls_verify", "off")]);
    assert_eq!(run.outputs[0].ok, 1, "{}", run.log);
    assert!(
        run.log.contains(
            "[warn] [output:syslog_sink:sink] the receiver's certificate is not verified"
        )
    );
    receiver.wait_for(1, Duration::from_secs(10)).unwrap();
}

#[test]
fn unreachable_receivers_are_retried() {
    let tcp = ("transport", "tcp");
    assert_retried(
        &[("servers", "no-such-host.invalid:514"), tcp],
        &["cannot resolve the host name \"no-such-host.invalid\""],
    );
    assert_retried(
        &[("servers", "127.0.0.1:1"), tcp],
        &["cannot connect to 127.0.0.1:1: Connection refused"],
    );
}

#[test]
fn a_mismatch_of_tls_and_plain_tcp_is_retried() {
    let plain = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let address = plain.address();
    assert_retried(&[("servers", &address), ("tls_verify", "off")], &[&address]);

    let pki = Pki::new();
    let tls = tls_receiver(pki.server());
    let address = tls.address();
    let run = run(&[
        ("servers", &address),
        ("transport", "tcp"),
        ("backoff_min", "50ms"),
    ]);
    assert!(run.outputs.len() == 1);
    tls.wait_for_error(Duration::from_secs(10)).unwrap();
    assert_eq!(tls.count(), 0);
}

/// Fluent Bit passes an unset variable as an absent key: an output with a misspelled
/// variable must not send all namespaces.
#[test]
fn an_unset_variable_does_not_disable_the_namespace_check() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("fluent-bit.conf");
    let start = |namespace: &str| {
        let text = format!(
            "[INPUT]\n    Name dummy\n[OUTPUT]\n    Name syslog_sink\n    Match *\n    \
             servers localhost:1\n    transport tcp\n    namespace {namespace}\n"
        );
        fs::write(&configuration, text).unwrap();
        FluentBit::start(&program, &[host::library()], &configuration, &[])
    };
    let with_namespace = start("shop");
    with_namespace
        .wait_for_log("cannot connect to", 1, BOUND)
        .unwrap();
    let mut without = start("${NO_SUCH_VARIABLE}");
    let problem = "namespace: missing or empty";
    without.wait_for_log(problem, 1, BOUND).unwrap();
    until(BOUND, || without.has_ended().then_some(())).unwrap();
}
