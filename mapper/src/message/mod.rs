//! Records to messages, by the configuration's layout.
//!
//! ```text
//! Events -> fence (namespace) -> selection -> HeaderPrefix, HeaderSource, StructuredData, text -> Frame -> Batch
//!                                                                   too long: parts -> Frames -> Batch
//! ```

mod escape;
mod kubernetes;
mod parts;
mod shared_headers;
mod tally;
mod time;

use syslog::text::push_lossy_within;
use syslog::{
    AppName, Batch, Facility, HeaderPrefix, HeaderSource, Hostname, MsgId, Pri, ProcId, Scratch,
    SecondCache, Severity, StructuredData, Timestamp,
};

use self::shared_headers::SharedHeaders;
pub use self::tally::{Reason, Tally};
use crate::chunk::json::push_json;
use crate::chunk::{self, Fields, LogEvent, LogEvents, Time, Value};
use crate::config::{
    Config, ControlCharacters, FacilityFrom, Layout, Oversize, SdElement, SeverityFrom,
};
use crate::identity::{Identity, Source};
use crate::selection::Selection;
use crate::severity::{from_level, from_stream};
use crate::template::{Scope, Template};

/// Makes messages of records.
#[derive(Debug)]
pub struct Mapper {
    layout: Layout,
    /// Whether what records say besides their metadata can change more of a
    /// message than its stamp and text.
    shared_header_varies: bool,
    identity: Source,
    /// Whether a record's `cluster_name` becomes HOSTNAME.
    record_cluster_name: bool,
    namespace: Option<String>,
    /// None where it is everything.
    selection: Option<Selection>,
    /// The name of this machine, for records that say no other.
    own_hostname: String,
}

/// Memory that is used for one record after the other.
#[derive(Debug, Default)]
pub struct Workspace {
    hostname: Vec<u8>,
    app_name: Vec<u8>,
    procid: Vec<u8>,
    msgid: Vec<u8>,
    /// One value at a time: a level, a parameter.
    value: Vec<u8>,
    second: SecondCache,
    /// HOSTNAME to STRUCTURED-DATA: the same for record after record.
    shared_header: Vec<u8>,
    /// How many labels and parameters had no place in `shared_header`.
    omitted: u64,
    /// The shared headers of the chunk.
    shared_headers: SharedHeaders,
    text: Vec<u8>,
    /// The text with its control characters escaped.
    escaped: Vec<u8>,
    /// Everything before the text of a message that is split.
    head: Vec<u8>,
}

impl Workspace {
    /// How many bytes of memory it holds.
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

/// What PKS puts before the parts of APP-NAME.
const POD_LOG: &str = "pod.log";
const EVENT: &str = "k8s.event";
/// Says that MSG is UTF-8 (RFC 5424, section 6.4).
const BOM: &[u8] = b"\xef\xbb\xbf";

impl Mapper {
    /// Uses the configuration's layout and fence.
    #[must_use]
    pub fn new(config: &Config, own_hostname: String) -> Self {
        Self {
            layout: config.layout.clone(),
            shared_header_varies: !config
                .layout
                .shared_header_templates()
                .all(Template::is_of_shared_header),
            identity: config.identity,
            record_cluster_name: config.record_cluster_name,
            namespace: config.namespace.clone(),
            selection: (config.selection != Selection::default()).then(|| config.selection.clone()),
            own_hostname,
        }
    }

    /// Appends the messages of all records of a chunk to `batch`, and counts
    /// those for which there is none.
    pub fn map_chunk(
        &self,
        tag: &str,
        chunk: &[u8],
        batch: &mut Batch,
        space: &mut Workspace,
    ) -> Tally {
        let mut tally = Tally::default();
        let is_event = tag.starts_with(EVENT);
        // Events have no file: their tag and record are the operator's.
        let from_record = match self.identity {
            Source::Record => true,
            Source::Tag => is_event,
            Source::None => false,
        };
        let of_tag = if self.identity == Source::Tag {
            Identity::from_tag(tag)
        } else {
            None
        };
        // The metadata and the identity of the record that the shared_header was made for.
        let mut last = None;
        // Another tag, or another mapper, makes other shared_headers.
        space.shared_headers.clear();
        for event in LogEvents::new(chunk, self.layout.message_key.as_bytes()) {
            let chunk::Record {
                time,
                body,
                mut fields,
            } = match event {
                LogEvent::Record(record) => record,
                LogEvent::GroupMarker => continue,
                LogEvent::Damaged => {
                    tally.add(Reason::Damaged);
                    continue;
                }
            };
            if !self.record_cluster_name {
                fields.metadata.cluster_name = None;
            }
            let metadata = fields.metadata;
            let is_fixed = !self.shared_header_varies && !metadata.is_ambiguous;
            let before = last
                .filter(|(known, _)| is_fixed && *known == metadata)
                .map(|(_, identity)| identity);
            let kept = if is_fixed && before.is_none() {
                space.shared_headers.get(&metadata)
            } else {
                None
            };
            let identity = if !from_record {
                of_tag
            } else if let Some(identity) = before {
                identity
            } else {
                let found = kept.and_then(|kept| kept.identity(&metadata));
                found.or_else(|| metadata.kubernetes.and_then(Identity::from_record))
            };
            if self.is_refused(identity) {
                tally.add(Reason::Refused);
                continue;
            }
            if let Some(selection) = &self.selection
                && !selection.takes(identity, &fields)
            {
                continue;
            }
            let record = Record {
                time,
                is_event,
                fields,
                scope: Scope {
                    record: body,
                    tag,
                    identity,
                },
            };
            if before.is_none() {
                if let Some(kept) = kept {
                    space.shared_header.clear();
                    space.shared_header.extend_from_slice(kept.header());
                    space.omitted = kept.omitted();
                } else {
                    self.make_shared_header(&record, space);
                    if is_fixed {
                        let (shared_header, omitted) = (&space.shared_header, space.omitted);
                        space
                            .shared_headers
                            .keep(&metadata, identity, shared_header, omitted);
                    }
                }
                last = is_fixed.then_some((metadata, identity));
            }
            self.map_record(&record, batch, space, &mut tally);
        }
        tally
    }

    /// The fence: another namespace's records, and those of which nobody knows
    /// whose they are.
    fn is_refused(&self, identity: Option<Identity<'_>>) -> bool {
        match &self.namespace {
            None => false,
            Some(namespace) => identity.is_none_or(|identity| identity.namespace != namespace),
        }
    }

    fn map_record(
        &self,
        record: &Record<'_>,
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
        let stamp = self.stamp(record, &mut space.value);
        stamp.encode(&mut space.second, frame.bytes());
        frame.bytes().extend_from_slice(&space.shared_header);
        let head = frame.len();
        frame.bytes().push(b' ');
        let bom = if self.layout.bom { BOM } else { b"" };
        frame.bytes().extend_from_slice(bom);
        tally.add_many(Reason::ParamOmitted, space.omitted);
        let Workspace {
            text: buffer,
            escaped,
            head: head_copy,
            ..
        } = space;
        let mut text = self.text(record, buffer);
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
                tally.add(Reason::Oversize);
            }
            Oversize::Truncate => {
                frame.finish();
                tally.messages += 1;
                tally.add(Reason::Truncated);
            }
            Oversize::Split => {
                head_copy.clear();
                head_copy.extend_from_slice(&frame.message()[..head]);
                drop(frame);
                tally.messages += parts::push(batch, head_copy, bom, text, (size, measure));
                tally.add(Reason::Split);
            }
        }
    }

    /// Everything between a message's stamp and its text.
    fn make_shared_header(&self, record: &Record<'_>, space: &mut Workspace) {
        space.shared_header.clear();
        self.push_header_source(record, space);
        self.push_structured_data(record, space);
    }

    fn push_header_source(&self, record: &Record<'_>, space: &mut Workspace) {
        let layout = &self.layout;
        let scope = &record.scope;

        let hostname = rendered(layout.hostname.as_ref(), scope, &mut space.hostname)
            .or_else(|| record.fields.metadata.hostname())
            .unwrap_or(self.own_hostname.as_bytes());
        let app_name = match rendered(layout.app_name.as_ref(), scope, &mut space.app_name) {
            Some(app_name) => app_name,
            None => default_app_name(record, &mut space.app_name),
        };
        let procid = rendered(layout.procid.as_ref(), scope, &mut space.procid).unwrap_or_default();
        let msgid = rendered(layout.msgid.as_ref(), scope, &mut space.msgid).unwrap_or_default();

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

    /// Header and structured data never take more than three quarters of a
    /// message.
    fn push_structured_data(&self, record: &Record<'_>, space: &mut Workspace) {
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
                .expect("the configuration has no SD-ID twice");
            for (name, template) in params {
                if let Some(value) = rendered(Some(template), &record.scope, value)
                    && !element.param_within(name.as_name(), value, limit)
                {
                    *omitted += 1;
                }
            }
        }
        if self.layout.kubernetes_structured_data
            && let Some(identity) = record.scope.identity
        {
            *omitted += kubernetes::push(&mut data, identity, &record.fields.metadata, limit);
        }
        data.finish();

        // Only with a small max_message_size and a long header.
        if shared_header.len() > limit {
            shared_header.truncate(header);
            StructuredData::begin(shared_header).finish();
            *omitted += 1;
        }
    }

    fn stamp(&self, record: &Record<'_>, value: &mut Vec<u8>) -> HeaderPrefix {
        HeaderPrefix {
            pri: self.pri(record, value),
            timestamp: self.timestamp(record, value),
        }
    }

    fn pri(&self, record: &Record<'_>, value: &mut Vec<u8>) -> Pri {
        let facility = match &self.layout.facility {
            FacilityFrom::Fixed(facility) => Some(*facility),
            FacilityFrom::Field(template) => rendered(Some(template), &record.scope, value)
                .and_then(|name| Facility::from_name(std::str::from_utf8(name).ok()?.trim())),
        };
        let severity = match &self.layout.severity {
            SeverityFrom::Fixed(severity) => Some(*severity),
            SeverityFrom::Stream => record.fields.stream.and_then(from_stream),
            SeverityFrom::Field(template) => {
                rendered(Some(template), &record.scope, value).and_then(from_level)
            }
        };
        Pri::new(
            facility.unwrap_or(Facility::User),
            severity.unwrap_or(Severity::Informational),
        )
    }

    fn timestamp(&self, record: &Record<'_>, value: &mut Vec<u8>) -> Option<Timestamp> {
        rendered(self.layout.timestamp.as_ref(), &record.scope, value)
            .and_then(time::parse)
            .or_else(|| {
                let Time { seconds, nanos } = record.time?;
                Timestamp::from_unix(seconds, nanos).ok()
            })
    }

    fn text<'t>(&self, record: &Record<'t>, buffer: &'t mut Vec<u8>) -> &'t [u8] {
        buffer.clear();
        let text = match (&self.layout.message, record.fields.message) {
            (Some(template), _) => {
                template.render(&record.scope, buffer);
                buffer
            }
            (None, Some(Value::Text(text))) => text,
            (None, Some(value)) => {
                push_json(buffer, value);
                buffer
            }
            (None, None) => {
                push_json(buffer, Value::Map(record.scope.record));
                buffer
            }
        };
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        text.strip_suffix(b"\r").unwrap_or(text)
    }
}

/// A record and what is known about it.
struct Record<'a> {
    time: Option<Time>,
    is_event: bool,
    fields: Fields<'a>,
    scope: Scope<'a>,
}

/// The text of a template, where there is one and it finds something.
fn rendered<'v>(
    template: Option<&Template>,
    scope: &Scope<'_>,
    value: &'v mut Vec<u8>,
) -> Option<&'v [u8]> {
    value.clear();
    template?.render(scope, value).then_some(value)
}

/// `pod.log/<namespace>/<pod>/<container>`, as in PKS, or the tag.
fn default_app_name<'v>(record: &Record<'v>, value: &'v mut Vec<u8>) -> &'v [u8] {
    let Some(identity) = record.scope.identity else {
        return record.scope.tag.as_bytes();
    };
    let first = if record.is_event { EVENT } else { POD_LOG };
    value.clear();
    value.extend_from_slice(first.as_bytes());
    for part in [identity.namespace, identity.pod, identity.container] {
        if !part.is_empty() {
            value.push(b'/');
            value.extend_from_slice(part.as_bytes());
        }
    }
    value
}

fn is_host_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':')
}

#[cfg(test)]
mod tests;
