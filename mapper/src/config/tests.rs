mod servers;
mod sizes;
mod structured_data;
mod tls;

use std::collections::HashMap;

use super::*;

struct Keys(HashMap<String, String>);

impl Properties for Keys {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }
}

/// Parses keys, with `cluster on` unless they include `cluster`.
fn parse(keys: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let keys = [&[("cluster", "on")], keys].concat();
    let keys = keys
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Config::parse(&Keys(keys))
}

/// Parses keys with an address and plain TCP, which needs no files.
fn parse_tcp(keys: &[(&str, &str)]) -> Result<Config, ConfigError> {
    parse(&[&[("servers", "localhost:514"), ("transport", "tcp")], keys].concat())
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
fn errors_list_the_allowed_keywords() {
    assert_eq!(
        error(&[("transport", "sctp")]),
        r#"transport "sctp": unknown value, must be one of tls, tcp, udp, relp, relp+tls"#
    );
    assert_eq!(
        error(&[("framing", "lf")]),
        r#"framing "lf": unknown value, must be one of octet-counting, newline"#
    );
    assert!(error(&[("oversize", "x")]).ends_with("split, truncate, drop"));
    assert!(error(&[("bom", "maybe")]).ends_with("must be on or off"));
    assert!(error(&[("facility", "local8")]).contains("local7"));
    assert!(error(&[("severity", "loud")]).contains("warning"));
}

#[test]
fn sending_all_namespaces_requires_an_explicit_setting() {
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
    // Fluent Bit passes an unset variable as an absent key.
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
    assert!(error(&[("namespace", "shop"), ("cluster", "true")]).contains("conflicts"));
    let none = [("namespace", "shop"), ("identity", "none")];
    let error = namespace(&none).unwrap_err().to_string();
    assert!(error.contains("conflicts with identity none"), "{error}");
}

#[test]
fn an_empty_value_counts_as_absent() {
    let config = parse_tcp(&[
        ("tls_ca_file", ""),
        ("hostname", ""),
        ("max_message_size", ""),
    ]);
    assert_eq!(config.unwrap().layout.max_message_size, 8000);
}

#[test]
fn pks_keys_keep_their_meaning() {
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
    assert!(config.warnings[0].contains("unencrypted"));
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
fn control_characters_are_escaped_with_newline_framing_only() {
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
fn an_error_truncates_a_long_value() {
    let long = "x".repeat(1000);
    let error = error(&[("oversize", &long)]);
    assert!(error.len() < 300, "{error}");
}

/// The table of `docs/CONFIGURATION.md` has the same keys and defaults as
/// [`OPTIONS`], in the same order.
#[test]
fn the_reference_lists_all_keys_and_defaults() {
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
