//! Label selectors in the one-line syntax of Kubernetes:
//! `app=shop,tier in (web, db),!canary`.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::chunk::{Map, Value};

/// A Kubernetes label selector: requirements that a pod's labels must all meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    /// As in Kubernetes, labels without the key meet this requirement.
    NotIn(BTreeSet<String>),
}

/// An invalid requirement in a label selector.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "invalid requirement {0:?}, expected key, !key, key=value, key!=value, key in (a, b) or key \
     notin (a, b), separated by commas"
)]
pub struct LabelSelectorError(String);

impl LabelSelector {
    /// Parses a selector.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first invalid requirement, if there is one.
    pub fn parse(text: &str) -> Result<Self, LabelSelectorError> {
        let requirements = split(text).map(|part| {
            let part = part.trim();
            requirement(part).ok_or_else(|| LabelSelectorError(part.to_owned()))
        });
        requirements.collect::<Result<_, _>>().map(Self)
    }

    /// Whether these labels meet all requirements.
    #[must_use]
    pub fn matches(&self, labels: Map<'_>) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let value = match labels.get(key.as_bytes()) {
                Some(Value::Text(value)) => Some(String::from_utf8_lossy(value)),
                _ => None,
            };
            match (test, value) {
                (Test::Exists, value) => value.is_some(),
                (Test::Absent, value) => value.is_none(),
                (Test::In(values), Some(value)) => values.contains(value.as_ref()),
                (Test::NotIn(values), Some(value)) => !values.contains(value.as_ref()),
                (Test::In(_), None) => false,
                (Test::NotIn(_), None) => true,
            }
        })
    }
}

/// Splits a selector at the commas that are not in parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut is_open = false;
    text.split(move |character| {
        match character {
            '(' => is_open = true,
            ')' => is_open = false,
            _ => {}
        }
        character == ',' && !is_open
    })
}

fn requirement(text: &str) -> Option<Requirement> {
    let make = |key: &str, test| {
        let key = key.trim();
        is_key(key).then(|| Requirement {
            key: key.to_owned(),
            test,
        })
    };
    if let Some(key) = text.strip_prefix('!') {
        return make(key, Test::Absent);
    }
    if let Some((key, value)) = text.split_once("!=") {
        return make(key, Test::NotIn(values(value)?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return make(key, Test::In(values(value)?));
    }
    let Some((key, set)) = text.split_once([' ', '\t']) else {
        return make(text, Test::Exists);
    };
    let set = set.trim_start();
    let (test, set): (fn(_) -> _, _) = match set.strip_prefix("notin") {
        Some(set) => (Test::NotIn, set),
        None => (Test::In, set.strip_prefix("in")?),
    };
    let set = set.trim().strip_prefix('(')?.strip_suffix(')')?;
    make(key, test(values(set)?))
}

fn values(text: &str) -> Option<BTreeSet<String>> {
    let values: BTreeSet<String> = text.split(',').map(|v| v.trim().to_owned()).collect();
    // An empty value is valid.
    let is_valid = |value: &String| value.len() <= 63 && value.bytes().all(is_label_byte);
    values.iter().all(is_valid).then_some(values)
}

/// Whether a text is a label key: a name with an optional domain prefix.
fn is_key(key: &str) -> bool {
    let (domain, name) = key.rsplit_once('/').unwrap_or(("a", key));
    (1..=63).contains(&name.len())
        && (1..=253).contains(&domain.len())
        && name.bytes().all(is_label_byte)
        && domain.bytes().all(is_label_byte)
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use rig::event::{event, map};

    use super::*;
    use crate::chunk::{LogEvent, LogEvents};

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| (*k, (*v).into())).collect();
        let record = map(vec![("kubernetes", map(vec![("labels", map(labels))]))]);
        let chunk = event(0, 0, record);
        let Some(LogEvent::Record(record)) = LogEvents::new(&chunk, b"log").next() else {
            unreachable!("the chunk is a single record")
        };
        let labels = record.fields.container.labels().unwrap();
        LabelSelector::parse(selector).unwrap().matches(labels)
    }

    #[test]
    fn requirements_match_as_in_kubernetes() {
        let labels = [("app", "shop"), ("tier", "web"), ("example.com/empty", "")];
        for (selector, expected) in [
            ("app", true),
            ("!app", false),
            ("other", false),
            ("!other", true),
            ("app=shop", true),
            ("app==shop", true),
            ("app = shop", true),
            ("app=other", false),
            ("app!=shop", false),
            ("app!=other", true),
            ("other!=x", true),
            ("other=x", false),
            ("tier in (web, db)", true),
            ("tier in (db)", false),
            ("tier notin (web,db)", false),
            ("other notin (web)", true),
            ("example.com/empty=", true),
            ("app=shop,tier in (web,db),!other", true),
            ("app=shop,tier in (web,db),other", false),
        ] {
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn an_error_lists_the_valid_requirements() {
        for selector in [
            "",
            "app=shop,",
            "a b",
            "a in b",
            "a in (b",
            "a in b)",
            "=x",
            "a=b=c",
            "a=b c",
            "!",
            "a/b/c/d e",
            "/a",
        ] {
            let error = LabelSelector::parse(selector).unwrap_err();
            assert!(error.to_string().contains("key in (a, b)"), "{selector:?}");
        }
    }
}
