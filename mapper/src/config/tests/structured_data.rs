use super::*;

#[test]
fn structured_data_has_the_syntax_of_rfc_5424() {
    let config = parse_tcp(&[(
        "structured_data",
        r#"[origin@32473 ip="$ip" quote="\"\\\]"] [plain]"#,
    )])
    .unwrap();
    let elements = config.layout.structured_data;
    assert_eq!(elements[0].id.as_name().as_str(), "origin@32473");
    assert_eq!(elements[0].params.len(), 2);
    assert!(elements[1].params.is_empty());

    for invalid in [
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
            parse_tcp(&[("structured_data", invalid)]).unwrap_err().key,
            "structured_data",
            "{invalid}"
        );
    }
    let keys = [
        ("structured_data", "[kubernetes@47450 x=\"y\"]"),
        ("kubernetes_structured_data", "off"),
    ];
    assert!(parse_tcp(&keys).is_ok());
}

#[test]
fn the_plugins_own_sd_ids_are_reserved() {
    let problem = |keys: &[(&str, &str)]| parse_tcp(keys).unwrap_err().problem;
    let part = ("structured_data", "[part@47450 number=\"1\"]");
    let off = ("kubernetes_structured_data", "off");
    assert!(problem(&[part]).contains("\"part@47450\" is reserved"));
    assert!(problem(&[part, off]).contains("\"part@47450\" is reserved"));
    let kubernetes = ("structured_data", "[kubernetes@47450 x=\"y\"]");
    assert!(problem(&[kubernetes]).contains("set kubernetes_structured_data off"));
}

#[test]
fn a_long_sd_id_is_accepted_with_a_warning() {
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
