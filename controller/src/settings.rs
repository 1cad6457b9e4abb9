//! The controller's settings: a YAML file, written by the operator.

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

/// The settings of the controller. Every key is optional.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The namespace of the controller and the agents. Defaults to the pod's namespace
    /// (`POD_NAMESPACE`).
    pub namespace: String,
    /// The Deployment of the controller. It owns the objects that the controller creates,
    /// so that they are deleted with it.
    pub deployment: Option<String>,
    /// The maximum number of sinks of a namespace. Each takes a connection and a queue on
    /// every node.
    pub max_sinks_per_namespace: u16,
    /// The maximum number of cluster sinks. Each takes a connection and a queue on every node.
    pub max_cluster_sinks: u16,
    /// The folders of the agents.
    pub paths: Paths,
    /// The agents' pods.
    pub agent: AgentSettings,
    /// The limits of queues on the nodes' disks.
    pub queues: QueueSettings,
    /// The limits of events that wait in the controller.
    pub events: EventSettings,
    /// Intervals and timeouts.
    pub timing: Timing,
    /// The address of the endpoint for metrics and health. `[::]` accepts IPv4 as well.
    pub listen: SocketAddr,
    /// The format of the controller's log.
    pub log: LogFormat,
}

/// The folders of an agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Paths {
    /// The folder of the configuration.
    pub config: String,
    /// The folder for data that outlives an agent: the queues.
    pub state: String,
    /// The kubelet's folder of all pods' logs.
    pub pods: String,
    /// The folders to which links in the folder of pods' logs may lead.
    pub links: Vec<String>,
    /// The folder of the files with the labels of the node's pods.
    pub labels: String,
}

impl Paths {
    /// Returns the folder of the sinks' queues.
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
            pods: "/var/log/pods".to_owned(),
            links: Vec::new(),
            labels: "/run/syslog-sink/labels".to_owned(),
        }
    }
}

/// The settings of the agents' pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentSettings {
    /// The image: Fluent Bit with the plugin.
    pub image: String,
    /// The pull policy, as in a container.
    pub image_pull_policy: Option<String>,
    /// The pull secrets, as in a pod.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The resources, as in a container.
    pub resources: ResourceRequirements,
    /// The tolerations, as in a pod. By default all taints are tolerated.
    pub tolerations: Vec<Toleration>,
    /// The node selector, as in a pod. Defaults to Linux.
    pub node_selector: BTreeMap<String, String>,
    /// The affinity, as in a pod. By default, virtual nodes are excluded: they run pods
    /// elsewhere and have no log files.
    pub affinity: Affinity,
    /// The priority class, as in a pod.
    pub priority_class_name: Option<String>,
    /// The `SELinux` options, as in a container. A node with `SELinux` allows only some
    /// types to read the logs of other containers.
    pub se_linux_options: Option<SELinuxOptions>,
    /// The port of Fluent Bit's endpoint for metrics and health.
    pub metrics_port: u16,
    /// The maximum percentage of agents that are replaced at the same time.
    pub max_unavailable_percent: u8,
}

impl AgentSettings {
    /// Returns the number of agents that may be replaced at the same time.
    #[must_use]
    pub fn at_once(&self, agents: usize) -> usize {
        let percent = usize::from(self.max_unavailable_percent);
        (agents * percent).div_ceil(100).max(1)
    }
}

/// The limits of queues on a node's disk.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QueueSettings {
    /// The largest `bufferLimit` of a namespace's sink.
    pub max_per_sink: Size,
    /// The largest sum of the `bufferLimit`s of a namespace's sinks.
    pub max_per_namespace: Size,
    /// The maximum size of all queues of a node. When it is exceeded, the largest queue
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

/// A number of bytes, written as `512M` or `20G`.
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

/// The limits of events that wait in the controller for sinks. Beyond them, the oldest are
/// dropped.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EventSettings {
    /// The maximum number of bytes for one sink.
    pub max_bytes_per_sink: usize,
    /// The maximum number of bytes for all sinks.
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

/// The intervals and timeouts of the controller. The settings have them in seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timing {
    /// The time without changes after which the gathered changes are applied.
    #[serde(rename = "debounceSeconds", deserialize_with = "seconds")]
    pub debounce: Duration,
    /// The maximum time for which changes are gathered.
    #[serde(rename = "maxDebounceSeconds", deserialize_with = "seconds")]
    pub max_debounce: Duration,
    /// The interval at which everything is read and applied again, changed or not: the
    /// Secrets that sinks name are not watched.
    #[serde(rename = "resyncSeconds", deserialize_with = "seconds")]
    pub resync: Duration,
    /// The wait after a failure. It doubles with each further failure, up to the resync
    /// interval.
    #[serde(rename = "retrySeconds", deserialize_with = "seconds")]
    pub retry: Duration,
    /// The interval at which the agents' metrics are read.
    #[serde(rename = "scrapeIntervalSeconds", deserialize_with = "seconds")]
    pub scrape_interval: Duration,
    /// The interval at which changed counts are written to the statuses, if nothing else
    /// changes.
    #[serde(rename = "statusIntervalSeconds", deserialize_with = "seconds")]
    pub status_interval: Duration,
    /// The age of the oldest waiting message from which a sink is behind.
    #[serde(rename = "behindSeconds", deserialize_with = "seconds")]
    pub behind: Duration,
    /// The time for which the canary agent of a revision must be ready before the others
    /// follow.
    #[serde(rename = "canaryReadySeconds", deserialize_with = "seconds")]
    pub canary_ready: Duration,
    /// The time in which the canary agent must become ready; otherwise the revision is
    /// rolled back.
    #[serde(rename = "canaryTimeoutSeconds", deserialize_with = "seconds")]
    pub canary_timeout: Duration,
    /// The time after which an unfinished rollout no longer delays the next one.
    #[serde(rename = "rolloutTimeoutSeconds", deserialize_with = "seconds")]
    pub rollout_timeout: Duration,
    /// The interval at which the position in the Events is stored: after a crash the next
    /// leader sends again what was delivered since.
    #[serde(rename = "checkpointIntervalSeconds", deserialize_with = "seconds")]
    pub checkpoint_interval: Duration,
    /// The maximum time for a round of requests to the API server.
    #[serde(rename = "requestTimeoutSeconds", deserialize_with = "seconds")]
    pub request_timeout: Duration,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Text for people.
    Text,
}

/// The reason why settings are invalid.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The text is not YAML, or has unknown keys.
    #[error("the settings are wrong: {0}")]
    Malformed(String),
    /// A value is not allowed.
    #[error("the settings' {key} is {value}, allowed is {allowed}")]
    NotAllowed {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
}

impl Settings {
    /// Parses settings.
    ///
    /// # Errors
    ///
    /// Returns an error that names the unknown key, or the value that is not allowed.
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
        if self.agent.metrics_port == 0 {
            return not_allowed("agent.metricsPort", &0, "1 to 65535");
        }
        let paths = [
            ("paths.config", &self.paths.config),
            ("paths.state", &self.paths.state),
            ("paths.pods", &self.paths.pods),
            ("paths.labels", &self.paths.labels),
        ];
        let links = self.paths.links.iter().map(|path| ("paths.links", path));
        for (key, path) in paths.into_iter().chain(links) {
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
            max_sinks_per_namespace: 16,
            max_cluster_sinks: 32,
            paths: Paths::default(),
            agent: AgentSettings::default(),
            queues: QueueSettings::default(),
            events: EventSettings::default(),
            timing: Timing::default(),
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
            metrics_port: 2020,
            max_unavailable_percent: 5,
        }
    }
}

/// Excludes nodes that stand for machines elsewhere.
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

impl Default for Timing {
    fn default() -> Self {
        Self {
            debounce: Duration::from_secs(3),
            max_debounce: Duration::from_secs(15),
            resync: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            scrape_interval: Duration::from_secs(5),
            status_interval: Duration::from_secs(60),
            behind: Duration::from_secs(60),
            canary_ready: Duration::from_secs(10),
            canary_timeout: Duration::from_secs(180),
            rollout_timeout: Duration::from_secs(120),
            checkpoint_interval: Duration::from_secs(2),
            request_timeout: Duration::from_secs(60),
        }
    }
}

/// Deserializes a number of seconds, which may have a fraction.
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
    fn missing_settings_have_defaults() {
        for text in ["", "# nothing\n{}"] {
            let settings = Settings::parse(text).unwrap();
            assert_eq!(settings.max_cluster_sinks, 32);
            assert_eq!(settings.timing.debounce, Duration::from_secs(3));
        }
        let settings = Settings::parse(
            "namespace: logs\nagent:\n  image: registry/agent:1\n  tolerations: []\n\
             timing:\n  debounceSeconds: 0.5\nlisten: 127.0.0.1:9000\nlog: text\n",
        )
        .unwrap();
        assert_eq!(settings.namespace, "logs");
        assert_eq!(settings.agent.image, "registry/agent:1");
        assert!(settings.agent.tolerations.is_empty());
        assert_eq!(settings.agent.metrics_port, 2020);
        assert_eq!(settings.timing.debounce, Duration::from_millis(500));
        assert_eq!(settings.log, LogFormat::Text);
    }

    #[test]
    fn errors_name_the_invalid_setting() {
        for (text, words) in [
            ("namespaces: a", "namespaces"),
            ("agent:\n  imagee: a", "imagee"),
            ("timing:\n  debounceSeconds: 0", "between 0.001 and 86400"),
            ("listen: nowhere", "socket address"),
            // A setting of an earlier version.
            ("maxLanes: 32", "maxLanes"),
            (
                "agent:\n  maxUnavailablePercent: 101",
                "maxUnavailablePercent is 101, allowed is 1 to 100",
            ),
            ("paths:\n  state: ./here", "paths.state is ./here"),
            ("paths:\n  state: \"/a\\nb\"", "paths.state"),
            (
                "paths:\n  pods: logs",
                "paths.pods is logs, allowed is an absolute path",
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
