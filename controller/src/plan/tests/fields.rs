//! Conditions name the fields of the resource, whatever the plugin's parser reports.

use mapper::config::OPTIONS;
use serde_json::{Value as Json, json};

use super::*;

/// Returns an invalid value for each field that has any, and the beginning of the
/// message.
fn bad_values() -> Vec<(Json, &'static str)> {
    let selector = |text: &str| json!({"matchLabels": {"app": text}});
    let secret = |name: &str| json!({"name": name});
    vec![
        (json!({"host": "a b"}), "host \"a b\": "),
        (json!({"port": 0}), "port \"0\": "),
        (
            json!({"host": null, "servers": [{"host": "a"}, {"host": "b,c"}]}),
            "servers[1].host \"b,c\": ",
        ),
        (
            json!({"host": null, "servers": [{"host": "a", "port": 0}]}),
            "servers[0].port \"0\": ",
        ),
        // Names that only the plugin rejects.
        (json!({"host": "-"}), "host \"-:6514\": "),
        (
            json!({"host": null, "servers": [{"host": "a"}, {"host": "a"}]}),
            "servers \"a:6514,a:6514\": ",
        ),
        (
            json!({"tls": {"serverName": "a b"}}),
            "tls.serverName \"a b\": ",
        ),
        (json!({"tls": {"pins": ["ab"]}}), "tls.pins \"ab\": "),
        (json!({"tls": {"ca": {"pem": "x"}}}), "tls.ca.pem "),
        (
            json!({"tls": {"ca": {"secret": secret("A/B")}}}),
            "tls.ca.secret \"A/B\": ",
        ),
        (
            json!({"tls": {"ca": {"secret": secret("none")}}}),
            "tls.ca.secret: ",
        ),
        (
            json!({"tls": {"ca": {"configMap": secret("none")}}}),
            "tls.ca.configMap: ",
        ),
        (
            json!({"tls": {"clientCertificateSecret": "none"}}),
            "tls.clientCertificateSecret: ",
        ),
        (
            json!({"selection": {"containers": ["a b"]}}),
            "selection.containers \"a b\": ",
        ),
        (
            json!({"selection": {"podSelector": selector("a b")}}),
            "selection.podSelector \"a b\": ",
        ),
        (
            json!({"selection": {"exclude": {"containers": ["a b"]}}}),
            "selection.exclude.containers \"a b\": ",
        ),
        (
            json!({"selection": {"exclude": {"podSelector": selector("a b")}}}),
            "selection.exclude.podSelector \"a b\": ",
        ),
        (
            json!({"format": {"facility": "none"}}),
            "format.facility \"none\": ",
        ),
        (
            json!({"format": {"severity": "none"}}),
            "format.severity \"none\": ",
        ),
        (
            json!({"format": {"hostname": "$"}}),
            "format.hostname \"$\": ",
        ),
        (
            json!({"format": {"appName": "$"}}),
            "format.appName \"$\": ",
        ),
        (json!({"format": {"procid": "$"}}), "format.procid \"$\": "),
        (json!({"format": {"msgid": "$"}}), "format.msgid \"$\": "),
        (
            json!({"format": {"message": "$"}}),
            "format.message \"$\": ",
        ),
        (
            json!({"format": {"structuredData": "[a"}}),
            "format.structuredData \"[a\": ",
        ),
        (json!({"maxMessageSize": 10}), "maxMessageSize \"10\": "),
        (json!({"bufferLimit": "1\n"}), "bufferLimit \"1\\n\": "),
    ]
}

/// Returns whether a text contains a key of the plugin. A key that is an ordinary word,
/// such as `message`, cannot be distinguished from text.
fn has_key(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words = text.split(|c| !is_word(c));
    let is_key = |word: &str| {
        let is_telling = word.contains('_') || matches!(word, "addr" | "tlsconfig");
        is_telling && OPTIONS.iter().any(|option| option.name == word)
    };
    words.any(is_key)
}

#[test]
fn a_condition_names_the_field_and_no_plugin_key() {
    for (bad, begin) in bad_values() {
        let mut value = json!({"host": "logs.example.com"});
        let fields = value.as_object_mut().unwrap();
        fields.extend(bad.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        let known = snapshot(vec![("shop", "bad", spec(value.clone()))]);
        let message = refusal(&plan(&known), "shop", "bad").message;
        assert!(message.starts_with(begin), "{value}: {message}");
        assert!(!has_key(&message), "{message}");
    }
}

#[test]
fn every_field_sets_an_existing_key() {
    for field in crate::plan::fields::FIELDS {
        let mut options = OPTIONS.iter();
        assert!(options.any(|option| option.name == field.key), "{field:?}");
    }
}
