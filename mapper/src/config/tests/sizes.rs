use super::*;

#[test]
fn sizes_and_durations_are_bounded() {
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
        assert!(error.contains("between 1024 and 16777216 bytes"), "{error}");
    }
    for (size, bytes) in [("1024", 1024), ("64k", 64_000), ("1M", 1_000_000)] {
        let config = parse_tcp(&[("max_message_size", size)]).unwrap();
        assert_eq!(config.layout.max_message_size, bytes);
    }
    for span in ["0", "-1s", "61m", "1h", "soon", "99999999999s"] {
        let error = error(&[("connect_timeout", span)]);
        assert!(error.contains("between 1ms and 60m"), "{error}");
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
fn the_queue_limit_is_bounded() {
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
        assert!(
            error.contains("must be between 50M and 1000G bytes"),
            "{error}"
        );
    }
}

#[test]
fn the_datagram_limit_depends_on_the_address_family() {
    let size = |servers, size| {
        let keys = [
            ("servers", servers),
            ("transport", "udp"),
            ("max_message_size", size),
        ];
        parse(&keys).map(|config| config.layout.max_message_size)
    };
    assert_eq!(size("host", "").unwrap(), 1180);
    assert_eq!(size("host", "65507").unwrap(), 65_507);
    assert_eq!(size("[::1]", "65527").unwrap(), 65_527);
    for servers in ["host", "10.0.0.1", "[::1], 10.0.0.1"] {
        let error = size(servers, "65508").unwrap_err().to_string();
        assert!(error.contains("between 1024 and 65507 bytes"), "{error}");
    }
}

#[test]
fn a_size_above_receivers_defaults_logs_a_warning() {
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
