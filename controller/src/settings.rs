//! What an operator sets for the whole cluster, in a YAML file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, ResourceRequirements, SELinuxOptions, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mapper::config::{self, size_text};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// See the [module](self). Every key may be absent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The controller's own namespace, and the agents'; that of the pod
    /// (`POD_NAMESPACE`) where it is not said.
    pub namespace: String,
    /// The Deployment that the controller runs as. What the controller makes
    /// goes when that goes.
    pub deployment: Option<String>,
    /// How many tail inputs an agent may have for the sinks of namespaces: each
    /// takes an inotify instance, of which a user has 128 on most nodes.
    pub max_lanes: u16,
    /// How many sinks a namespace may have: each takes a thread, a
    /// connection and a queue on every node.
    pub max_sinks_per_namespace: u16,
    /// How many cluster sinks there may be: each takes a tail input.
    pub max_cluster_sinks: u16,
    /// The agents' folders.
    pub paths: Paths,
    /// The agents.
    pub agent: AgentSettings,
    /// What waits for sinks on a node's disk.
    pub queues: QueueSettings,
    /// What the controller keeps of the cluster's Events.
    pub events: EventSettings,
    /// When something is done.
    pub pace: Pace,
    /// The address for metrics and health. `[::]` is every address, of IPv4 as well.
    pub listen: SocketAddr,
    /// How the controller's own log is written.
    pub log: LogFormat,
}

/// The folders of an agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Paths {
    /// The rendered files.
    pub config: String,
    /// What has to outlive the agent: positions in files, chunks, queues.
    pub state: String,
    /// The log files of containers, as the kubelet names them.
    pub containers: String,
}

impl Paths {
    /// The folder of all sinks' queues.
    #[must_use]
    pub fn queues(&self) -> String {
        format!("{}/queues", self.state)
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            config: "/etc/syslog-sink".to_owned(),
            state: "/var/lib/syslog-sink".to_owned(),
            containers: "/var/log/containers".to_owned(),
        }
    }
}

/// What the agents' pods are like.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentSettings {
    /// Fluent Bit with the plugin.
    pub image: String,
    /// As in a pod.
    pub image_pull_policy: Option<String>,
    /// As in a pod.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// As in a container.
    pub resources: ResourceRequirements,
    /// As in a pod; by default agents run on every node.
    pub tolerations: Vec<Toleration>,
    /// As in a pod; by default nodes with Linux.
    pub node_selector: BTreeMap<String, String>,
    /// As in a pod; by default no nodes that run pods elsewhere, which have no folder
    /// of containers' logs.
    pub affinity: Affinity,
    /// As in a pod.
    pub priority_class_name: Option<String>,
    /// As in a container: a node with `SELinux` lets only some types read others' logs.
    pub se_linux_options: Option<SELinuxOptions>,
    /// The nodes' folders that agents read, each mounted where it is on the node:
    /// those of the logs, and those to which links in them lead.
    pub log_folders: Vec<String>,
    /// Where Fluent Bit answers for its metrics and health.
    pub metrics_port: u16,
    /// How many percent of the agents may be replaced at a time.
    pub max_unavailable_percent: u8,
}

impl AgentSettings {
    /// How many of so many agents may be replaced at a time.
    #[must_use]
    pub fn at_once(&self, agents: usize) -> usize {
        let percent = usize::from(self.max_unavailable_percent);
        (agents * percent).div_ceil(100).max(1)
    }
}

/// The maximum of a node's disk that may hold what waits for sinks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The largest `bufferLimit` of a namespace's sink.
    pub max_per_sink: Size,
    /// The largest sum of the `bufferLimit`s of a namespace's sinks.
    pub max_per_namespace: Size,
    /// What the queues of all sinks may hold together: beyond it the largest queue
    /// loses its oldest messages.
    pub max_per_node: Size,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            max_per_sink: Size(10_000_000_000),
            max_per_namespace: Size(20_000_000_000),
            max_per_node: Size(20_000_000_000),
        }
    }
}

/// A number of bytes, written like `512M` or `20G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size = config::size(&text, 50_000_000, 1_000_000_000_000_000);
        let invalid = |problem| serde::de::Error::custom(format!("{text:?}: {problem}"));
        size.map(|size| Self(size as u64)).map_err(invalid)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&size_text(self.0 as usize))
    }
}

/// What the controller keeps of Events for sinks that do not take them. What is
/// more is dropped, the oldest first.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventSettings {
    /// For one sink.
    pub max_bytes_per_sink: usize,
    /// For all of them.
    pub max_bytes: usize,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            max_bytes_per_sink: 8 * 1024 * 1024,
            max_bytes: 128 * 1024 * 1024,
        }
    }
}

/// When something is done.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pace {
    /// Changes are gathered until there was none for so long,
    #[serde(deserialize_with = "seconds")]
    pub quiet: Duration,
    /// but no longer than this.
    #[serde(deserialize_with = "seconds")]
    pub gather: Duration,
    /// After this everything is looked at again, changed or not: the Secrets
    /// that sinks name are not watched.
    #[serde(deserialize_with = "seconds")]
    pub resync: Duration,
    /// The wait after a failure, twice as long after each further one, up to
    /// the resync.
    #[serde(deserialize_with = "seconds")]
    pub retry: Duration,
    /// How often the agents are asked how they deliver.
    #[serde(deserialize_with = "seconds")]
    pub observe: Duration,
    /// How often what they have counted is written down, where nothing else
    /// changes.
    #[serde(deserialize_with = "seconds")]
    pub count: Duration,
    /// For how long the oldest message may wait before its sink is behind.
    #[serde(deserialize_with = "seconds")]
    pub behind: Duration,
    /// For how long the first agent of a revision has to be ready before the
    /// others follow.
    #[serde(deserialize_with = "seconds")]
    pub settle: Duration,
    /// After how long without any agent that is ready a revision is taken back.
    #[serde(deserialize_with = "seconds")]
    pub trial: Duration,
    /// For how long a roll under way keeps the next one waiting.
    #[serde(deserialize_with = "seconds")]
    pub roll: Duration,
    /// How often it is written down which Events were delivered: after a crash
    /// the next leader sends again what was delivered since.
    #[serde(deserialize_with = "seconds")]
    pub checkpoint: Duration,
    /// How long a round of requests to the API server may take.
    #[serde(deserialize_with = "seconds")]
    pub request: Duration,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// An object on each line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the settings: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is not what settings look like.
    #[error("the settings are wrong: {0}")]
    Malformed(String),
    /// A value that is not allowed.
    #[error("the settings' {key} is {value}, allowed is {allowed}")]
    NotAllowed {
        /// Which.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl Settings {
    /// Reads settings.
    ///
    /// # Errors
    ///
    /// Names the key that is not known, or the value that is not allowed.
    pub fn parse(yaml: &str) -> Result<Self, SettingsError> {
        let settings: Self = if yaml.trim().is_empty() {
            Self::default()
        } else {
            serde_saphyr::from_str(yaml)
                .map_err(|error| SettingsError::Malformed(error.to_string()))?
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let not_allowed = |key, value: &dyn std::fmt::Display, allowed| {
            Err(SettingsError::NotAllowed {
                key,
                value: value.to_string(),
                allowed,
            })
        };
        let EventSettings {
            max_bytes_per_sink,
            max_bytes,
        } = self.events;
        if max_bytes_per_sink == 0 || max_bytes_per_sink > max_bytes {
            let allowed = "1 to events.maxBytes";
            return not_allowed("events.maxBytesPerSink", &max_bytes_per_sink, allowed);
        }
        let QueueSettings {
            max_per_sink,
            max_per_namespace,
            max_per_node,
        } = self.queues;
        if max_per_sink > max_per_namespace {
            let allowed = "up to queues.maxPerNamespace";
            return not_allowed("queues.maxPerSink", &max_per_sink, allowed);
        }
        if max_per_namespace > max_per_node {
            let allowed = "up to queues.maxPerNode";
            return not_allowed("queues.maxPerNamespace", &max_per_namespace, allowed);
        }
        let percent = self.agent.max_unavailable_percent;
        if !(1..=100).contains(&percent) {
            return not_allowed("agent.maxUnavailablePercent", &percent, "1 to 100");
        }
        if !(1..=1000).contains(&self.max_lanes) {
            return not_allowed("maxLanes", &self.max_lanes, "1 to 1000");
        }
        if self.agent.metrics_port == 0 {
            return not_allowed("agent.metricsPort", &0, "1 to 65535");
        }
        let folders = &self.agent.log_folders;
        let folders = folders.iter().map(|folder| ("agent.logFolders", folder));
        let paths = [
            ("paths.config", &self.paths.config),
            ("paths.state", &self.paths.state),
            ("paths.containers", &self.paths.containers),
        ];
        for (key, path) in paths.into_iter().chain(folders) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
            if !path.starts_with('/') || !path.bytes().all(plain) {
                return not_allowed(key, path, "an absolute path of letters, digits and ._-");
            }
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: std::env::var("POD_NAMESPACE").unwrap_or_else(|_| "syslog-sink".to_owned()),
            deployment: None,
            max_lanes: 32,
            max_sinks_per_namespace: 16,
            max_cluster_sinks: 32,
            paths: Paths::default(),
            agent: AgentSettings::default(),
            queues: QueueSettings::default(),
            events: EventSettings::default(),
            pace: Pace::default(),
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)),
            log: LogFormat::default(),
        }
    }
}

impl Default for AgentSettings {
    fn default() -> Self {
        let quantities = |texts: &[(&str, &str)]| {
            let quantity =
                |(name, text): &(&str, &str)| ((*name).to_owned(), Quantity((*text).to_owned()));
            Some(texts.iter().map(quantity).collect())
        };
        Self {
            image: "syslog-sink-agent".to_owned(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            resources: ResourceRequirements {
                requests: quantities(&[("cpu", "50m"), ("memory", "64Mi")]),
                limits: quantities(&[("memory", "1Gi")]),
                ..ResourceRequirements::default()
            },
            tolerations: vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }],
            node_selector: BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]),
            affinity: elsewhere(),
            priority_class_name: None,
            se_linux_options: None,
            log_folders: vec!["/var/log".to_owned()],
            metrics_port: 2020,
            max_unavailable_percent: 5,
        }
    }
}

/// Not the nodes that stand for somebody else's machines.
fn elsewhere() -> Affinity {
    let no = |key: &str, value: &str| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![value.to_owned()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![
            no("eks.amazonaws.com/compute-type", "fargate"),
            no("type", "virtual-kubelet"),
        ]),
        match_fields: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(3),
            gather: Duration::from_secs(15),
            resync: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            observe: Duration::from_secs(5),
            count: Duration::from_secs(60),
            behind: Duration::from_secs(60),
            settle: Duration::from_secs(10),
            trial: Duration::from_secs(180),
            roll: Duration::from_secs(120),
            checkpoint: Duration::from_secs(2),
            request: Duration::from_secs(60),
        }
    }
}

/// A number of seconds that is more than nothing.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if (0.001..=86_400.0).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err(serde::de::Error::custom(format!(
            "{number} is no number of seconds between 0.001 and 86400"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_the_default() {
        for text in ["", "# nothing\n{}"] {
            let settings = Settings::parse(text).unwrap();
            assert_eq!(settings.max_lanes, 32);
            assert_eq!(settings.pace.quiet, Duration::from_secs(3));
        }
        let settings = Settings::parse(
            "namespace: logs\nagent:\n  image: registry/agent:1\n  tolerations: []\n\
             pace:\n  quiet: 0.5\nlisten: 127.0.0.1:9000\nlog: text\n",
        )
        .unwrap();
        assert_eq!(settings.namespace, "logs");
        assert_eq!(settings.agent.image, "registry/agent:1");
        assert!(settings.agent.tolerations.is_empty());
        assert_eq!(settings.agent.metrics_port, 2020);
        assert_eq!(settings.pace.quiet, Duration::from_millis(500));
        assert_eq!(settings.log, LogFormat::Text);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("namespaces: a", "namespaces"),
            ("agent:\n  imagee: a", "imagee"),
            ("pace:\n  quiet: 0", "between 0.001 and 86400"),
            ("listen: nowhere", "socket address"),
            ("maxLanes: 0", "maxLanes is 0, allowed is 1 to 1000"),
            (
                "agent:\n  maxUnavailablePercent: 101",
                "maxUnavailablePercent is 101, allowed is 1 to 100",
            ),
            ("paths:\n  state: ./here", "paths.state is ./here"),
            ("paths:\n  state: \"/a\\nb\"", "paths.state"),
            (
                "agent:\n  logFolders: [/var/log, logs]",
                "agent.logFolders is logs, allowed is an absolute path",
            ),
            ("log: xml", "xml"),
            ("queues:\n  maxPerSink: 10X", "\"10X\": invalid size"),
            (
                "queues:\n  maxPerSink: 30G",
                "queues.maxPerSink is 30G, allowed is up to queues.maxPerNamespace",
            ),
            (
                "queues:\n  maxPerNamespace: 30G",
                "queues.maxPerNamespace is 30G, allowed is up to queues.maxPerNode",
            ),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
