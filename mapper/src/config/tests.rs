use std::collections::HashMap;
use std::fs;

use super::*;

struct Keys(HashMap<String, String>);

impl Properties for Keys {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }
}

/// All namespaces, unless a key says otherwise.
fn parse(keys: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let keys = [&[("cluster", "on")], keys].concat();
    let keys = keys
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Config::parse(&Keys(keys))
}

/// Over plain TCP, so that no file is needed.
fn parse_tcp(keys: &[(&str, &str)]) -> Result<Config, ConfigError> {
    parse(&[&[("addr", "localhost:514"), ("transport", "tcp")], keys].concat())
}

fn error(keys: &[(&str, &str)]) -> String {
    parse_tcp(keys).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_valid() {
    let config = parse_tcp(&[]).unwrap();
    assert_eq!(config.framing, Framing::OctetCounting);
    assert_eq!(config.layout.max_message_size, 8000);
    assert_eq!(config.layout.oversize, Oversize::Split);
    assert_eq!(
        config.targets[0].policy.connect_timeout,
        Duration::from_secs(10)
    );
    assert!(config.warnings.is_empty());
}

#[test]
fn limits_of_queues() {
    let limit = |text: &str| {
        let queue = [("queue_path", "/queues"), ("queue_name", "shop")];
        parse_tcp(&[&queue[..], &[("queue_limit", text)]].concat())
    };
    for (text, bytes) in [
        ("50M", 50_000_000),
        ("1G", 1_000_000_000),
        ("1000gb", 1_000_000_000_000),
        ("500000000", 500_000_000),
    ] {
        match limit(text) {
            Ok(config) => assert_eq!(config.queue.unwrap().limit, bytes),
            Err(error) => panic!("{error}"),
        }
    }
    for text in ["49M", "1001G", "1T"] {
        let error = limit(text).unwrap_err().to_string();
        assert!(error.contains("allowed is 50M to 1000G bytes"), "{error}");
    }
}

#[test]
fn addresses() {
    for (addr, host, port) in [
        ("logs.example.com:1514", "logs.example.com", 1514),
        ("logs.example.com", "logs.example.com", 514),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("[::1]", "::1", 514),
    ] {
        let config = parse_tcp(&[("addr", addr)]).unwrap();
        let endpoint = &config.targets[0].servers[0];
        assert_eq!(
            (endpoint.host_name().as_str(), endpoint.port()),
            (host, port),
            "{addr}"
        );
    }
    for addr in [
        "host:0",
        "host:65536",
        "host:",
        "host:x",
        ":514",
        "::1",
        "[::1",
        "[::1]x",
        "[host]:1",
        "ho st:1",
        "a:1,",
        "a:1 b:2",
        "-\n:1",
        "host:1:2",
    ] {
        let error = error(&[("addr", addr)]);
        assert!(error.starts_with(&format!("addr {addr:?}: ")), "{error}");
        assert!(
            error.contains("host:port or [IPv6 address]:port"),
            "{error}"
        );
    }
    assert!(
        parse(&[])
            .unwrap_err()
            .to_string()
            .starts_with("addr: is missing")
    );
}

#[test]
fn several_servers_are_tried_in_order_or_share_the_work() {
    let names = |target: &Target| -> Vec<String> {
        target.servers.iter().map(ToString::to_string).collect()
    };
    let addr = ("addr", "a:1, b , [::1]:3");
    let config = parse_tcp(&[addr]).unwrap();
    assert_eq!(config.targets.len(), 1);
    assert_eq!(names(&config.targets[0]), ["a:1", "b:514", "[::1]:3"]);

    let config = parse_tcp(&[addr, ("servers", "balance")]).unwrap();
    let all: Vec<Vec<String>> = config.targets.iter().map(names).collect();
    assert_eq!(
        all,
        [
            ["a:1", "b:514", "[::1]:3"],
            ["b:514", "[::1]:3", "a:1"],
            ["[::1]:3", "a:1", "b:514"]
        ]
    );

    assert!(error(&[("addr", "a:1, b, a:1")]).contains("a:1 is there twice"));
    let many: Vec<String> = (1..18).map(|number| format!("host-{number}")).collect();
    assert!(error(&[("addr", &many.join(","))]).contains("has 17 servers, allowed is 1 to 16"));
    assert!(error(&[("servers", "random")]).ends_with("failover, balance"));
}

#[test]
fn relp_has_a_window_and_nothing_to_replay() {
    let relp = |keys: &[(&str, &str)]| {
        let base = [
            ("addr", "host"),
            ("transport", "relp"),
            ("framing", "newline"),
        ];
        parse(&[&base, keys].concat())
    };
    let config = relp(&[("relp_window", "7")]).unwrap();
    let target = &config.targets[0];
    assert!(matches!(
        target.transport,
        Transport::Relp {
            window: 7,
            tls: None
        }
    ));
    assert_eq!(target.policy.replay_buffer, syslog::ReplayBuffer::Fixed(0));
    assert_eq!(config.framing, Framing::Datagram);
    assert_eq!(
        relp(&[("relp_window", "0")]).unwrap_err().key,
        "relp_window"
    );
    assert_eq!(relp(&[("tls_verify", "on")]).unwrap_err().key, "tls_verify");
    let keys = [("transport", "relp+tls"), ("tls_verify", "off")];
    let config = relp(&keys).unwrap();
    assert!(matches!(
        config.targets[0].transport,
        Transport::Relp { tls: Some(_), .. }
    ));
}

#[test]
fn each_transport_has_a_default_port() {
    for (transport, port) in [
        ("tls", 6514),
        ("tcp", 514),
        ("udp", 514),
        ("relp", 2514),
        ("relp+tls", 2514),
    ] {
        let mut keys = vec![("addr", "host"), ("transport", transport)];
        if transport.ends_with("tls") {
            keys.push(("tls_verify", "off"));
        }
        let config = parse(&keys).unwrap();
        assert_eq!(config.targets[0].servers[0].port(), port, "{transport}");
    }
}

#[test]
fn datagrams_have_a_limit_by_address_family() {
    let size = |addr, size| {
        let keys = [
            ("addr", addr),
            ("transport", "udp"),
            ("max_message_size", size),
        ];
        parse(&keys).map(|config| config.layout.max_message_size)
    };
    assert_eq!(size("host", "").unwrap(), 1180);
    assert_eq!(size("host", "65507").unwrap(), 65_507);
    assert_eq!(size("[::1]", "65527").unwrap(), 65_527);
    for addr in ["host", "10.0.0.1", "[::1], 10.0.0.1"] {
        let error = size(addr, "65508").unwrap_err().to_string();
        assert!(error.contains("1024 to 65507 bytes"), "{error}");
    }
}

#[test]
fn pins_are_fingerprints() {
    let pins = |text: &str| parse(&[("addr", "host"), ("tls_pin_sha256", text)]);
    let pin = "ab".repeat(32);
    // With a pin, no CA is needed.
    let config = pins(&format!("{pin}, sha-256:{pin}")).unwrap();
    assert!(config.warnings.is_empty());
    let error = pins(&format!("{pin},abc")).unwrap_err().to_string();
    assert!(
        error.contains(r#""abc" is not a SHA-256 fingerprint"#),
        "{error}"
    );
}

#[test]
fn tls_is_the_default_and_has_a_port_of_its_own() {
    let config = parse(&[("addr", "host"), ("tls_verify", "off")]).unwrap();
    assert!(matches!(config.targets[0].transport, Transport::Tls(_)));
    assert_eq!(config.targets[0].servers[0].port(), 6514);
    assert!(config.warnings[0].contains("not verified"));
}

#[test]
fn choices_name_what_there_is() {
    assert_eq!(
        error(&[("transport", "sctp")]),
        r#"transport "sctp": is not known, allowed is tls, tcp, udp, relp, relp+tls"#
    );
    assert_eq!(
        error(&[("framing", "lf")]),
        r#"framing "lf": is not known, allowed is octet-counting, newline"#
    );
    assert!(error(&[("oversize", "x")]).ends_with("split, truncate, drop"));
    assert!(error(&[("bom", "maybe")]).ends_with("allowed is on or off"));
    assert!(error(&[("facility", "local8")]).contains("local7"));
    assert!(error(&[("severity", "loud")]).contains("warning"));
}

#[test]
fn sizes_and_time_spans_are_bounded() {
    for size in [
        "0",
        "1023",
        "17M",
        "-1",
        "8 KiB",
        "99999999999999999999",
        "1.5k",
    ] {
        let error = error(&[("max_message_size", size)]);
        assert!(error.contains("1024 to 16777216 bytes"), "{error}");
    }
    for (size, bytes) in [("1024", 1024), ("64k", 64_000), ("1M", 1_000_000)] {
        let config = parse_tcp(&[("max_message_size", size)]).unwrap();
        assert_eq!(config.layout.max_message_size, bytes);
    }
    for span in ["0", "-1s", "61m", "1h", "soon", "99999999999s"] {
        let error = error(&[("connect_timeout", span)]);
        assert!(error.contains("1ms to 60m"), "{error}");
    }
    for (span, millis) in [("250ms", 250), ("3", 3000), ("2m", 120_000)] {
        let config = parse_tcp(&[("write_timeout", span)]).unwrap();
        assert_eq!(
            config.targets[0].policy.write_timeout,
            Duration::from_millis(millis)
        );
    }
    assert!(error(&[("backoff_min", "40s")]).starts_with("backoff_max"));
}

#[test]
fn all_namespaces_are_sent_only_where_that_is_asked_for() {
    let namespace = |keys: &[(&str, &str)]| {
        let keys = [&[("cluster", "off")], keys].concat();
        parse_tcp(&keys).map(|config| config.namespace)
    };
    assert_eq!(
        namespace(&[("namespace", "shop")]),
        Ok(Some("shop".to_owned()))
    );
    assert_eq!(namespace(&[("cluster", "true")]), Ok(None));
    assert_eq!(namespace(&[("identity", "none")]), Ok(None));
    // What Fluent Bit makes of a variable that is not set: an absent key.
    for keys in [
        &[][..],
        &[("namespace", " ")],
        &[("cluster", "")],
        &[("identity", "record")],
    ] {
        let error = namespace(keys).unwrap_err().to_string();
        assert!(error.starts_with("namespace"), "{error}");
        assert!(error.contains("cluster on to send all"), "{error}");
    }
    assert!(error(&[("namespace", "shop"), ("cluster", "true")]).contains("contradicts"));
    let none = [("namespace", "shop"), ("identity", "none")];
    let error = namespace(&none).unwrap_err().to_string();
    assert!(error.contains("contradicts identity none"), "{error}");
}

#[test]
fn an_empty_value_is_an_absent_one() {
    let config = parse_tcp(&[
        ("tls_ca_file", ""),
        ("hostname", ""),
        ("max_message_size", ""),
    ]);
    assert_eq!(config.unwrap().layout.max_message_size, 8000);
}

#[test]
fn tls_keys_mean_nothing_without_tls() {
    let error = error(&[("tls_ca_file", "/ca.pem")]);
    assert_eq!(
        error,
        r#"tls_ca_file "/ca.pem": has no meaning without transport tls or relp+tls"#
    );
}

#[test]
fn tls_files_are_read_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    let error = |keys: &[(&str, &str)]| parse(&[&[("addr", "host")], keys].concat()).unwrap_err();
    assert_eq!(error(&[("tls_ca_file", "/no/such")]).key, "tls_ca_file");
    assert!(
        error(&[("tls_ca_file", empty)])
            .problem
            .contains("contains no certificate")
    );
    let keys = [("tls_verify", "off"), ("tls_cert_file", empty)];
    assert_eq!(error(&keys).key, "tls_key_file");
    let keys = [("tls_verify", "off"), ("tls_key_file", empty)];
    assert_eq!(error(&keys).key, "tls_cert_file");
    let keys = [
        ("tls_verify", "off"),
        ("tls_cert_file", empty),
        ("tls_key_file", "/no/such"),
    ];
    assert_eq!(error(&keys).key, "tls_cert_file");
    let encrypted = dir.path().join("encrypted.pem");
    let label = "ENCRYPTED PRIVATE KEY";
    let block = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    fs::write(&encrypted, block).unwrap();
    let pki = rig::pki::Pki::new();
    let certificate = pki.client().cert;
    let keys = [
        ("tls_verify", "off"),
        ("tls_cert_file", certificate.to_str().unwrap()),
        ("tls_key_file", encrypted.to_str().unwrap()),
    ];
    let refused = error(&keys);
    assert_eq!(refused.key, "tls_key_file");
    assert!(refused.problem.contains("is encrypted"), "{refused:?}");
    let keys = [("tls_verify", "off"), ("tls_server_name", "no name")];
    assert_eq!(error(&keys).key, "tls_server_name");
}

#[test]
fn pks_keys_mean_what_they_meant() {
    let pks = |keys: &[(&str, &str)]| {
        parse(&[&[("addr", "host:1"), ("instancename", "sink")], keys].concat())
    };
    let config = pks(&[
        ("cluster", "false"),
        ("namespace", "shop"),
        ("sanitizehost", "false"),
    ])
    .unwrap();
    assert!(matches!(config.targets[0].transport, Transport::Tcp));
    assert!(config.warnings[0].contains("plain text"));
    assert_eq!(config.instance_name.as_deref(), Some("sink"));
    assert!(!config.layout.sanitize_host);

    for tls in [
        r#"{"insecure_skip_verify":"true"}"#,
        r#"{"insecure_skip_verify":true}"#,
    ] {
        let config = pks(&[("tlsconfig", tls)]).unwrap();
        assert!(matches!(config.targets[0].transport, Transport::Tls(_)));
        assert!(config.warnings[0].contains("not verified"));
    }
    for tls in [
        "{",
        "[]",
        r#"{"ca":"x"}"#,
        r#"{"insecure_skip_verify":"maybe"}"#,
    ] {
        assert_eq!(pks(&[("tlsconfig", tls)]).unwrap_err().key, "tlsconfig");
    }
    let error = pks(&[("tlsconfig", r#"{"root_ca":"/no/such"}"#)]).unwrap_err();
    assert!(error.problem.starts_with("/no/such: "), "{error}");
}

#[test]
fn structured_data_is_that_of_the_rfc() {
    let config = parse_tcp(&[(
        "structured_data",
        r#"[origin@32473 ip="$ip" quote="\"\\\]"] [plain]"#,
    )])
    .unwrap();
    let elements = config.layout.structured_data;
    assert_eq!(elements[0].id.as_name().as_str(), "origin@32473");
    assert_eq!(elements[0].params.len(), 2);
    assert!(elements[1].params.is_empty());

    for wrong in [
        "origin",
        "[origin",
        "[]",
        "[a b]",
        "[a b=c]",
        "[a b=\"c]",
        "[a b=\"$\"]",
        "[a][a]",
        "[kubernetes@47450 x=\"y\"]",
        "[a\u{7} b=\"c\"]",
    ] {
        assert_eq!(
            parse_tcp(&[("structured_data", wrong)]).unwrap_err().key,
            "structured_data",
            "{wrong}"
        );
    }
    let keys = [
        ("structured_data", "[kubernetes@47450 x=\"y\"]"),
        ("kubernetes_structured_data", "off"),
    ];
    assert!(parse_tcp(&keys).is_ok());
}

#[test]
fn the_plugins_own_elements_are_reserved() {
    let problem = |keys: &[(&str, &str)]| parse_tcp(keys).unwrap_err().problem;
    let part = ("structured_data", "[part@47450 number=\"1\"]");
    let off = ("kubernetes_structured_data", "off");
    assert!(problem(&[part]).contains("\"part@47450\" is reserved"));
    assert!(problem(&[part, off]).contains("\"part@47450\" is reserved"));
    let kubernetes = ("structured_data", "[kubernetes@47450 x=\"y\"]");
    assert!(problem(&[kubernetes]).contains("set kubernetes_structured_data off"));
}

#[test]
fn an_sd_id_may_hold_the_token_of_a_service() {
    let id = |length: usize| format!("[{}@41058 tag=\"shop\"]", "t".repeat(length - 6));
    let parse = |length| parse_tcp(&[("structured_data", &id(length))]);
    assert!(parse(32).unwrap().warnings.is_empty());
    for length in [33, 42, 70, 128] {
        let config = parse(length).unwrap();
        let written = config.layout.structured_data[0].id;
        assert_eq!(written.as_name().as_str().len(), length);
        let [warning] = config.warnings.as_slice() else {
            panic!("{:?}", config.warnings);
        };
        let limits = format!("has {length} characters, RFC 5424 allows 32");
        assert!(warning.contains(&limits), "{warning}");
    }
    let error = parse(129).unwrap_err().problem;
    assert!(
        error.ends_with("has 129 characters, at most 128 are allowed"),
        "{error}"
    );
    let name = format!("[a@1 {}=\"x\"]", "n".repeat(33));
    let error = parse_tcp(&[("structured_data", &name)])
        .unwrap_err()
        .problem;
    assert!(
        error.ends_with("has 33 characters, at most 32 are allowed"),
        "{error}"
    );
}

#[test]
fn a_size_above_what_receivers_accept_is_a_warning() {
    let warnings = |size: &str, transport: &str| {
        let keys = [("max_message_size", size), ("transport", transport)];
        parse_tcp(&keys).unwrap().warnings
    };
    for transport in ["tcp", "relp"] {
        assert!(warnings("65536", transport).is_empty());
        let [warning] = &warnings("65537", transport)[..] else {
            panic!("{:?}", warnings("65537", transport));
        };
        for part in ["max_message_size 65537", "rsyslog 8096", "syslog-ng 65536"] {
            assert!(warning.contains(part), "{warning}");
        }
    }
    assert!(warnings("65507", "udp").is_empty());
}

#[test]
fn control_characters_matter_between_lines() {
    let escapes = |keys: &[(&str, &str)]| {
        let keys = [&[("control_characters", "escape")], keys].concat();
        let config = parse_tcp(&keys).unwrap();
        config.layout.control_characters == ControlCharacters::Escape
    };
    assert!(escapes(&[("framing", "newline")]));
    assert!(!escapes(&[]));
    assert!(!escapes(&[("framing", "newline"), ("transport", "relp")]));
    assert!(error(&[("control_characters", "drop")]).ends_with("space, escape"));
}

#[test]
fn a_long_value_is_shown_in_part() {
    let long = "x".repeat(1000);
    let error = error(&[("oversize", &long)]);
    assert!(error.len() < 300, "{error}");
}

/// Every key of the reference is one that there is, with its default, and the
/// other way round.
#[test]
fn the_reference_is_complete() {
    let reference = include_str!("../../../docs/CONFIGURATION.md");
    let rows: Vec<(&str, &str)> = reference
        .lines()
        .skip_while(|line| *line != "## All keys")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line
                .split('|')
                .skip(1)
                .map(|cell| cell.trim().trim_matches('`'));
            (cells.next().unwrap(), cells.next().unwrap())
        })
        .collect();
    let options: Vec<(&str, &str)> = OPTIONS
        .iter()
        .map(|option| (option.name, option.default))
        .collect();
    assert_eq!(rows, options);
}
