//! The form of messages: the source of each field, and the size of a message.

use syslog::text::Measure;
use syslog::{Facility, Framing, SdId, SdIdBuf, SdNameBuf, Severity};
use transport::{Endpoint, UDP_MAX_IPV4, UDP_MAX_IPV6};

use super::options::Options;
use super::{ConfigError, Protocol, framing, sd, servers, value};
use crate::template::Template;

/// The form of the messages that records become.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The facility.
    pub facility: FacilityFrom,
    /// The severity.
    pub severity: SeverityFrom,
    /// The time, where it is not the record's own.
    pub timestamp: Option<Template>,
    /// HOSTNAME, where it is not the node's.
    pub hostname: Option<Template>,
    /// APP-NAME, where it is not the container's.
    pub app_name: Option<Template>,
    /// PROCID.
    pub procid: Option<Template>,
    /// MSGID.
    pub msgid: Option<Template>,
    /// MSG, where it is not a key of the record.
    pub message: Option<Template>,
    /// The key whose value is MSG.
    pub message_key: String,
    /// Structured data besides that of Kubernetes.
    pub structured_data: Vec<SdElement>,
    /// Whether records of Kubernetes have `kubernetes@47450`.
    pub kubernetes_structured_data: bool,
    /// Whether HOSTNAME has only letters, digits, `.`, `-` and `:`.
    pub sanitize_host: bool,
    /// Whether MSG begins with a byte order mark.
    pub bom: bool,
    /// The treatment of control characters in MSG.
    pub control_characters: ControlCharacters,
    /// The maximum size of a message in bytes, without its framing.
    pub max_message_size: usize,
    /// The measure of its text: a datagram's limit is that of the network, any
    /// other that of receivers.
    pub measure: Measure,
    /// The treatment of a longer one.
    pub oversize: Oversize,
}

impl Layout {
    /// What HOSTNAME, APP-NAME, PROCID, MSGID and structured data are made of.
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
    /// It is always the same.
    Fixed(Facility),
    /// A text of the record: a keyword or a number.
    Field(Template),
}

/// The source of the severity.
#[derive(Clone, Debug)]
pub enum SeverityFrom {
    /// It is always the same.
    Fixed(Severity),
    /// The container's stream.
    Stream,
    /// A text of the record: the level of a logger.
    Field(Template),
}

/// An SD-ELEMENT of the configuration.
#[derive(Clone, Debug)]
pub struct SdElement {
    /// SD-ID.
    pub id: SdIdBuf,
    /// PARAM-NAMEs with the templates of their values.
    pub params: Vec<(SdNameBuf, Template)>,
}

/// The treatment of control characters in MSG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlCharacters {
    /// Left to the framing.
    Framing,
    /// Escapes such as `\n`.
    Escape,
}

/// The treatment of a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// Several messages with the same header, each with [`PART_SD_ID`].
    Split,
    /// Its beginning is sent.
    Truncate,
    /// It is not sent.
    Drop,
}

/// The structured data that PKS gives the records of Kubernetes.
pub const KUBERNETES_SD_ID: &str = "kubernetes@47450";
/// The structured data of the parts of a message that is split: their number and
/// count.
pub const PART_SD_ID: &str = "part@47450";

/// Header and structured data of the records of Kubernetes always fit into it.
const SMALLEST_MESSAGE: usize = 1024;
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// The size above which a warning is logged: syslog-ng's default limit.
const WARN_ABOVE: usize = 65_536;
/// The size that fits a datagram on every path of IPv6 without being fragmented
/// (RFC 5426, section 3.2), and on the usual ones of IPv4.
const UDP_MESSAGE: usize = 1180;

/// Reads the keys of the layout.
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
        max_message_size: message_size(options, protocol, warnings)?,
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

/// Control characters matter between lines alone, where the framing replaces those
/// that are left by spaces.
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

/// The maximum size of a message. The default fits receivers with default
/// settings, framing included: rsyslog's 8,096 bytes and RFC 5425's 8,192 (section
/// 4.3.1). A datagram has a default and a limit of its own.
fn message_size(
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
                 syslog-ng 65536, RFC 5425 recommends 8192) and cut, split or refuse longer \
                 messages: raise the receiver's limit above {size} as well"
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

/// The elements of `structured_data`. The plugin's own SD-IDs are reserved.
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
                "structured_data: the SD-ID {id:?} has {} characters, RFC 5424 allows {}: some \
                 receivers will reject the messages",
                id.as_str().len(),
                SdId::RFC_5424_MAX
            ));
        }
    }
    Ok(elements)
}
