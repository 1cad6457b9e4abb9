//! The mapping of records to messages, according to the configured layout.
//!
//! ```text
//! LogEvents -> namespace check -> selection -> HeaderPrefix, HeaderSource, StructuredData, text
//!                                                │
//!                                                ├─ fits:     Frame          ──> Batch
//!                                                └─ too long: parts ─> Frames ─> Batch
//! ```
//!
//! The header and the structured data take at most three quarters of a message. Labels
//! that do not fit are omitted before the identity is, and the text always has a
//! quarter.

mod escape;
mod event;
mod group;
mod kubernetes;
mod parts;
mod shared_headers;
mod tally;
mod time;

use std::mem;

use positions::Group;
use syslog::text::push_lossy_within;
use syslog::{
    AppName, Batch, Facility, HeaderPrefix, HeaderSource, Hostname, MsgId, Pri, ProcId, Scratch,
    SecondCache, Severity, StructuredData, Timestamp,
};

pub use self::event::KubernetesEvent;
use self::group::CurrentGroup;
use self::parts::SizeLimit;
use self::shared_headers::SharedHeaders;
pub use self::tally::{LossReason, Tally};
use crate::chunk::json::push_json;
use crate::chunk::{self, Fields, LogEvent, LogEvents, Time, Value};
use crate::config::{
    Config, ControlCharacters, FacilityFrom, Layout, Oversize, SdElement, SeverityFrom,
};
use crate::identity::{Identity, Source};
use crate::scope::Scope;
use crate::selection::Selection;
use crate::severity::{from_level, from_stream};
use crate::template::{Template, TemplateContext};

/// Maps the records of chunks to syslog messages.
///
/// ```
/// use mapper::{Config, Mapper, Properties, Workspace};
/// use syslog::Batch;
///
/// /// The keys of an `[OUTPUT]`.
/// struct Output;
///
/// impl Properties for Output {
///     fn get(&self, key: &str) -> Option<String> {
///         let value = match key {
///             "servers" => "logs.example.com",
///             "transport" => "tcp",
///             "identity" => "none",
///             _ => return None,
///         };
///         Some(value.to_owned())
///     }
/// }
///
/// let config = Config::parse(&Output)?;
/// let mapper = Mapper::new(&config, "node-1".to_owned());
/// let mut batch = Batch::new(config.framing);
///
/// // [0, {"log": "hello"}] in msgpack: a record at 1970-01-01T00:00:00Z.
/// let chunk = b"\x92\x00\x81\xa3log\xa5hello";
/// let tally = mapper.map_chunk("app.audit", chunk, &mut batch, &mut Workspace::default());
/// assert_eq!(tally.messages, 1);
///
/// let message = "<14>1 1970-01-01T00:00:00.000000Z node-1 app.audit - - - hello";
/// assert_eq!(batch.bytes(), format!("{} {message}", message.len()).as_bytes());
/// # Ok::<(), mapper::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Mapper {
    layout: Layout,
    /// Whether record keys other than the metadata can change the shared header.
    shared_header_varies: bool,
    identity: Source,
    /// Whether a record's `cluster_name` becomes HOSTNAME.
    record_cluster_name: bool,
    namespace: Option<String>,
    /// The scope, or `None` if it includes all records.
    scope: Option<Scope>,
    /// The selection, or `None` if it includes all records.
    selection: Option<Selection>,
    /// The name of this machine, for records without a host name.
    own_hostname: String,
}

/// Buffers that are reused from record to record and from chunk to chunk.
#[derive(Debug, Default)]
pub struct Workspace {
    hostname: Vec<u8>,
    app_name: Vec<u8>,
    procid: Vec<u8>,
    msgid: Vec<u8>,
    /// A single rendered value, such as a level or a parameter.
    value: Vec<u8>,
    second: SecondCache,
    /// The encoded fields from HOSTNAME to STRUCTURED-DATA, which successive records
    /// usually share.
    shared_header: Vec<u8>,
    /// The number of labels and parameters that did not fit `shared_header`.
    omitted: u64,
    /// The shared headers of the chunk.
    shared_headers: SharedHeaders,
    text: Vec<u8>,
    /// The text with its control characters escaped.
    escaped: Vec<u8>,
    /// The header and structured data of a message that is split.
    head: Vec<u8>,
}

impl Workspace {
    /// Returns the size of the allocated memory in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let Self {
            hostname,
            app_name,
            procid,
            msgid,
            value,
            second: _,
            shared_header,
            omitted: _,
            shared_headers,
            text,
            escaped,
            head,
        } = self;
        let buffers = [
            hostname,
            app_name,
            procid,
            msgid,
            value,
            shared_header,
            text,
            escaped,
            head,
        ];
        buffers.into_iter().map(Vec::capacity).sum::<usize>() + shared_headers.capacity()
    }
}

/// The first part of a container log's APP-NAME, as in PKS.
const POD_LOG: &str = "pod.log";
/// The beginning of an event's tag, and the first part of its APP-NAME, as in PKS.
const EVENT: &str = "k8s.event";
/// The byte order mark that declares MSG to be UTF-8 (RFC 5424, section 6.4).
const BOM: &[u8] = b"\xef\xbb\xbf";

impl Mapper {
    /// Creates a mapper with the layout, namespace and selection of `config`.
    /// `own_hostname` becomes the HOSTNAME of records without a host name.
    #[must_use]
    pub fn new(config: &Config, own_hostname: String) -> Self {
        Self {
            layout: config.layout.clone(),
            shared_header_varies: !config
                .layout
                .shared_header_templates()
                .all(Template::depends_only_on_metadata),
            identity: config.identity,
            record_cluster_name: config.record_cluster_name,
            namespace: config.namespace.clone(),
            scope: (!config.scope.is_everything()).then(|| config.scope.clone()),
            selection: (config.selection != Selection::default()).then(|| config.selection.clone()),
            own_hostname,
        }
    }

    /// Appends the messages of a chunk's records to `batch`. Returns the counts of
    /// messages and losses.
    pub fn map_chunk(
        &self,
        tag: &str,
        chunk: &[u8],
        batch: &mut Batch,
        space: &mut Workspace,
    ) -> Tally {
        self.map_groups(tag, chunk, batch, space, |_| true)
    }

    /// Appends the messages of a chunk's records as [`Mapper::map_chunk`] does, except those
    /// of groups that are not wanted. Only groups of the input that reads pod logs are asked
    /// for, and only with `identity group`.
    pub fn map_groups<'c>(
        &self,
        tag: &str,
        chunk: &'c [u8],
        batch: &mut Batch,
        space: &mut Workspace,
        mut wants: impl FnMut(&Group<'c>) -> bool,
    ) -> Tally {
        let mut tally = Tally::default();
        let is_event = tag.starts_with(EVENT);
        // Events do not come from log files: the cluster's operator controls their
        // tag and record.
        let from_record = match self.identity {
            Source::Record | Source::Group => true,
            Source::Tag => is_event,
            Source::None => false,
        };
        let mut group = CurrentGroup::new(self.identity);
        let tag_identity = if self.identity == Source::Tag {
            Identity::from_tag(tag)
        } else {
            None
        };
        // The metadata and identity that `space.shared_header` was encoded for.
        let mut last = None;
        // Shared headers depend on the tag and on the mapper.
        space.shared_headers.clear();
        for event in LogEvents::new(chunk, self.layout.message_key.as_bytes()) {
            let chunk::Record {
                time,
                body,
                mut fields,
            } = match event {
                LogEvent::Record(_) if group.is_skipped() => continue,
                LogEvent::Record(record) => record,
                LogEvent::GroupStart(metadata) => {
                    group.start(metadata, self.scope.as_ref(), &mut wants);
                    continue;
                }
                LogEvent::GroupEnd => {
                    group.end();
                    continue;
                }
                LogEvent::Damaged => {
                    tally.add(LossReason::Damaged);
                    group.damage();
                    continue;
                }
            };
            group.assign(&mut fields);
            if !self.record_cluster_name {
                fields.container.cluster_name = None;
            }
            let metadata = fields.container;
            let is_cacheable = !self.shared_header_varies && !metadata.is_ambiguous;
            let last_identity = last
                .filter(|(known, _)| is_cacheable && *known == metadata)
                .map(|(_, identity)| identity);
            let cached = if is_cacheable && last_identity.is_none() {
                space.shared_headers.get(&metadata)
            } else {
                None
            };
            let identity = if !from_record {
                tag_identity
            } else if let Some(identity) = last_identity {
                identity
            } else {
                cached
                    .and_then(|cached| cached.identity(&metadata))
                    .or_else(|| metadata.kubernetes.and_then(Identity::from_record))
            };
            if !self.passes_namespace_check(identity) {
                tally.add(LossReason::Refused);
                continue;
            }
            if !self.includes(identity, &fields) {
                continue;
            }
            let record = Record {
                time,
                is_event,
                fields,
                context: TemplateContext {
                    record: body,
                    kubernetes: group.for_templates(),
                    tag,
                    identity,
                },
            };
            if last_identity.is_none() {
                if let Some(cached) = cached {
                    space.shared_header.clear();
                    space.shared_header.extend_from_slice(cached.header());
                    space.omitted = cached.omitted();
                } else {
                    self.encode_shared_header(&record, space);
                    if is_cacheable {
                        let (shared_header, omitted) = (&space.shared_header, space.omitted);
                        space
                            .shared_headers
                            .insert(&metadata, identity, shared_header, omitted);
                    }
                }
                last = is_cacheable.then_some((metadata, identity));
            }
            self.map_record(&record, batch, space, &mut tally);
        }
        tally
    }

    /// The namespace check: whether a record is from the configured namespace, if
    /// there is one. Records without an identity fail the check.
    fn passes_namespace_check(&self, identity: Option<Identity<'_>>) -> bool {
        match &self.namespace {
            None => true,
            Some(namespace) => identity.is_some_and(|identity| identity.namespace == namespace),
        }
    }

    /// Whether a record of the namespace is in the scope and selected.
    fn includes(&self, identity: Option<Identity<'_>>, fields: &Fields<'_>) -> bool {
        // A group is in the scope as a whole.
        let scope = self.scope.as_ref();
        let scope = scope.filter(|_| self.identity != Source::Group);
        let selection = self.selection.as_ref();
        scope.is_none_or(|scope| scope.contains(identity))
            && selection.is_none_or(|selection| selection.matches(identity, fields))
    }

    fn map_record(
        &self,
        record: &Record<'_>,
        batch: &mut Batch,
        space: &mut Workspace,
        tally: &mut Tally,
    ) {
        let prefix = self.header_prefix(record, &mut space.value);
        let mut buffer = mem::take(&mut space.text);
        let text = self.text(record, &mut buffer);
        self.push_message(prefix, text, batch, space, tally);
        space.text = buffer;
    }

    /// Appends the message of a header prefix, the encoded shared header and a text.
    fn push_message(
        &self,
        prefix: HeaderPrefix,
        text: &[u8],
        batch: &mut Batch,
        space: &mut Workspace,
        tally: &mut Tally,
    ) {
        let Layout {
            max_message_size: size,
            measure,
            ..
        } = self.layout;
        let mut frame = batch.frame();
        prefix.encode(&mut space.second, frame.bytes());
        frame.bytes().extend_from_slice(&space.shared_header);
        let head = frame.len();
        frame.bytes().push(b' ');
        let bom = if self.layout.bom { BOM } else { b"" };
        frame.bytes().extend_from_slice(bom);
        tally.add_many(LossReason::ParamOmitted, space.omitted);
        let Workspace {
            escaped,
            head: head_copy,
            ..
        } = space;
        let mut text = without_line_end(text);
        if self.layout.control_characters == ControlCharacters::Escape {
            text = escape::escape(text, escaped);
        }
        let room = size - frame.len();
        let used = push_lossy_within(frame.bytes(), text, room, measure);
        if used == text.len() {
            frame.finish();
            tally.messages += 1;
            return;
        }
        match self.layout.oversize {
            Oversize::Drop => {
                drop(frame);
                tally.add(LossReason::Oversize);
            }
            Oversize::Truncate => {
                frame.finish();
                tally.messages += 1;
                tally.add(LossReason::Truncated);
            }
            Oversize::Split => {
                head_copy.clear();
                head_copy.extend_from_slice(&frame.message()[..head]);
                drop(frame);
                let limit = SizeLimit { size, measure };
                tally.messages += parts::push(batch, head_copy, bom, text, limit);
                tally.add(LossReason::Split);
            }
        }
    }

    /// Encodes the fields from HOSTNAME to STRUCTURED-DATA into
    /// `space.shared_header`.
    fn encode_shared_header(&self, values: &impl HeaderValues, space: &mut Workspace) {
        space.shared_header.clear();
        self.push_header_source(values, space);
        self.push_structured_data(values, space);
    }

    fn push_header_source(&self, values: &impl HeaderValues, space: &mut Workspace) {
        let layout = &self.layout;
        let context = values.context();

        let hostname = rendered(layout.hostname.as_ref(), context, &mut space.hostname)
            .or_else(|| values.hostname())
            .unwrap_or(self.own_hostname.as_bytes());
        let app_name = match rendered(layout.app_name.as_ref(), context, &mut space.app_name) {
            Some(app_name) => app_name,
            None => default_app_name(values, &mut space.app_name),
        };
        let procid =
            rendered(layout.procid.as_ref(), context, &mut space.procid).unwrap_or_default();
        let msgid = rendered(layout.msgid.as_ref(), context, &mut space.msgid).unwrap_or_default();

        let (mut h, mut a, mut p, mut m) = (
            Scratch::default(),
            Scratch::default(),
            Scratch::default(),
            Scratch::default(),
        );
        HeaderSource {
            hostname: if layout.sanitize_host {
                Hostname::fit_with(hostname, &mut h, is_host_character, b'-')
            } else {
                Hostname::fit(hostname, &mut h)
            },
            app_name: AppName::fit(app_name, &mut a),
            procid: ProcId::fit(procid, &mut p),
            msgid: MsgId::fit(msgid, &mut m),
        }
        .encode(&mut space.shared_header);
    }

    /// Appends STRUCTURED-DATA. Parameters are omitted if the header and the
    /// structured data would exceed three quarters of `max_message_size`.
    fn push_structured_data(&self, values: &impl HeaderValues, space: &mut Workspace) {
        let limit = self.layout.max_message_size / 4 * 3 - HeaderPrefix::MAX;
        let Workspace {
            shared_header,
            omitted,
            value,
            ..
        } = space;
        let header = shared_header.len();
        *omitted = 0;

        let mut data = StructuredData::begin(shared_header);
        for SdElement { id, params } in &self.layout.structured_data {
            let mut element = data
                .element(id.as_name())
                .expect("the configuration has no duplicate SD-ID");
            for (name, template) in params {
                if let Some(value) = rendered(Some(template), values.context(), value)
                    && !element.param_within(name.as_name(), value, limit)
                {
                    *omitted += 1;
                }
            }
        }
        if self.layout.kubernetes_structured_data
            && let Some(identity) = values.context().identity
        {
            *omitted += kubernetes::push(&mut data, identity, values, limit);
        }
        data.finish();

        // This happens only with a small max_message_size and a long header.
        if shared_header.len() > limit {
            shared_header.truncate(header);
            StructuredData::begin(shared_header).finish();
            *omitted += 1;
        }
    }

    fn header_prefix(&self, record: &Record<'_>, value: &mut Vec<u8>) -> HeaderPrefix {
        HeaderPrefix {
            pri: self.pri(record, value),
            timestamp: self.timestamp(record, value),
        }
    }

    fn pri(&self, record: &Record<'_>, value: &mut Vec<u8>) -> Pri {
        let severity = match &self.layout.severity {
            SeverityFrom::Fixed(severity) => Some(*severity),
            SeverityFrom::Stream => record.fields.stream.and_then(from_stream),
            SeverityFrom::Field(template) => {
                rendered(Some(template), &record.context, value).and_then(from_level)
            }
        };
        let severity = severity.unwrap_or(Severity::Informational);
        Pri::new(self.facility(&record.context, value), severity)
    }

    fn facility(&self, context: &TemplateContext<'_>, value: &mut Vec<u8>) -> Facility {
        let facility = match &self.layout.facility {
            FacilityFrom::Fixed(facility) => Some(*facility),
            FacilityFrom::Field(template) => rendered(Some(template), context, value)
                .and_then(|name| Facility::from_name(std::str::from_utf8(name).ok()?.trim())),
        };
        facility.unwrap_or(Facility::User)
    }

    fn timestamp(&self, record: &Record<'_>, value: &mut Vec<u8>) -> Option<Timestamp> {
        rendered(self.layout.timestamp.as_ref(), &record.context, value)
            .and_then(time::parse)
            .or_else(|| {
                let Time { seconds, nanos } = record.time?;
                Timestamp::from_unix(seconds, nanos).ok()
            })
    }

    fn text<'t>(&self, record: &Record<'t>, buffer: &'t mut Vec<u8>) -> &'t [u8] {
        buffer.clear();
        match (&self.layout.message, record.fields.message) {
            (Some(template), _) => {
                template.render(&record.context, buffer);
                buffer
            }
            (None, Some(Value::Text(text))) => text,
            (None, Some(value)) => {
                push_json(buffer, value);
                buffer
            }
            (None, None) => {
                push_json(buffer, Value::Map(record.context.record));
                buffer
            }
        }
    }
}

/// The values that a header and its structured data are made from.
trait HeaderValues {
    /// Returns the values of templates.
    fn context(&self) -> &TemplateContext<'_>;
    /// Returns the first part of APP-NAME.
    fn app_name(&self) -> &'static str;
    /// Returns the default of HOSTNAME.
    fn hostname(&self) -> Option<&[u8]>;
    /// Returns the name of the node.
    fn node(&self) -> Option<&[u8]>;
    /// Returns the parameters of `kubernetes@47450`, besides the identity.
    fn params(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
}

/// A record with its context.
struct Record<'a> {
    time: Option<Time>,
    is_event: bool,
    fields: Fields<'a>,
    context: TemplateContext<'a>,
}

impl HeaderValues for Record<'_> {
    fn context(&self) -> &TemplateContext<'_> {
        &self.context
    }

    fn app_name(&self) -> &'static str {
        if self.is_event { EVENT } else { POD_LOG }
    }

    fn hostname(&self) -> Option<&[u8]> {
        self.fields.container.hostname()
    }

    fn node(&self) -> Option<&[u8]> {
        self.fields.container.node()
    }

    fn params(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let labels = self.fields.container.labels().into_iter().flatten();
        labels.filter_map(|label| match label {
            (Value::Text(key), Value::Text(value)) => Some((key, value)),
            _ => None,
        })
    }
}

/// Renders a template. Returns `None` if there is no template, or nothing was
/// rendered.
fn rendered<'v>(
    template: Option<&Template>,
    context: &TemplateContext<'_>,
    value: &'v mut Vec<u8>,
) -> Option<&'v [u8]> {
    value.clear();
    template?.render(context, value).then_some(value)
}

/// Returns `pod.log/<namespace>/<pod>/<container>`, as in PKS, or the tag of a record
/// without identity.
fn default_app_name<'v>(values: &'v impl HeaderValues, value: &'v mut Vec<u8>) -> &'v [u8] {
    let context = values.context();
    let Some(identity) = context.identity else {
        return context.tag.as_bytes();
    };
    value.clear();
    value.extend_from_slice(values.app_name().as_bytes());
    for part in [identity.namespace, identity.pod, identity.container] {
        if !part.is_empty() {
            value.push(b'/');
            value.extend_from_slice(part.as_bytes());
        }
    }
    value
}

/// Removes the end of the last line.
fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

fn is_host_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':')
}

#[cfg(test)]
mod tests;
