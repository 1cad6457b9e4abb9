//! Texts with Fluent Bit's record accessors in them.
//!
//! ```text
//! $log                          the record's key `log`
//! $kubernetes['labels']['app']  a key of a map in a map
//! $list[0]                      an element of an array
//! $TAG, $TAG[1]                 the tag, or its part behind the first dot
//! pod/$kubernetes['pod_name']   text around them
//! $level ?? $lvl ?? 'info'      the first that there is, or else the text
//! $$                            a dollar sign
//! ```

use thiserror::Error;

use crate::chunk::json::push_json;
use crate::chunk::{Map, Value};
use crate::identity::Identity;

/// A parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The first of these that the record has.
    Choice(Vec<Source>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Path(Vec<Step>),
    Tag,
    /// A part of the tag, counted from zero.
    TagPart(usize),
    /// Namespace, pod or container: see [`Template::parse`].
    Identity(Name, Vec<Step>),
    Default(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Namespace,
    Pod,
    Container,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// No key follows the dollar sign.
    #[error("no key follows the '$' at byte {0}; a dollar sign itself is written '$$'")]
    NoKey(usize),
    /// A bracket has no end, or holds neither a quoted key nor a number.
    #[error("the '[' at byte {0} is not followed by a key in single quotes or a number, and ']'")]
    Bracket(usize),
    /// Neither an accessor nor a quoted text follows `??`.
    #[error("the '??' before byte {0} is not followed by an accessor or a text in single quotes")]
    Default(usize),
}

/// What a template can refer to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The record.
    pub record: Map<'a>,
    /// The record's tag.
    pub tag: &'a str,
    /// Which container the record is from.
    pub identity: Option<Identity<'a>>,
}

impl Template {
    /// Parses a text.
    ///
    /// `$kubernetes['namespace_name']`, `['pod_name']` and `['container_name']`
    /// give the identity where there is one, and not what the record says: the
    /// record may have been written by anybody.
    ///
    /// # Errors
    ///
    /// Where an accessor is not complete.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Parser { text, at: 0 }.template()
    }

    /// Whether the text is the same for all records that have the same tag,
    /// identity and `kubernetes` map.
    #[must_use]
    pub fn is_of_shared_header(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Text(_) => true,
            Part::Choice(sources) => sources.iter().all(Source::is_of_shared_header),
        })
    }

    /// Appends the text. Says whether anything in it was there: a template
    /// whose accessors all found nothing, and that has no text of its own, is
    /// not.
    pub fn render(&self, scope: &Scope<'_>, out: &mut Vec<u8>) -> bool {
        let mut any = false;
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    any = true;
                }
                Part::Choice(sources) => {
                    any |= sources.iter().any(|source| source.render(scope, out));
                }
            }
        }
        any
    }
}

impl Source {
    fn is_of_shared_header(&self) -> bool {
        match self {
            Self::Tag | Self::TagPart(_) | Self::Default(_) => true,
            Self::Identity(_, path) | Self::Path(path) => {
                matches!(path.first(), Some(Step::Key(key)) if key == "kubernetes")
            }
        }
    }

    fn render(&self, scope: &Scope<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Default(text) => out.extend_from_slice(text.as_bytes()),
            Self::Tag => out.extend_from_slice(scope.tag.as_bytes()),
            Self::TagPart(index) => match scope.tag.split('.').nth(*index) {
                Some(part) => out.extend_from_slice(part.as_bytes()),
                None => return false,
            },
            Self::Identity(name, path) => match (scope.identity, name) {
                (Some(identity), Name::Namespace) => {
                    out.extend_from_slice(identity.namespace.as_bytes());
                }
                (Some(identity), Name::Pod) => out.extend_from_slice(identity.pod.as_bytes()),
                (Some(identity), Name::Container) => {
                    out.extend_from_slice(identity.container.as_bytes());
                }
                (None, _) => return render_path(path, scope.record, out),
            },
            Self::Path(path) => return render_path(path, scope.record, out),
        }
        true
    }
}

fn render_path(path: &[Step], record: Map<'_>, out: &mut Vec<u8>) -> bool {
    let found = path
        .iter()
        .try_fold(Value::Map(record), |value, step| match (step, value) {
            (Step::Key(key), Value::Map(map)) => map.get(key.as_bytes()),
            (Step::Index(index), Value::Array(array)) => array.into_iter().nth(*index),
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
            return Ok(match self.step()? {
                Some(Step::Index(index)) => Source::TagPart(index),
                Some(Step::Key(_)) => return Err(TemplateError::Bracket(start + "$TAG".len())),
                None => Source::Tag,
            });
        }
        let mut path = Vec::new();
        if !name.is_empty() {
            path.push(Step::Key(name.to_owned()));
        }
        while let Some(step) = self.step()? {
            path.push(step);
        }
        if path.is_empty() {
            return Err(TemplateError::NoKey(start));
        }
        Ok(match identity_name(&path) {
            Some(name) => Source::Identity(name, path),
            None => Source::Path(path),
        })
    }

    /// `['key']` or `[0]`.
    fn step(&mut self) -> Result<Option<Step>, TemplateError> {
        let start = self.at;
        if !self.eat("[") {
            return Ok(None);
        }
        let step = if self.rest().starts_with('\'') {
            self.quoted().map(Step::Key)
        } else {
            self.eat_while(|c| c.is_ascii_digit())
                .parse()
                .ok()
                .map(Step::Index)
        };
        match step {
            Some(step) if self.eat("]") => Ok(Some(step)),
            _ => Err(TemplateError::Bracket(start)),
        }
    }

    /// A text in single quotes, in which two quotes stand for one.
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

fn identity_name(path: &[Step]) -> Option<Name> {
    let [Step::Key(map), Step::Key(key)] = path else {
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
            panic!("a map");
        };
        let scope = Scope {
            record,
            tag: "kube.var.log",
            identity,
        };
        let mut out = Vec::new();
        let any = Template::parse(text).unwrap().render(&scope, &mut out);
        any.then(|| String::from_utf8(out).unwrap())
    }

    fn render(text: &str) -> Option<String> {
        render_with(text, None)
    }

    #[test]
    fn accessors_find_what_they_name() {
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
    fn what_is_not_there_is_not_there() {
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
    fn the_identity_goes_before_what_a_record_says() {
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
    fn errors_say_where() {
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
