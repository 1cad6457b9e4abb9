//! The configuration of an output: parsed once, from then on never invalid.

mod error;
mod options;
mod sd;
mod tls;
mod value;

use std::time::Duration;

use syslog::{Facility, Framing, NewlineInMessage, Policy, SdNameBuf, Severity};
use transport::{Endpoint, Target, Transport, UDP_MAX_IPV4, UDP_MAX_IPV6};

pub use self::error::ConfigError;
use self::options::Options;
pub use self::options::{OPTIONS, OptionInfo, Properties};
use crate::identity;
use crate::selection::{LabelSelector, Names, Selection, Stream};
use crate::template::Template;

/// One `[OUTPUT]`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that PKS gives the sink, where it gives one.
    pub instance_name: Option<String>,
    /// What a sink is opened for: one, or with `servers balance` one for each
    /// server.
    pub targets: Vec<Target>,
    /// How messages are told apart.
    pub framing: Framing,
    /// Where records' identities come from.
    pub identity: identity::Source,
    /// The only namespace whose records are sent.
    pub namespace: Option<String>,
    /// Which of them.
    pub selection: Selection,
    /// What records become.
    pub layout: Layout,
    /// How long the output's end may take.
    pub exit_timeout: Duration,
    /// What the user should know, though it is no error.
    pub warnings: Vec<String>,
}

/// What a record becomes.
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
    /// The most bytes that a message has.
    pub max_message_size: usize,
    /// What becomes of a longer one.
    pub oversize: Oversize,
}

impl Layout {
    /// What HOSTNAME, APP-NAME, PROCID, MSGID and structured data are made of.
    pub fn origin_templates(&self) -> impl Iterator<Item = &Template> {
        let fields = [&self.hostname, &self.app_name, &self.procid, &self.msgid];
        let params = self.structured_data.iter().flat_map(|sd| &sd.params);
        fields
            .into_iter()
            .flatten()
            .chain(params.map(|(_, template)| template))
    }
}

/// Where the facility comes from.
#[derive(Clone, Debug)]
pub enum FacilityFrom {
    /// It is always the same.
    Fixed(Facility),
    /// A text of the record: a keyword or a number.
    Field(Template),
}

/// Where the severity comes from.
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
    pub id: SdNameBuf,
    /// PARAM-NAMEs and what their values are made of.
    pub params: Vec<(SdNameBuf, Template)>,
}

/// What becomes of a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// Several messages with the same header.
    Split,
    /// Its beginning is sent.
    Truncate,
    /// It is not sent.
    Drop,
}

/// What the `transport` key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tls,
    Tcp,
    Udp,
    Relp,
    RelpTls,
}

/// How several servers share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// The first that answers has all of it.
    Failover,
    /// Each has a part.
    Balance,
}

/// The structured data that PKS gives the records of Kubernetes.
pub const KUBERNETES_SD_ID: &str = "kubernetes@47450";

/// Header and structured data of the records of Kubernetes always fit into it.
const SMALLEST_MESSAGE: usize = 1024;
const LARGEST_MESSAGE: usize = 16 * 1024 * 1024;
/// What fits a datagram on every path of IPv6 without being fragmented (RFC
/// 5426, section 3.2), and on the usual ones of IPv4.
const UDP_MESSAGE: usize = 1180;
const LARGEST_REPLAY: usize = 256 * 1024 * 1024;
const LARGEST_WINDOW: usize = 100_000;

impl Config {
    /// Reads and checks all keys, and the files that they name.
    ///
    /// # Errors
    ///
    /// Names the key, its value and what is allowed.
    pub fn parse(properties: &dyn Properties) -> Result<Self, ConfigError> {
        let options = Options::new(properties);
        let mut warnings = Vec::new();
        let instance_name = options.text("instancename");
        let protocol = protocol(&options, instance_name.is_some(), &mut warnings)?;
        Ok(Self {
            framing: framing(&options, protocol)?,
            identity: options.choice(
                "identity",
                &[
                    ("tag", identity::Source::Tag),
                    ("record", identity::Source::Record),
                    ("none", identity::Source::None),
                ],
            )?,
            namespace: namespace(&options)?,
            selection: selection(&options)?,
            layout: layout(&options, protocol)?,
            exit_timeout: options.duration("exit_timeout")?,
            targets: targets(&options, protocol, &mut warnings)?,
            instance_name,
            warnings,
        })
    }
}

fn protocol(
    options: &Options<'_>,
    is_pks: bool,
    warnings: &mut Vec<String>,
) -> Result<Protocol, ConfigError> {
    let allowed = [
        ("tls", Protocol::Tls),
        ("tcp", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("relp", Protocol::Relp),
        ("relp+tls", Protocol::RelpTls),
    ];
    if is_pks && options.text("transport").is_none() && options.text("tlsconfig").is_none() {
        warnings.push(
            "messages are sent in plain text: with instancename and without tlsconfig this \
             means what it meant in PKS; set transport to say what you want"
                .to_owned(),
        );
        return Ok(Protocol::Tcp);
    }
    options.choice("transport", &allowed)
}

fn framing(options: &Options<'_>, protocol: Protocol) -> Result<Framing, ConfigError> {
    let newline = options.choice(
        "newline_in_message",
        &[
            ("space", NewlineInMessage::Space),
            ("escape", NewlineInMessage::Escape),
        ],
    )?;
    let framing = options.choice(
        "framing",
        &[
            ("octet-counting", Framing::OctetCounting),
            ("newline", Framing::Newline(newline)),
        ],
    )?;
    Ok(match protocol {
        // Both have frames of their own.
        Protocol::Udp | Protocol::Relp | Protocol::RelpTls => Framing::Datagram,
        Protocol::Tls | Protocol::Tcp => framing,
    })
}

fn servers(options: &Options<'_>, protocol: Protocol) -> Result<Vec<Endpoint>, ConfigError> {
    let default_port = match protocol {
        Protocol::Tls => 6514,
        Protocol::Tcp | Protocol::Udp => 514,
        // No port is assigned to RELP; 2514 is the usual one.
        Protocol::Relp | Protocol::RelpTls => 2514,
    };
    options.required("addr", |text| value::addresses(text, default_port))
}

fn targets(
    options: &Options<'_>,
    protocol: Protocol,
    warnings: &mut Vec<String>,
) -> Result<Vec<Target>, ConfigError> {
    let servers = servers(options, protocol)?;
    let tls = match protocol {
        Protocol::Tls | Protocol::RelpTls => Some(tls::parse(options, warnings)?),
        Protocol::Tcp | Protocol::Udp | Protocol::Relp => {
            tls::refuse(options)?;
            None
        }
    };
    let window = options.parsed("relp_window", |text| value::number(text, 1, LARGEST_WINDOW))?;
    let transport = match (protocol, tls) {
        (Protocol::Relp | Protocol::RelpTls, tls) => Transport::Relp { window, tls },
        (Protocol::Udp, _) => Transport::Udp,
        (_, Some(tls)) => Transport::Tls(tls),
        (_, None) => Transport::Tcp,
    };
    let target = Target {
        failback: options.duration("failback")?,
        transport,
        policy: policy(options, protocol)?,
        keepalive: options.duration("keepalive")?,
        user_timeout: options.duration("user_timeout")?,
        servers,
    };
    let sharing = options.choice(
        "servers",
        &[
            ("failover", Sharing::Failover),
            ("balance", Sharing::Balance),
        ],
    )?;
    Ok(match sharing {
        Sharing::Failover => vec![target],
        Sharing::Balance => balanced(&target),
    })
}

/// A target for each server, which falls back on those that follow it.
fn balanced(target: &Target) -> Vec<Target> {
    let rotated = |first: usize| {
        let mut target = target.clone();
        target.servers.rotate_left(first);
        target
    };
    (0..target.servers.len()).map(rotated).collect()
}

fn policy(options: &Options<'_>, protocol: Protocol) -> Result<Policy, ConfigError> {
    let backoff_min = options.duration("backoff_min")?;
    let backoff_max = options.duration("backoff_max")?;
    if backoff_max < backoff_min {
        return Err(options.error("backoff_max", "is less than backoff_min"));
    }
    let replay_buffer =
        options.parsed("replay_buffer", |text| value::size(text, 0, LARGEST_REPLAY))?;
    Ok(Policy {
        connect_timeout: options.duration("connect_timeout")?,
        write_timeout: options.duration("write_timeout")?,
        backoff_min,
        backoff_max,
        replay_buffer: match protocol {
            Protocol::Tls | Protocol::Tcp => replay_buffer,
            // Nothing is acknowledged, or by the program that has it.
            Protocol::Udp | Protocol::Relp | Protocol::RelpTls => 0,
        },
        replay_age: options.duration("replay_age")?,
    })
}

/// The most bytes of a message. One that is not in a datagram of its own has a
/// default that all receivers should take (RFC 5425, section 4.3.1).
fn message_size(options: &Options<'_>, protocol: Protocol) -> Result<usize, ConfigError> {
    if protocol != Protocol::Udp {
        return options.parsed("max_message_size", |text| {
            value::size(text, SMALLEST_MESSAGE, LARGEST_MESSAGE)
        });
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

/// The fence. A key that is there without a value would be a fence that is
/// open: an error, not a default.
fn namespace(options: &Options<'_>) -> Result<Option<String>, ConfigError> {
    let everything = options.flag("cluster")?;
    let Some(namespace) = options.raw("namespace") else {
        return Ok(None);
    };
    if namespace.is_empty() {
        return Err(options.error("namespace", "is empty, allowed is the name of a namespace"));
    }
    if everything {
        return Err(options.error(
            "namespace",
            "contradicts cluster true, which sends all namespaces: set one of them",
        ));
    }
    Ok(Some(namespace))
}

fn selection(options: &Options<'_>) -> Result<Selection, ConfigError> {
    let names = |key| options.optional(key, Names::parse);
    let labels = |key| {
        let parse = |text: &str| LabelSelector::parse(text).map_err(|error| error.to_string());
        options.optional(key, parse)
    };
    let streams = [("stdout", Stream::Stdout), ("stderr", Stream::Stderr)];
    Ok(Selection {
        containers: names("containers")?,
        pods: labels("pod_selector")?,
        stream: options.optional("stream", |text| value::choice(text, &streams))?,
        excluded_containers: names("exclude_containers")?,
        excluded_pods: labels("exclude_pod_selector")?,
    })
}

fn layout(options: &Options<'_>, protocol: Protocol) -> Result<Layout, ConfigError> {
    let kubernetes_structured_data = options.flag("kubernetes_structured_data")?;
    let reserved = kubernetes_structured_data.then_some(KUBERNETES_SD_ID);
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
        structured_data: options
            .optional("structured_data", |text| sd::parse(text, reserved))?
            .unwrap_or_default(),
        kubernetes_structured_data,
        sanitize_host: options.flag("sanitizehost")?,
        bom: options.flag("bom")?,
        max_message_size: message_size(options, protocol)?,
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

#[cfg(test)]
mod tests;
