//! The configuration of an output, validated once when it is parsed.

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
use crate::scope::{self, Scope};
use crate::selection::{LabelSelector, NamePatterns, Selection, Stream};

/// The configuration of one Fluent Bit `[OUTPUT]`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sink's name in PKS, if PKS made this output.
    pub instance_name: Option<String>,
    /// The targets to open: a single one, or one per server with `sharing balance`.
    pub targets: Vec<Target>,
    /// The framing of messages.
    pub framing: Framing,
    /// The source of records' identities.
    pub identity: identity::Source,
    /// Whether a record's `cluster_name` becomes HOSTNAME.
    pub record_cluster_name: bool,
    /// The only namespace whose records are sent, or `None` for all namespaces.
    pub namespace: Option<String>,
    /// The pods whose records are sent, with all namespaces.
    pub scope: Scope,
    /// The time from which the input that reads pod logs reads what was there before the
    /// output, in seconds since 1970-01-01T00:00:00Z.
    pub since: Option<u64>,
    /// The selection of records within the namespace.
    pub selection: Selection,
    /// The layout of messages.
    pub layout: Layout,
    /// The queue on disk, if configured.
    pub queue: Option<QueueConfig>,
    /// The maximum time that the output may take to shut down.
    pub exit_timeout: Duration,
    /// Warnings to log at the start: valid but questionable settings.
    pub warnings: Vec<String>,
}

/// The value of `transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tls,
    Tcp,
    Udp,
    Relp,
    RelpTls,
}

/// The value of `sharing`: the distribution of messages to several servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// The first server that answers gets all messages.
    Failover,
    /// Each server gets a share of the messages.
    Balance,
}

const LARGEST_REPLAY: usize = 256 * 1024 * 1024;
const LARGEST_WINDOW: usize = 100_000;

impl Config {
    /// Parses and validates all keys, and reads the files that they name.
    ///
    /// # Errors
    ///
    /// Returns an error if a required key is missing, a value is invalid, or a file
    /// cannot be used.
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
                ("group", identity::Source::Group),
                ("none", identity::Source::None),
            ],
        )?;
        Ok(Self {
            framing: framing(&options, protocol)?,
            identity,
            record_cluster_name: options.flag("record_cluster_name")?,
            namespace: namespace(&options, identity)?,
            scope: scope(&options)?,
            since: options.optional("since", since)?,
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
            "messages are sent unencrypted over TCP: as in PKS, this is the default with \
             instancename and without tlsconfig; set transport to choose explicitly"
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
        // UDP and RELP have their own framing.
        Protocol::Udp | Protocol::Relp | Protocol::RelpTls => Framing::Datagram,
        Protocol::Tls | Protocol::Tcp => framing,
    })
}

fn servers(options: &Options<'_>, protocol: Protocol) -> Result<Vec<Endpoint>, ConfigError> {
    let default_port = match protocol {
        Protocol::Tls => 6514,
        Protocol::Tcp | Protocol::Udp => 514,
        // IANA assigns no port to RELP; 2514 is the conventional one.
        Protocol::Relp | Protocol::RelpTls => 2514,
    };
    // PKS's name of the key.
    let key = match (options.text("servers"), options.text("addr")) {
        (None, Some(_)) => "addr",
        (Some(_), Some(_)) => {
            return Err(options.error("addr", "conflicts with servers: set only one of the two"));
        }
        (_, None) => "servers",
    };
    options.required(key, value::ADDRESS, |text| {
        value::addresses(text, default_port)
    })
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
            tls::reject_keys(options)?;
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
        "sharing",
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

/// Returns one target per server, each of which fails over to the servers after it
/// in the list.
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
        return Err(options.error("backoff_max", "must not be less than backoff_min"));
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
            // UDP acknowledges nothing; with RELP the receiving program acknowledges.
            Protocol::Udp | Protocol::Relp | Protocol::RelpTls => ReplayBuffer::Fixed(0),
        },
        replay_age: options.duration("replay_age")?,
    })
}

/// Parses `namespace`: the only namespace whose records are sent, or `None` for all
/// namespaces.
///
/// A scope is required: `namespace`, `cluster on` or `identity none`. Fluent Bit passes
/// `namespace ${UNSET}` as an absent key, and with a default of all namespaces, an unset
/// variable would send the logs of the whole cluster to one tenant's server.
fn namespace(
    options: &Options<'_>,
    identity: identity::Source,
) -> Result<Option<String>, ConfigError> {
    let all_namespaces = options.flag("cluster")?;
    let namespace = options.text("namespace");
    let problem = match (&namespace, identity) {
        (Some(_), _) if all_namespaces => {
            "conflicts with cluster on, which sends all namespaces: set only one of the two"
        }
        (Some(_), identity::Source::None) => {
            "conflicts with identity none, with which no record has a namespace"
        }
        (None, identity::Source::Tag | identity::Source::Record | identity::Source::Group)
            if !all_namespaces =>
        {
            "missing or empty: set namespace to send only its records, cluster on to send all \
             namespaces, or identity none if the records are not from Kubernetes"
        }
        _ => return Ok(namespace),
    };
    Err(options.error("namespace", problem))
}

fn scope(options: &Options<'_>) -> Result<Scope, ConfigError> {
    let is_cluster = options.flag("cluster")?;
    for key in ["namespaces", "exclude_namespaces"] {
        if !is_cluster && options.text(key).is_some() {
            return Err(options.error(key, "needs cluster on"));
        }
    }
    let excluded = options.optional("exclude_namespaces", scope::namespaces)?;
    let pods = options.optional("exclude_pods", scope::pods)?;
    Ok(Scope {
        namespaces: options.optional("namespaces", scope::namespaces)?,
        excluded_namespaces: excluded.unwrap_or_default(),
        excluded_pods: pods.unwrap_or_default(),
    })
}

/// Parses a time. Returns the seconds since 1970-01-01T00:00:00Z.
fn since(text: &str) -> Result<u64, String> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    let seconds = time.and_then(|time| u64::try_from(time.as_second()).ok());
    seconds.ok_or_else(|| "must be a time such as 2026-03-01T12:00:00Z".to_owned())
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
