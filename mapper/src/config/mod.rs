//! The configuration of an output: parsed once, from then on never invalid.

mod error;
mod layout;
mod options;
mod queue;
mod sd;
mod tls;
mod value;

use std::time::Duration;

use syslog::{Framing, Policy, ReplayBuffer};
use transport::{Endpoint, Target, Transport};

pub use self::error::ConfigError;
pub use self::layout::{
    ControlCharacters, FacilityFrom, KUBERNETES_SD_ID, Layout, Oversize, PART_SD_ID, SdElement,
    SeverityFrom,
};
use self::options::Options;
pub use self::options::{OPTIONS, OptionInfo, Properties, key_of};
pub use self::queue::QueueConfig;
pub use self::value::{size, size_text};
use crate::identity;
use crate::selection::{LabelSelector, NamePatterns, Selection, Stream};

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
    /// Whether a record's `cluster_name` becomes HOSTNAME.
    pub record_cluster_name: bool,
    /// The only namespace whose records are sent.
    pub namespace: Option<String>,
    /// Which of them.
    pub selection: Selection,
    /// The form of messages.
    pub layout: Layout,
    /// The queue on disk, if there is one.
    pub queue: Option<QueueConfig>,
    /// How long the output's end may take.
    pub exit_timeout: Duration,
    /// What the user should know, though it is no error.
    pub warnings: Vec<String>,
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
        let targets = targets(&options, protocol, &mut warnings)?;
        let identity = options.choice(
            "identity",
            &[
                ("tag", identity::Source::Tag),
                ("record", identity::Source::Record),
                ("none", identity::Source::None),
            ],
        )?;
        Ok(Self {
            framing: framing(&options, protocol)?,
            identity,
            record_cluster_name: options.flag("record_cluster_name")?,
            namespace: namespace(&options, identity)?,
            selection: selection(&options)?,
            layout: layout::parse(&options, protocol, &mut warnings)?,
            queue: queue::parse(&options)?,
            exit_timeout: options.duration("exit_timeout")?,
            targets,
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
    let framing = options.choice(
        "framing",
        &[
            ("octet-counting", Framing::OctetCounting),
            ("newline", Framing::Newline),
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
    let replay_buffer = options.parsed("replay_buffer", |text| {
        if text.eq_ignore_ascii_case("auto") {
            Ok(ReplayBuffer::FollowWindow)
        } else {
            value::size(text, 0, LARGEST_REPLAY)
                .map(ReplayBuffer::Fixed)
                .map_err(|problem| format!("{problem}, or auto"))
        }
    })?;
    Ok(Policy {
        connect_timeout: options.duration("connect_timeout")?,
        write_timeout: options.duration("write_timeout")?,
        close_timeout: options.duration("close_timeout")?,
        backoff_min,
        backoff_max,
        replay_buffer: match protocol {
            Protocol::Tls | Protocol::Tcp => replay_buffer,
            // Nothing is acknowledged, or by the program that has it.
            Protocol::Udp | Protocol::Relp | Protocol::RelpTls => ReplayBuffer::Fixed(0),
        },
        replay_age: options.duration("replay_age")?,
    })
}

/// The only namespace whose records are sent, or none for all of them. Fluent
/// Bit passes `namespace ${UNSET}` as an absent key: to send all namespaces has
/// to be asked for, so that an unset variable does not do it.
fn namespace(
    options: &Options<'_>,
    identity: identity::Source,
) -> Result<Option<String>, ConfigError> {
    let everything = options.flag("cluster")?;
    let namespace = options.text("namespace");
    let problem = match (&namespace, identity) {
        (Some(_), _) if everything => {
            "contradicts cluster on, which sends all namespaces: set one of them"
        }
        (Some(_), identity::Source::None) => {
            "contradicts identity none, with which no record has a namespace"
        }
        (None, identity::Source::Tag | identity::Source::Record) if !everything => {
            "is missing or empty: set the only namespace whose records are sent, cluster on to \
             send all, or identity none where records are not of Kubernetes"
        }
        _ => return Ok(namespace),
    };
    Err(options.error("namespace", problem))
}

fn selection(options: &Options<'_>) -> Result<Selection, ConfigError> {
    let names = |key| options.optional(key, NamePatterns::parse);
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

#[cfg(test)]
mod tests;
