//! All layouts of a message: the options that change its format, and records that make
//! use of them.

use rig::event::{container_tag, event, map};
use rmpv::Value;

use crate::line;

/// The options of an output.
pub type Options = Vec<(&'static str, &'static str)>;

/// Returns texts that a container may write.
fn texts() -> Vec<Value> {
    let mut texts: Vec<Value> = [
        "hello",
        "",
        " ",
        "-",
        "<13>1 - - - - - - forged",
        "42 <13>1 - - - - - - forged",
        "one\ntwo\n<13>1 - - - - - - three",
        "\u{feff}with a byte order mark",
        "[x@1 a=\"b\"] \"quoted\" \\ ]",
        "\0\u{1}\t\r\u{1b}[31m\u{7f}",
        "caf\u{e9} \u{65e5}\u{672c}\u{8a9e} \u{1f600}",
        "{\"level\":\"error\",\"msg\":\"x\"}",
    ]
    .map(Value::from)
    .to_vec();
    texts.push("0123456789 \u{20ac}".repeat(2_000).into());
    texts.push(Value::Binary(b"caf\xe9 \xff\xfe\x80".to_vec()));
    texts.push(Value::Nil);
    texts.push(Value::from(42));
    texts
}

/// Returns labels whose keys and values are not valid in RFC 5424.
fn labels() -> Vec<(&'static str, Value)> {
    vec![
        ("app", "web".into()),
        ("app.kubernetes.io/name", "shop".into()),
        ("empty", "".into()),
        ("quote", "a\"b".into()),
        ("bracket", "a]b[c".into()),
        ("backslash", "a\\b\\".into()),
        ("newline", "a\r\nb\0c".into()),
        ("non-ascii", "caf\u{e9} \u{1f600}".into()),
        ("bytes", Value::Binary(b"\xff\xfe".to_vec())),
        ("a key", "space".into()),
        ("key=value", "equals".into()),
        ("key]", "bracket".into()),
        ("\"key\"", "quotes".into()),
        ("cl\u{e9}", "non-ASCII".into()),
        ("", "no name".into()),
        (
            "example.com/a-key-of-more-than-32-characters",
            "long".into(),
        ),
        ("namespace_name", "forged".into()),
        ("object_name", "forged".into()),
        ("container_name", "forged".into()),
        ("vm_id", "forged".into()),
        ("number", 7.into()),
        ("map", map(vec![("a", "b".into())])),
        ("long", "v".repeat(5_000).into()),
    ]
}

/// Returns records of a container, of an event, and of another tag.
#[must_use]
pub fn chunks() -> Vec<(String, Vec<u8>)> {
    let kubernetes = map(vec![
        ("host", "node-1.example.com".into()),
        ("pod_name", "web-0".into()),
        ("namespace_name", "shop".into()),
        ("container_name", "nginx".into()),
        ("labels", map(labels())),
    ]);
    let body = |text: Value| {
        map(vec![
            ("log", text),
            ("stream", "stderr".into()),
            ("level", "warning".into()),
            ("time", "2020-01-02T03:04:05.5+01:00".into()),
            ("ip", "10.0.0.1 \"]\\".into()),
            ("cluster_name", "Prod \u{e9}_1".into()),
            ("vm_id", "vm \"7\"".into()),
            ("kubernetes", kubernetes.clone()),
        ])
    };
    let tag = container_tag("shop", "web-0", "nginx");
    let records = texts().into_iter().map(body).chain([
        line("without labels"),
        map(vec![]),
        map(vec![("message", "another key".into())]),
        map(vec![(
            "a",
            map(vec![("b", Value::Array(vec![1.into(), Value::Nil]))]),
        )]),
    ]);
    let bytes = records.flat_map(|record| event(1_772_366_400, 123_456_789, record));
    let moments = [(0, 0), (1, 999_999_999), (u32::MAX, 1_000)];
    let times = moments.map(|(seconds, nanos)| event(seconds, nanos, line("a moment")));
    let container = bytes.chain(times.concat()).collect();
    let other = || event(1, 0, body("of another tag".into()));
    vec![
        (tag, container),
        ("k8s.event.shop".to_owned(), other()),
        ("app.audit".to_owned(), other()),
        ("a tag \u{e9}".to_owned(), other()),
        ("t".repeat(300), other()),
    ]
}

/// Returns the options that change a message's format.
#[must_use]
pub fn layouts() -> Vec<Options> {
    let all_templates = vec![
        ("facility", "local3"),
        ("severity", "$level"),
        ("timestamp", "$time"),
        ("hostname", "Host_$ip"),
        ("app_name", "$TAG/$log"),
        ("procid", "$log"),
        ("msgid", "$log"),
        ("message", "$kubernetes $log ($missing ?? 'nothing')"),
        (
            "structured_data",
            "[origin@32473 ip=\"$ip\" log=\"$log\"][empty@1 a=\"$missing\"]",
        ),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&all_templates, more].concat();
    let one = |key, value| vec![(key, value)];
    vec![
        vec![],
        one("bom", "on"),
        one("kubernetes_structured_data", "off"),
        one("structured_data", "[origin@32473 ip=\"$ip\"]"),
        vec![
            ("structured_data", "[origin@32473 ip=\"$ip\"]"),
            ("kubernetes_structured_data", "off"),
        ],
        one("severity", "stream"),
        one("timestamp", "$missing"),
        one("identity", "record"),
        one("identity", "none"),
        one("sanitizehost", "off"),
        one("message_key", "ip"),
        one("message", "$missing"),
        one("max_message_size", "1024"),
        vec![("max_message_size", "1024"), ("oversize", "truncate")],
        vec![("max_message_size", "1024"), ("oversize", "drop")],
        vec![("max_message_size", "1024"), ("bom", "on")],
        vec![("oversize", "truncate"), ("bom", "on")],
        vec![
            ("instancename", "sink-1"),
            ("namespace", "shop"),
            ("sanitizehost", "on"),
        ],
        all_templates.clone(),
        with(&[("bom", "on")]),
        with(&[("max_message_size", "1024")]),
        with(&[("kubernetes_structured_data", "off"), ("oversize", "drop")]),
    ]
}
