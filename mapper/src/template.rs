//! Templates: texts with Fluent Bit record accessors.
//!
//! ```text
//! $log                          the record's key `log`
//! $kubernetes['labels']['app']  a key of a nested map
//! $list[0]                      an element of an array
//! $TAG, $TAG[1]                 the tag, or its part after the first dot
//! pod/$kubernetes['pod_name']   text and accessors combined
//! $level ?? $lvl ?? 'info'      the first that the record has, or else the default
//! $$                            a dollar sign
//! ```

use thiserror::Error;

use crate::chunk::json::push_json;
use crate::chunk::{Map, Value};
use crate::identity::Identity;

/// A parsed template, whose accessors take their values from a record.
///
/// ```
/// use mapper::chunk::Value;
/// use mapper::chunk::msgpack;
/// use mapper::template::{Template, TemplateContext};
///
/// // {"log": "hello"} in msgpack.
/// let (Value::Map(record), _) = msgpack::read(b"\x81\xa3log\xa5hello").unwrap() else {
///     unreachable!()
/// };
/// let context = TemplateContext {
///     record,
///     kubernetes: None,
///     tag: "app.audit",
///     identity: None,
/// };
///
/// let mut text = Vec::new();
/// let template = Template::parse("[$level ?? 'info'] $TAG[1]: $log")?;
/// assert!(template.render(&context, &mut text));
/// assert_eq!(text, b"[info] audit: hello");
///
/// // The record has no key `level`, and the template has no default.
/// assert!(!Template::parse("$level")?.render(&context, &mut text));
/// # Ok::<(), mapper::template::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Alternatives, the first of which that has a value is rendered.
    Choice(Vec<Source>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Path(Vec<Segment>),
    Tag,
    /// A part of the tag, counted from zero.
    TagPart(usize),
    /// The namespace, pod or container: from the identity if there is one, else
    /// from the record.
    Identity(Name, Vec<Segment>),
    Default(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Namespace,
    Pod,
    Container,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Key(String),
    Index(usize),
}

/// A syntax error in a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// A dollar sign is not followed by a key.
    #[error("no key follows the '$' at byte {0}; write '$$' for a dollar sign")]
    NoKey(usize),
    /// A bracket is not closed, or contains neither a quoted key nor a number.
    #[error("the '[' at byte {0} must be followed by a key in single quotes or a number, and ']'")]
    Bracket(usize),
    /// `??` is followed by neither an accessor nor a quoted text.
    #[error("the '??' before byte {0} must be followed by an accessor or a text in single quotes")]
    Default(usize),
}

/// The values that a template's accessors can refer to.
#[derive(Clone, Copy, Debug)]
pub struct TemplateContext<'a> {
    /// The record.
    pub record: Map<'a>,
    /// The map that `$kubernetes` refers to instead of the record's, if any.
    pub kubernetes: Option<Map<'a>>,
    /// The record's tag.
    pub tag: &'a str,
    /// The container that wrote the record, if known.
    pub identity: Option<Identity<'a>>,
}

impl Template {
    /// Parses a template.
    ///
    /// `$kubernetes['namespace_name']`, `['pod_name']` and `['container_name']`
    /// give the identity of the context if there is one, not the record's values,
    /// which a container may be able to forge.
    ///
    /// # Errors
    ///
    /// Returns an error if an accessor or a default is incomplete.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Parser { text, at: 0 }.template()
    }

    /// Whether the rendered text depends only on a record's tag, identity and
    /// `kubernetes` map, so that records with the same shared header have the same
    /// text.
    #[must_use]
    pub fn depends_only_on_metadata(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::Choice(sources) => sources.iter().all(Source::depends_only_on_metadata),
        })
    }

    /// Appends the rendered text to `out`.
    ///
    /// Returns `false` if nothing was rendered: the template has no text of its own,
    /// and none of its accessors found a value.
    pub fn render(&self, context: &TemplateContext<'_>, out: &mut Vec<u8>) -> bool {
        let mut any = false;
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    any = true;
                }
                Part::Choice(sources) => {
                    any |= sources.iter().any(|source| source.render(context, out));
                }
            }
        }
        any
    }
}

impl Source {
    fn depends_only_on_metadata(&self) -> bool {
        match self {
            Self::Tag | Self::TagPart(_) | Self::Default(_) => true,
            Self::Identity(_, path) | Self::Path(path) => {
                matches!(path.first(), Some(Segment::Key(key)) if key == "kubernetes")
            }
        }
    }

    fn render(&self, context: &TemplateContext<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Default(text) => out.extend_from_slice(text.as_bytes()),
            Self::Tag => out.extend_from_slice(context.tag.as_bytes()),
            Self::TagPart(index) => match context.tag.split('.').nth(*index) {
                Some(part) => out.extend_from_slice(part.as_bytes()),
                None => return false,
            },
            Self::Identity(name, path) => match (context.identity, name) {
                (Some(identity), Name::Namespace) => {
                    out.extend_from_slice(identity.namespace.as_bytes());
                }
                (Some(identity), Name::Pod) => out.extend_from_slice(identity.pod.as_bytes()),
                (Some(identity), Name::Container) => {
                    out.extend_from_slice(identity.container.as_bytes());
                }
                (None, _) => return render_path(path, context, out),
            },
            Self::Path(path) => return render_path(path, context, out),
        }
        true
    }
}

fn render_path(path: &[Segment], context: &TemplateContext<'_>, out: &mut Vec<u8>) -> bool {
    let (from, path) = match (path, context.kubernetes) {
        ([Segment::Key(key), path @ ..], Some(kubernetes)) if key == "kubernetes" => {
            (kubernetes, path)
        }
        _ => (context.record, path),
    };
    let found = path
        .iter()
        .try_fold(Value::Map(from), |value, segment| match (segment, value) {
            (Segment::Key(key), Value::Map(map)) => map.get(key.as_bytes()),
            (Segment::Index(index), Value::Array(array)) => array.into_iter().nth(*index),
            _ => None,
        });
    match found {
        None | Some(Value::Nil) => return false,
        Some(Value::Text(text)) => out.extend_from_slice(text),
        Some(value) => push_json(out, value),
    }
    true
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn eat_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !keep(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn template(mut self) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        while !self.rest().is_empty() {
            text.push_str(self.eat_while(|c| c != '$'));
            if self.eat("$$") {
                text.push('$');
            } else if !self.rest().is_empty() {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(self.choice()?);
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Template { parts })
    }

    fn choice(&mut self) -> Result<Part, TemplateError> {
        let mut sources = vec![self.accessor()?];
        loop {
            let before = self.at;
            self.eat_while(|c| c == ' ');
            if !self.eat("??") {
                self.at = before;
                return Ok(Part::Choice(sources));
            }
            self.eat_while(|c| c == ' ');
            if self.rest().starts_with('$') {
                sources.push(self.accessor()?);
            } else {
                let at = self.at;
                let text = self.quoted().ok_or(TemplateError::Default(at))?;
                sources.push(Source::Default(text));
            }
        }
    }

    fn accessor(&mut self) -> Result<Source, TemplateError> {
        let start = self.at;
        self.at += 1;
        let name = self.eat_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if name == "TAG" {
            return Ok(match self.segment()? {
                Some(Segment::Index(index)) => Source::TagPart(index),
                Some(Segment::Key(_)) => return Err(TemplateError::Bracket(start + "$TAG".len())),
                None => Source::Tag,
            });
        }
        let mut path = Vec::new();
        if !name.is_empty() {
            path.push(Segment::Key(name.to_owned()));
        }
        while let Some(segment) = self.segment()? {
            path.push(segment);
        }
        if path.is_empty() {
            return Err(TemplateError::NoKey(start));
        }
        Ok(match identity_name(&path) {
            Some(name) => Source::Identity(name, path),
            None => Source::Path(path),
        })
    }

    /// Parses `['key']` or `[0]`.
    fn segment(&mut self) -> Result<Option<Segment>, TemplateError> {
        let start = self.at;
        if !self.eat("[") {
            return Ok(None);
        }
        let segment = if self.rest().starts_with('\'') {
            self.quoted().map(Segment::Key)
        } else {
            self.eat_while(|c| c.is_ascii_digit())
                .parse()
                .ok()
                .map(Segment::Index)
        };
        match segment {
            Some(segment) if self.eat("]") => Ok(Some(segment)),
            _ => Err(TemplateError::Bracket(start)),
        }
    }

    /// Parses a text in single quotes, in which two quotes stand for one.
    fn quoted(&mut self) -> Option<String> {
        if !self.eat("'") {
            return None;
        }
        let mut text = String::new();
        loop {
            text.push_str(self.eat_while(|c| c != '\''));
            if self.eat("''") {
                text.push('\'');
            } else {
                return self.eat("'").then_some(text);
            }
        }
    }
}

fn identity_name(path: &[Segment]) -> Option<Name> {
    let [Segment::Key(map), Segment::Key(key)] = path else {
        return None;
    };
    match (map.as_str(), key.as_str()) {
        ("kubernetes", "namespace_name") => Some(Name::Namespace),
        ("kubernetes", "pod_name") => Some(Name::Pod),
        ("kubernetes", "container_name") => Some(Name::Container),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rmpv::Value as Rmpv;

    use super::*;
    use crate::chunk::msgpack;

    fn map(entries: Vec<(&str, Rmpv)>) -> Rmpv {
        Rmpv::Map(entries.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    fn render_with(text: &str, identity: Option<Identity<'_>>) -> Option<String> {
        let record = map(vec![
            ("log", "hello".into()),
            ("code", 42.into()),
            ("nothing", Rmpv::Nil),
            ("my key", "spaced".into()),
            ("list", Rmpv::Array(vec!["zero".into(), "one".into()])),
            (
                "kubernetes",
                map(vec![
                    ("pod_name", "claimed".into()),
                    ("labels", map(vec![("app", "web".into())])),
                ]),
            ),
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &record).unwrap();
        let Ok((Value::Map(record), _)) = msgpack::read(&bytes) else {
            panic!("not a map");
        };
        let context = TemplateContext {
            record,
            kubernetes: None,
            tag: "kube.var.log",
            identity,
        };
        let mut out = Vec::new();
        let any = Template::parse(text).unwrap().render(&context, &mut out);
        any.then(|| String::from_utf8(out).unwrap())
    }

    fn render(text: &str) -> Option<String> {
        render_with(text, None)
    }

    #[test]
    fn accessors_give_the_values_of_their_paths() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$log", "hello"),
            ("$code", "42"),
            ("$['my key']", "spaced"),
            ("$kubernetes['labels']['app']", "web"),
            ("$kubernetes['labels']", r#"{"app":"web"}"#),
            ("$list[1]", "one"),
            ("$TAG", "kube.var.log"),
            ("$TAG[1]", "var"),
            ("app/$kubernetes['labels']['app']/$log.", "app/web/hello."),
            ("$$5 and $log", "$5 and hello"),
            ("$none ?? $log", "hello"),
            ("$none??'it''s'", "it's"),
            ("$log ?? 'x' ?", "hello ?"),
            ("a $none b", "a  b"),
        ] {
            assert_eq!(render(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn accessors_without_a_value_render_nothing() {
        for text in [
            "$none",
            "$nothing",
            "$log['x']",
            "$list[2]",
            "$TAG[3]",
            "$list['a']",
            "",
        ] {
            assert_eq!(render(text), None, "{text}");
        }
    }

    #[test]
    fn the_identity_takes_precedence_over_the_record() {
        let text = "$kubernetes['pod_name']";
        assert_eq!(render(text).as_deref(), Some("claimed"));
        let identity = Identity {
            namespace: "ns",
            pod: "true-pod",
            container: "c",
        };
        assert_eq!(
            render_with(text, Some(identity)).as_deref(),
            Some("true-pod")
        );
    }

    #[test]
    fn errors_give_the_position() {
        for (text, error) in [
            ("a $", TemplateError::NoKey(2)),
            ("$ log", TemplateError::NoKey(0)),
            ("$a[", TemplateError::Bracket(2)),
            ("$a['b'", TemplateError::Bracket(2)),
            ("$a['b]", TemplateError::Bracket(2)),
            ("$a[b]", TemplateError::Bracket(2)),
            ("$TAG['a']", TemplateError::Bracket(4)),
            ("$a ?? b", TemplateError::Default(6)),
            ("$a ?? 'b", TemplateError::Default(6)),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }
}
