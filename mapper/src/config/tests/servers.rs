use super::*;

#[test]
fn addresses_have_a_host_and_an_optional_port() {
    for (servers, host, port) in [
        ("logs.example.com:1514", "logs.example.com", 1514),
        ("logs.example.com", "logs.example.com", 514),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("[::1]", "::1", 514),
    ] {
        let config = parse_tcp(&[("servers", servers)]).unwrap();
        let endpoint = &config.targets[0].servers[0];
        assert_eq!(
            (endpoint.host_name().as_str(), endpoint.port()),
            (host, port),
            "{servers}"
        );
    }
    for servers in [
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
        let error = error(&[("servers", servers)]);
        assert!(
            error.starts_with(&format!("servers {servers:?}: ")),
            "{error}"
        );
        assert!(
            error.contains("host:port or [IPv6 address]:port"),
            "{error}"
        );
    }
    assert!(
        parse(&[])
            .unwrap_err()
            .to_string()
            .starts_with("servers: missing")
    );
}

#[test]
fn several_servers_fail_over_or_balance() {
    let names = |target: &Target| -> Vec<String> {
        target.servers.iter().map(ToString::to_string).collect()
    };
    let servers = ("servers", "a:1, b , [::1]:3");
    let config = parse_tcp(&[servers]).unwrap();
    assert_eq!(config.targets.len(), 1);
    assert_eq!(names(&config.targets[0]), ["a:1", "b:514", "[::1]:3"]);

    let config = parse_tcp(&[servers, ("sharing", "balance")]).unwrap();
    let all: Vec<Vec<String>> = config.targets.iter().map(names).collect();
    assert_eq!(
        all,
        [
            ["a:1", "b:514", "[::1]:3"],
            ["b:514", "[::1]:3", "a:1"],
            ["[::1]:3", "a:1", "b:514"]
        ]
    );

    assert!(error(&[("servers", "a:1, b, a:1")]).contains("duplicate server a:1"));
    let many: Vec<String> = (1..18).map(|number| format!("host-{number}")).collect();
    assert!(error(&[("servers", &many.join(","))]).contains("too many servers (17), at most 16"));
    assert!(error(&[("sharing", "random")]).ends_with("failover, balance"));
}

#[test]
fn the_key_of_pks_names_servers_as_well() {
    let with = |servers| parse(&[("addr", servers), ("transport", "tcp")]);
    assert_eq!(with("a:1, b").unwrap().targets[0].servers.len(), 2);
    let error = with("a:x").unwrap_err().to_string();
    assert!(error.starts_with("addr \"a:x\": "), "{error}");
    let both = parse_tcp(&[("addr", "a:1")]).unwrap_err().to_string();
    assert!(both.contains("conflicts with servers"), "{both}");
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
        let mut keys = vec![("servers", "host"), ("transport", transport)];
        if transport.ends_with("tls") {
            keys.push(("tls_verify", "off"));
        }
        let config = parse(&keys).unwrap();
        assert_eq!(config.targets[0].servers[0].port(), port, "{transport}");
    }
}

#[test]
fn relp_has_a_window_and_no_replay_buffer() {
    let relp = |keys: &[(&str, &str)]| {
        let base = [
            ("servers", "host"),
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
