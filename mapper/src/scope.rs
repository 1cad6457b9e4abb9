//! The pods whose records an output of the whole cluster sends.
//!
//! Unlike a selection, the scope is not best effort: a record without an identity is not sent
//! by an output that has only some namespaces.

use std::collections::BTreeSet;

use crate::identity::Identity;
use crate::selection::matches_pattern;

/// The pods whose records an output sends; all pods by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The only namespaces, if not all are included.
    pub namespaces: Option<BTreeSet<String>>,
    /// The namespaces that are excluded.
    pub excluded_namespaces: BTreeSet<String>,
    /// The pods that are excluded.
    pub excluded_pods: Vec<PodPattern>,
}

/// The pods of a namespace whose names match a pattern, in which `*` matches any number of
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPattern {
    namespace: String,
    pod: String,
}

impl Scope {
    /// Whether the scope includes all records.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the scope includes a record with this identity.
    #[must_use]
    pub fn contains(&self, identity: Option<Identity<'_>>) -> bool {
        let Some(Identity { namespace, pod, .. }) = identity else {
            return self.namespaces.is_none();
        };
        let only = self.namespaces.as_ref();
        only.is_none_or(|only| only.contains(namespace))
            && !self.excluded_namespaces.contains(namespace)
            && !self.excluded_pods.iter().any(|excluded| {
                excluded.namespace == namespace && matches_pattern(&excluded.pod, pod)
            })
    }
}

/// Parses namespaces, separated by commas.
///
/// # Errors
///
/// Returns a text that names the first invalid name, and what is expected.
pub(crate) fn namespaces(text: &str) -> Result<BTreeSet<String>, String> {
    let names = text.split(',').map(str::trim);
    let is_label = |name: &&str| is_name(name, b"-") && name.len() <= 63;
    match names.clone().find(|name| !is_label(name)) {
        None => Ok(names.map(str::to_owned).collect()),
        Some(name) => Err(format!(
            "invalid namespace {name:?}, expected names of namespaces separated by commas"
        )),
    }
}

/// Parses patterns of pods, separated by commas.
///
/// # Errors
///
/// Returns a text that names the first invalid pattern, and what is expected.
pub(crate) fn pods(text: &str) -> Result<Vec<PodPattern>, String> {
    let pattern = |text: &str| {
        let (namespace, pod) = text.split_once('/')?;
        let is_valid = is_name(namespace, b"-") && is_name(pod, b"-.*");
        is_valid.then(|| PodPattern {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        })
    };
    let patterns = text.split(',').map(str::trim);
    let parsed = patterns.map(|text| {
        pattern(text).ok_or_else(|| {
            format!(
                "invalid pod {text:?}, expected <namespace>/<pod> separated by commas, with * for \
                 any characters of the pod's name"
            )
        })
    });
    parsed.collect()
}

/// Whether a text has only lowercase letters, digits and these characters.
fn is_name(text: &str, others: &[u8]) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(scope: &Scope, namespace: &str, pod: &str) -> bool {
        scope.contains(Some(Identity {
            namespace,
            pod,
            container: "app",
        }))
    }

    #[test]
    fn namespaces_and_pods_are_included_and_excluded() {
        let all = Scope::default();
        assert!(all.is_everything() && is_in(&all, "shop", "web") && all.contains(None));
        let only = Scope {
            namespaces: Some(namespaces("shop, bank").unwrap()),
            ..Scope::default()
        };
        assert!(is_in(&only, "bank", "db") && !is_in(&only, "other", "db"));
        assert!(!only.contains(None));
        let but = Scope {
            excluded_namespaces: namespaces("shop").unwrap(),
            excluded_pods: pods("logging/agent-*,bank/db").unwrap(),
            ..Scope::default()
        };
        for (namespace, pod, expected) in [
            ("shop", "web", false),
            ("bank", "db", false),
            ("bank", "db-1", true),
            ("logging", "agent-x7", false),
            ("other", "agent-x7", true),
        ] {
            assert_eq!(is_in(&but, namespace, pod), expected, "{namespace}/{pod}");
        }
    }

    #[test]
    fn invalid_names_are_refused() {
        assert!(namespaces("a,B").unwrap_err().contains("\"B\""));
        assert!(namespaces("a,").unwrap_err().contains("\"\""));
        for invalid in ["agent", "a/", "a*/b", "a/b/c"] {
            assert!(pods(invalid).unwrap_err().contains(invalid), "{invalid}");
        }
    }
}
