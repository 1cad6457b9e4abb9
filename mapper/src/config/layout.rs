//! The layout of messages: the source of each field, and the maximum size.

use syslog::text::Measure;
use syslog::{Facility, Framing, SdId, SdIdBuf, SdNameBuf, Severity};
use transport::{Endpoint, UDP_MAX_IPV4, UDP_MAX_IPV6};

use super::options::Options;
use super::{ConfigError, Protocol, framing, sd, servers, value};
use crate::template::Template;

/// The layout of the syslog messages that records are mapped to.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The source of the facility.
    pub facility: FacilityFrom,
    /// The source of the severity.
    pub severity: SeverityFrom,
    /// The template of TIMESTAMP, or `None` for the record's own time.
    pub timestamp: Option<Template>,
    /// The template of HOSTNAME, or `None` for the node's name.
    pub hostname: Option<Template>,
    /// The template of APP-NAME, or `None` for the container's identity or the tag.
    pub app_name: Option<Template>,
    /// The template of PROCID, or `None` for NILVALUE.
    pub procid: Option<Template>,
    /// The template of MSGID, or `None` for NILVALUE.
    pub msgid: Option<Template>,
    /// The template of MSG, or `None` for the value of `message_key`.
    pub message: Option<Template>,
    /// The record's key that contains MSG.
    pub message_key: String,
    /// The configured SD-ELEMENTs, without `kubernetes@47450`.
    pub structured_data: Vec<SdElement>,
    /// Whether container records get the SD-ELEMENT `kubernetes@47450`.
    pub kubernetes_structured_data: bool,
    /// Whether HOSTNAME is restricted to letters, digits, `.`, `-` and `:`.
    pub sanitize_host: bool,
    /// Whether MSG begins with a byte order mark.
    pub bom: bool,
    /// The treatment of control characters in MSG.
    pub control_characters: ControlCharacters,
    /// The maximum size of a message in bytes, without its framing.
    pub max_message_size: usize,
    /// The unit in which a message's text counts towards `max_message_size`. With
    /// UDP the network limits the bytes of a datagram; with other transports the
    /// receiver limits the text after escaping.
    pub measure: Measure,
    /// The treatment of messages that exceed `max_message_size`.
    pub oversize: Oversize,
}

impl Layout {
    /// Returns the templates of HOSTNAME, APP-NAME, PROCID, MSGID and structured
    /// data.
    pub fn shared_header_templates(&self) -> impl Iterator<Item = &Template> {
        let fields = [&self.hostname, &self.app_name, &self.procid, &self.msgid];
        let params = self.structured_data.iter().flat_map(|sd| &sd.params);
        fields
            .into_iter()
            .flatten()
            .chain(params.map(|(_, template)| template))
    }
}

/// The source of the facility.
#[derive(Clone, Debug)]
pub enum FacilityFrom {
    /// A fixed facility for all records.
    Fixed(Facility),
    /// A template that renders a keyword or a number.
    Field(Template),
}

/// The source of the severity.
#[derive(Clone, Debug)]
pub enum SeverityFrom {
    /// A fixed severity for all records.
    Fixed(Severity),
    /// The stream that the container wrote to: stdout or stderr.
    Stream,
    /// A template that renders a logger's level.
    Field(Template),
}

/// A configured SD-ELEMENT.
#[derive(Clone, Debug)]
pub struct SdElement {
    /// The SD-ID.
    pub id: SdIdBuf,
    /// The PARAM-NAMEs with the templates of their values.
    pub params: Vec<(SdNameBuf, Template)>,
}

/// The treatment of control characters in MSG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlCharacters {
    /// Handled by the framing: newline framing replaces them with spaces, other
    /// framings keep them.
    Framing,
    /// Escaped, a line feed as `\n` for example.
    Escape,
}

/// The treatment of a message that exceeds the maximum size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// Splits the message into several with the same header, each with
    /// [`PART_SD_ID`].
    Split,
    /// Sends the beginning of the message.
    Truncate,
    /// Drops the message.
    Drop,
}

/// The SD-ID of the element that describes a container, as in PKS.
pub const KUBERNETES_SD_ID: &str = "kubernetes@47450";
/// The SD-ID of the element with the number of a part and the count of parts, in
/// messages that were split.
pub const PART_SD_ID: &str = "part@47450";

/// Large enough for the header and structured data of any container record.
const SMALLEST_MESSAGE: usize = 1024;
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// The size above which a warning is logged: syslog-ng's default limit.
const WARN_ABOVE: usize = 65_536;
/// The size of a datagram that is not fragmented on any IPv6 path (RFC 5426,
/// section 3.2), nor on common IPv4 paths.
const UDP_MESSAGE: usize = 1180;

/// Parses the keys of the layout.
pub(super) fn parse(
    options: &Options<'_>,
    protocol: Protocol,
    warnings: &mut Vec<String>,
) -> Result<Layout, ConfigError> {
    let kubernetes_structured_data = options.flag("kubernetes_structured_data")?;
    Ok(Layout {
        facility: options.parsed("facility", value::facility)?,
        severity: options.parsed("severity", value::severity)?,
        timestamp: options.template("timestamp")?,
        hostname: options.template("hostname")?,
        app_name: options.template("app_name")?,
        procid: options.template("procid")?,
        msgid: options.template("msgid")?,
        message: options.template("message")?,
        message_key: options.parsed("message_key", |text| Ok(text.to_owned()))?,
        structured_data: structured_data(options, kubernetes_structured_data, warnings)?,
        kubernetes_structured_data,
        sanitize_host: options.flag("sanitizehost")?,
        bom: options.flag("bom")?,
        control_characters: control_characters(options, protocol)?,
        max_message_size: max_message_size(options, protocol, warnings)?,
        measure: match protocol {
            Protocol::Udp => Measure::Bytes,
            Protocol::Tls | Protocol::Tcp | Protocol::Relp | Protocol::RelpTls => Measure::Escaped,
        },
        oversize: options.choice(
            "oversize",
            &[
                ("split", Oversize::Split),
                ("truncate", Oversize::Truncate),
                ("drop", Oversize::Drop),
            ],
        )?,
    })
}

/// Parses `control_characters`, which has an effect only with newline framing.
fn control_characters(
    options: &Options<'_>,
    protocol: Protocol,
) -> Result<ControlCharacters, ConfigError> {
    let choice = options.choice(
        "control_characters",
        &[
            ("space", ControlCharacters::Framing),
            ("escape", ControlCharacters::Escape),
        ],
    )?;
    Ok(match framing(options, protocol)? {
        Framing::Newline => choice,
        Framing::OctetCounting | Framing::Datagram => ControlCharacters::Framing,
    })
}

/// Parses `max_message_size`. The default fits receivers with default settings,
/// framing included: rsyslog's 8,096 bytes and the 8,192 of RFC 5425 (section
/// 4.3.1). UDP has its own default and limit.
fn max_message_size(
    options: &Options<'_>,
    protocol: Protocol,
    warnings: &mut Vec<String>,
) -> Result<usize, ConfigError> {
    if protocol != Protocol::Udp {
        let size = options.parsed("max_message_size", |text| {
            value::size(text, SMALLEST_MESSAGE, LARGEST_MESSAGE)
        })?;
        if size > WARN_ABOVE {
            warnings.push(format!(
                "max_message_size {size}: receivers accept less by default (rsyslog 8096 bytes, \
                 syslog-ng 65536, RFC 5425 recommends 8192) and truncate, split or reject longer \
                 messages; raise the receiver's limit above {size} as well"
            ));
        }
        return Ok(size);
    }
    let servers = servers(options, protocol)?;
    let is_ipv6 = |server: &Endpoint| server.address().is_some_and(|address| address.is_ipv6());
    let largest = if servers.iter().all(is_ipv6) {
        UDP_MAX_IPV6
    } else {
        UDP_MAX_IPV4
    };
    options
        .optional("max_message_size", |text| {
            value::size(text, SMALLEST_MESSAGE, largest)
        })
        .map(|size| size.unwrap_or(UDP_MESSAGE))
}

/// Parses `structured_data`. The plugin's own SD-IDs are reserved.
fn structured_data(
    options: &Options<'_>,
    kubernetes: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<SdElement>, ConfigError> {
    let reserved: &[&str] = if kubernetes {
        &[PART_SD_ID, KUBERNETES_SD_ID]
    } else {
        &[PART_SD_ID]
    };
    let elements = options
        .optional("structured_data", |text| sd::parse(text, reserved))?
        .unwrap_or_default();
    for SdElement { id, .. } in &elements {
        let id = id.as_name();
        if id.is_longer_than_rfc_5424() {
            warnings.push(format!(
                "structured_data: the SD-ID {id:?} has {} characters, RFC 5424 allows {}; some \
                 receivers may reject the messages",
                id.as_str().len(),
                SdId::RFC_5424_MAX
            ));
        }
    }
    Ok(elements)
}
