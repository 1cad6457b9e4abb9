//! Tests of how a real syslog-ng parses the plugin's messages. The C host replaces
//! Fluent Bit, so that the tests run everywhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use e2e::{APP_NAME, deliver, line};
use rig::event::map;
use rig::pki::Pki;
use rig::syslog_ng::{Input, SyslogNg};
use rig::syslogd::Parsed;

#[test]
fn every_field_arrives_at_every_input() {
    let pki = Pki::new();
    let (ca, client) = (pki.ca(), pki.client());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca_file, cert, key) = (text(&ca), text(&client.cert), text(&client.key));
    let tls = |client_ca| Input::SyslogTls {
        server: pki.server(),
        client_ca,
    };
    let with_ca = vec![("tls_ca_file", ca_file.as_str())];
    let mut mutual = with_ca.clone();
    mutual.extend([
        ("tls_cert_file", cert.as_str()),
        ("tls_key_file", key.as_str()),
    ]);
    for (input, options) in [
        (
            Input::Network,
            vec![("transport", "tcp"), ("framing", "newline")],
        ),
        (Input::Syslog, vec![("transport", "tcp")]),
        (tls(None), with_ca),
        (tls(Some(ca.clone())), mutual),
        (Input::Udp, vec![("transport", "udp")]),
    ] {
        let Some(syslog_ng) = SyslogNg::start(&input) else {
            return;
        };
        let labels = map(vec![("app", "web \"front\" [1]".into())]);
        let kubernetes = map(vec![("host", "node-1".into()), ("labels", labels)]);
        let body = map(vec![
            ("log", "caf\u{e9} \"\\ hello\n".into()),
            ("kubernetes", kubernetes),
        ]);
        let fields = [
            ("facility", "local3"),
            ("severity", "warning"),
            ("procid", "42"),
            ("msgid", "request"),
        ];
        let options = [&fields[..], &options].concat();
        let messages = deliver(&syslog_ng, &options, vec![body, line("")], 2);
        let structured_data = messages[0].structured_data.clone();
        for part in [
            r#"[kubernetes@47450 app="web \"front\" [1\]" "#,
            r#" namespace_name="shop" object_name="web-0" container_name="nginx""#,
        ] {
            assert!(structured_data.contains(part), "{structured_data}");
        }
        assert_eq!(
            messages[0],
            Parsed {
                facility: "19".to_owned(),
                severity: "4".to_owned(),
                timestamp: "2026-03-01T12:00:00.123456+00:00".to_owned(),
                // The sender's address, because keep-hostname() is off.
                hostname: "127.0.0.1".to_owned(),
                app_name: APP_NAME.to_owned(),
                procid: "42".to_owned(),
                msgid: "request".to_owned(),
                structured_data,
                msg: "caf\u{e9} \"\\ hello".to_owned(),
            },
            "{input:?}"
        );
        assert_eq!(messages[1].msg, "");
        assert_eq!(messages[1].app_name, APP_NAME);
    }
}
