//! The selection of records by container, pod labels and stream.
//!
//! Selection is best effort, not an isolation boundary: a record that lacks the
//! selected property (no labels, no stream) is sent. The namespace check isolates
//! tenants; it comes first, in [`crate::message`].

mod labels;

pub use self::labels::{LabelSelector, LabelSelectorError};
use crate::chunk::Fields;
use crate::identity::Identity;

/// The records that an output sends; all records by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The names of the containers to include.
    pub containers: Option<NamePatterns>,
    /// The labels of the pods to include.
    pub pods: Option<LabelSelector>,
    /// The stream to include.
    pub stream: Option<Stream>,
    /// The names of the containers to exclude.
    pub excluded_containers: Option<NamePatterns>,
    /// The labels of the pods to exclude.
    pub excluded_pods: Option<LabelSelector>,
}

/// A stream that a container writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl Stream {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
        }
    }
}

impl Selection {
    /// Whether the selection includes a record.
    #[must_use]
    pub fn matches(&self, identity: Option<Identity<'_>>, fields: &Fields<'_>) -> bool {
        let Self {
            containers,
            pods,
            stream,
            excluded_containers,
            excluded_pods,
        } = self;
        let container = identity.map(|identity| identity.container);
        let container = container.filter(|container| !container.is_empty());
        // Each is `None` if the record does not have the property.
        let has_name = |names: &NamePatterns| container.map(|container| names.match_any(container));
        let has_labels =
            |selector: &LabelSelector| Some(selector.matches(fields.container.labels()?));
        let is_from = |stream: &Stream| Some(fields.stream? == stream.name());

        containers.as_ref().and_then(has_name) != Some(false)
            && pods.as_ref().and_then(has_labels) != Some(false)
            && stream.as_ref().and_then(is_from) != Some(false)
            && excluded_containers.as_ref().and_then(has_name) != Some(true)
            && excluded_pods.as_ref().and_then(has_labels) != Some(true)
    }
}

/// Patterns of container names, in which `*` matches any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePatterns(Vec<String>);

impl NamePatterns {
    /// Parses a comma-separated list of patterns.
    ///
    /// # Errors
    ///
    /// Returns a text that names the first invalid pattern, if there is one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-*".contains(&byte);
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match names
            .iter()
            .find(|name| !(1..=63).contains(&name.len()) || !name.bytes().all(is_allowed))
        {
            None => Ok(Self(names)),
            Some(name) => Err(format!(
                "invalid name {name:?}, expected container names separated by commas (each 1 to 63 \
                 characters of a-z, 0-9 and -, * for any characters)"
            )),
        }
    }

    fn match_any(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches_pattern(pattern, name))
    }
}

/// Whether a name matches a pattern, in which `*` matches any number of characters.
#[must_use]
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Matching each part as early as possible leaves the most room for the others.
    for part in middle.split('*') {
        let Some(at) = name.find(part) else {
            return false;
        };
        name = &name[at + part.len()..];
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use rig::event::{event, map};

    use super::*;
    use crate::chunk::{LogEvent, LogEvents};

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("web", "web", true),
            ("web", "web-1", false),
            ("*", "", true),
            ("*", "web", true),
            ("web-*", "web-1", true),
            ("web-*", "web", false),
            ("*-proxy", "istio-proxy", true),
            ("*-proxy", "proxy", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(
            NamePatterns::parse("a, b-*").unwrap(),
            NamePatterns(vec!["a".to_owned(), "b-*".to_owned()])
        );
        for text in ["", "a,", "a b", "Web", "a_b", "é"] {
            assert!(NamePatterns::parse(text).is_err(), "{text:?}");
        }
    }

    fn matches(selection: &Selection, container: &str, app: Option<&str>, stream: &str) -> bool {
        let mut entries = vec![("log", "x".into()), ("stream", stream.into())];
        if let Some(app) = app {
            let labels = map(vec![("app", app.into())]);
            entries.push(("kubernetes", map(vec![("labels", labels)])));
        }
        let chunk = event(0, 0, map(entries));
        let Some(LogEvent::Record(record)) = LogEvents::new(&chunk, b"log").next() else {
            unreachable!("the chunk is a single record")
        };
        let identity = Identity {
            namespace: "shop",
            pod: "web-0",
            container,
        };
        selection.matches(Some(identity), &record.fields)
    }

    #[test]
    fn a_selection_matches_included_records_that_are_not_excluded() {
        let names = |text| Some(NamePatterns::parse(text).unwrap());
        let pods = |text| Some(LabelSelector::parse(text).unwrap());
        let all = Selection::default();
        assert!(matches(&all, "web", None, "stdout"));

        let including = Selection {
            containers: names("web,db"),
            pods: pods("app=shop"),
            stream: Some(Stream::Stderr),
            ..Selection::default()
        };
        assert!(matches(&including, "db", Some("shop"), "stderr"));
        assert!(!matches(&including, "proxy", Some("shop"), "stderr"));
        assert!(!matches(&including, "db", Some("other"), "stderr"));
        assert!(!matches(&including, "db", Some("shop"), "stdout"));

        let excluding = Selection {
            excluded_containers: names("*-proxy"),
            excluded_pods: pods("app in (noise, more-noise)"),
            ..Selection::default()
        };
        assert!(matches(&excluding, "web", Some("shop"), "stdout"));
        assert!(!matches(&excluding, "istio-proxy", Some("shop"), "stdout"));
        assert!(!matches(&excluding, "web", Some("noise"), "stdout"));
    }

    #[test]
    fn a_selection_matches_records_with_unknown_properties() {
        let selection = Selection {
            containers: Some(NamePatterns::parse("web").unwrap()),
            pods: Some(LabelSelector::parse("app=shop").unwrap()),
            excluded_pods: Some(LabelSelector::parse("!team").unwrap()),
            ..Selection::default()
        };
        // A record without the labels that the kubernetes filter adds.
        assert!(matches(&selection, "web", None, "stdout"));
        assert!(selection.matches(None, &Fields::default()));
    }
}
