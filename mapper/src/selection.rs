//! Which of the records that an output may send it sends.
//!
//! A selection is a wish, not a fence: where it is not known whether a record
//! is meant (no labels, no stream), the record is sent.

mod labels;

pub use self::labels::{LabelSelector, LabelSelectorError};
use crate::chunk::Fields;
use crate::identity::Identity;

/// What an output sends; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only containers with one of these names.
    pub containers: Option<NamePatterns>,
    /// Only pods with such labels.
    pub pods: Option<LabelSelector>,
    /// Only this stream.
    pub stream: Option<Stream>,
    /// No containers with one of these names.
    pub excluded_containers: Option<NamePatterns>,
    /// No pods with such labels.
    pub excluded_pods: Option<LabelSelector>,
}

/// What a container writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
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
    /// Whether a record is sent.
    #[must_use]
    pub fn takes(&self, identity: Option<Identity<'_>>, fields: &Fields<'_>) -> bool {
        let Self {
            containers,
            pods,
            stream,
            excluded_containers,
            excluded_pods,
        } = self;
        let container = identity.map(|identity| identity.container);
        let container = container.filter(|container| !container.is_empty());
        let named = |names: &NamePatterns| container.map(|container| names.contain(container));
        let labelled = |selector: &LabelSelector| Some(selector.matches(fields.metadata.labels()?));
        let is_from = |stream: &Stream| Some(fields.stream? == stream.name());

        containers.as_ref().and_then(named) != Some(false)
            && pods.as_ref().and_then(labelled) != Some(false)
            && stream.as_ref().and_then(is_from) != Some(false)
            && excluded_containers.as_ref().and_then(named) != Some(true)
            && excluded_pods.as_ref().and_then(labelled) != Some(true)
    }
}

/// Patterns of names, in which a `*` stands for any characters or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePatterns(Vec<String>);

impl NamePatterns {
    /// Reads names with commas between them.
    ///
    /// # Errors
    ///
    /// Says what is not the name of a container.
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
                "has {name:?}, allowed are names of containers (at most 63 characters of a-z, 0-9 \
                 and -, * for any characters) with commas between them"
            )),
        }
    }

    fn contain(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches_pattern(pattern, name))
    }
}

/// Whether a name is like this, where a `*` stands for any characters or none.
#[must_use]
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place for each part leaves the most room for those behind it.
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
    fn names_and_patterns() {
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

    fn takes(selection: &Selection, container: &str, labels: Option<&str>, stream: &str) -> bool {
        let mut entries = vec![("log", "x".into()), ("stream", stream.into())];
        if let Some(app) = labels {
            let labels = map(vec![("app", app.into())]);
            entries.push(("kubernetes", map(vec![("labels", labels)])));
        }
        let chunk = event(0, 0, map(entries));
        let Some(LogEvent::Record(record)) = LogEvents::new(&chunk, b"log").next() else {
            unreachable!("it is one")
        };
        let identity = Identity {
            namespace: "shop",
            pod: "web-0",
            container,
        };
        selection.takes(Some(identity), &record.fields)
    }

    #[test]
    fn what_is_selected_and_not_excluded_is_sent() {
        let names = |text| Some(NamePatterns::parse(text).unwrap());
        let pods = |text| Some(LabelSelector::parse(text).unwrap());
        let everything = Selection::default();
        assert!(takes(&everything, "web", None, "stdout"));

        let some = Selection {
            containers: names("web,db"),
            pods: pods("app=shop"),
            stream: Some(Stream::Stderr),
            ..Selection::default()
        };
        assert!(takes(&some, "db", Some("shop"), "stderr"));
        assert!(!takes(&some, "proxy", Some("shop"), "stderr"));
        assert!(!takes(&some, "db", Some("other"), "stderr"));
        assert!(!takes(&some, "db", Some("shop"), "stdout"));

        let others = Selection {
            excluded_containers: names("*-proxy"),
            excluded_pods: pods("app in (noise, more-noise)"),
            ..Selection::default()
        };
        assert!(takes(&others, "web", Some("shop"), "stdout"));
        assert!(!takes(&others, "istio-proxy", Some("shop"), "stdout"));
        assert!(!takes(&others, "web", Some("noise"), "stdout"));
    }

    #[test]
    fn what_nobody_knows_is_sent() {
        let some = Selection {
            containers: Some(NamePatterns::parse("web").unwrap()),
            pods: Some(LabelSelector::parse("app=shop").unwrap()),
            excluded_pods: Some(LabelSelector::parse("!team").unwrap()),
            ..Selection::default()
        };
        // Without the kubernetes filter's labels.
        assert!(takes(&some, "web", None, "stdout"));
        assert!(some.takes(None, &Fields::default()));
    }
}
