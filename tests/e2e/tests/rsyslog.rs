//! Tests of how a real rsyslog parses the plugin's messages. The C host replaces Fluent
//! Bit, so that the tests run everywhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::path::Path;

use e2e::{chunk, deliver, line};
use host::Host;
use rig::event::map;
use rig::pki::Pki;
use rig::rsyslog::{Driver, Input, Rsyslog};
use rig::syslogd::Parsed;
use rmpv::Value;

fn tls(driver: Driver, pki: &Pki, mutual: bool) -> Option<Rsyslog> {
    Rsyslog::start(&Input::Tls {
        driver,
        server: pki.server(),
        ca: pki.ca(),
        mutual,
    })
}

const DRIVERS: [Driver; 2] = [Driver::OpenSsl, Driver::GnuTls];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_field_arrives_over_mutual_tls() {
    for driver in DRIVERS {
        every_field_over_tls(driver);
    }
}

fn every_field_over_tls(driver: Driver) {
    let pki = Pki::new();
    let Some(rsyslog) = tls(driver, &pki, true) else {
        return;
    };
    let client = pki.client();
    let ca = pki.ca();
    let options = [
        ("tls_ca_file", text(&ca)),
        ("tls_cert_file", text(&client.cert)),
        ("tls_key_file", text(&client.key)),
        ("tls_min_version", "1.3"),
        ("facility", "local3"),
        ("severity", "$level"),
        ("procid", "$pid"),
        ("msgid", "$kind ?? 'none'"),
        ("structured_data", r#"[origin@32473 ip="$ip"]"#),
    ];
    let labels = map(vec![
        ("app", "web".into()),
        ("app.kubernetes.io/name", "shop".into()),
    ]);
    let body = map(vec![
        ("log", "hello\n".into()),
        ("level", "warning".into()),
        ("pid", 42.into()),
        ("ip", "10.0.0.1".into()),
        (
            "kubernetes",
            map(vec![("host", "node-1".into()), ("labels", labels)]),
        ),
    ]);
    let messages = deliver(&rsyslog, &options, vec![body], 1);
    assert_eq!(
        messages[0],
        Parsed {
            facility: "19".to_owned(),
            severity: "4".to_owned(),
            timestamp: "2026-03-01T12:00:00.123456Z".to_owned(),
            hostname: "node-1".to_owned(),
            app_name: "pod.log/shop/web-0/nginx".to_owned(),
            procid: "42".to_owned(),
            msgid: "none".to_owned(),
            structured_data: "[origin@32473 ip=\"10.0.0.1\"]\
                              [kubernetes@47450 app=\"web\" app.kubernetes.io/name=\"shop\" \
                              namespace_name=\"shop\" object_name=\"web-0\" container_name=\"nginx\" \
                              vm_id=\"node-1\"]"
                .to_owned(),
            msg: "hello".to_owned(),
        }
    );
}

#[test]
fn messages_arrive_over_every_transport_and_framing() {
    let texts = [
        "first",
        "<13>1 - - - - - - forged",
        "with \"quotes\" and ]",
        "",
        "\u{1}\t€\u{7f}",
    ];
    for (input, options, last) in [
        (Input::Tcp, vec![("transport", "tcp")], "\u{1}\t€\u{7f}"),
        (
            Input::Tcp,
            vec![("transport", "tcp"), ("framing", "newline")],
            " \t€ ",
        ),
        (Input::Udp, vec![("transport", "udp")], "\u{1}\t€\u{7f}"),
    ] {
        // Raw, because control characters are compared with what was sent.
        let rsyslog = Rsyslog::configure(input).raw_control_characters().start();
        let Some(rsyslog) = rsyslog else {
            return;
        };
        let bodies = texts.iter().map(|text| line(text)).collect();
        let messages = deliver(&rsyslog, &options, bodies, texts.len());
        let expected = texts[..4].iter().copied().chain([last]);
        for (message, text) in messages.iter().zip(expected) {
            assert_eq!(message.msg, text, "{options:?}");
            assert_eq!(
                (message.facility.as_str(), message.severity.as_str()),
                ("1", "6")
            );
            assert_eq!(message.app_name, "pod.log/shop/web-0/nginx");
        }
    }
}

#[test]
fn a_newline_never_starts_a_second_message() {
    for (options, expected) in [
        (vec![], "one\ntwo"),
        (vec![("framing", "newline")], "one two"),
        (
            vec![("framing", "newline"), ("control_characters", "escape")],
            "one\\ntwo",
        ),
    ] {
        // Raw, because line feeds are compared with what was sent.
        let rsyslog = Rsyslog::configure(Input::Tcp)
            .raw_control_characters()
            .start();
        let Some(rsyslog) = rsyslog else {
            return;
        };
        let options = [&[("transport", "tcp")], options.as_slice()].concat();
        let messages = deliver(&rsyslog, &options, vec![line("one\ntwo\n"), line("end")], 2);
        assert_eq!(messages[0].msg, expected);
        assert_eq!(messages[1].msg, "end");
    }
}

#[test]
fn hostile_labels_and_bytes_are_escaped() {
    let Some(rsyslog) = Rsyslog::start(&Input::Tcp) else {
        return;
    };
    let labels = map(vec![
        ("quote", "a\"b".into()),
        ("bracket", "a]b".into()),
        ("backslash", "a\\b".into()),
        ("newline", "a\nb".into()),
        ("namespace_name", "forged".into()),
        ("a-label-with-a-key-that-does-not-fit", "v".into()),
    ]);
    let body = map(vec![
        ("log", Value::Binary(b"caf\xe9".to_vec())),
        ("kubernetes", map(vec![("labels", labels)])),
    ]);
    let messages = deliver(&rsyslog, &[("transport", "tcp")], vec![body], 1);
    assert_eq!(messages[0].msg, "caf\u{FFFD}");
    let data = &messages[0].structured_data;
    for part in [
        "[kubernetes@47450 quote=\"a\\\"b\" bracket=\"a\\]b\" backslash=\"a\\\\b\" newline=\"a b\" ",
        " namespace_name~",
        "at-does-not-fit~",
        " namespace_name=\"shop\" object_name=\"web-0\" container_name=\"nginx\"]",
    ] {
        assert!(data.contains(part), "{part:?} is not in {data:?}");
    }
}

#[test]
fn header_fields_come_from_templates() {
    let Some(rsyslog) = Rsyslog::start(&Input::Tcp) else {
        return;
    };
    let options = [
        ("transport", "tcp"),
        ("timestamp", "$time"),
        ("hostname", "Host_$n"),
        ("app_name", "$TAG[0]"),
        ("message", "$log ($missing ?? 'nothing')"),
        ("kubernetes_structured_data", "off"),
        ("bom", "on"),
    ];
    let body = map(vec![
        ("log", "hello".into()),
        ("time", "2020-01-02T03:04:05.5+01:00".into()),
        ("n", 7.into()),
    ]);
    let messages = deliver(&rsyslog, &options, vec![body], 1);
    assert_eq!(messages[0].timestamp, "2020-01-02T03:04:05.500000+01:00");
    assert_eq!(messages[0].hostname, "Host-7");
    assert_eq!(messages[0].app_name, "kube");
    assert_eq!(messages[0].structured_data, "-");
    assert_eq!(
        messages[0].msg.trim_start_matches('\u{feff}'),
        "hello (nothing)"
    );
}

/// With TLS 1.3 a receiver rejects a certificate after the client has completed the
/// handshake. Nothing may be sent into a connection that is about to be rejected.
#[test]
fn nothing_is_delivered_without_a_required_client_certificate() {
    for driver in DRIVERS {
        nothing_is_delivered_without_a_certificate(driver);
    }
}

fn nothing_is_delivered_without_a_certificate(driver: Driver) {
    let pki = Pki::new();
    let Some(rsyslog) = tls(driver, &pki, true) else {
        return;
    };
    let foreign = pki.foreign_client();
    let ca = pki.ca();
    let address = rsyslog.address();
    let common = [("servers", address.as_str()), ("tls_ca_file", text(&ca))];
    let with_foreign = [
        &common[..],
        &[
            ("tls_cert_file", text(&foreign.cert)),
            ("tls_key_file", text(&foreign.key)),
        ],
    ]
    .concat();
    for version in ["1.2", "1.3"] {
        for options in [&common[..], &with_foreign] {
            let options = [options, &[("tls_min_version", version)]].concat();
            let run = Host::new()
                .retries(5)
                .output("sink", &options)
                .run(&chunk(vec![line("x")]));
            assert_eq!(
                (run.outputs[0].ok, run.outputs[0].retry),
                (0, 1),
                "{}",
                run.log
            );
            assert!(
                run.log.contains("[error] [output:syslog_sink:sink]"),
                "{}",
                run.log
            );
        }
    }
    assert!(rsyslog.messages().is_empty());
}
