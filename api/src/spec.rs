//! The specs of the resources.
//!
//! The schema rejects invalid values with a message where it can. The controller rejects
//! the rest, such as a reference to a Secret that does not exist or an invalid template.
#![allow(unreachable_pub, reason = "the derives generate public items")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EventFormat, EventSelection, SinkStatus};

/// Sends the logs and events of a namespace to a syslog server.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "syslogsink.io",
    version = "v1alpha1",
    kind = "LogSink",
    namespaced,
    shortname = "lsink",
    category = "sinks",
    status = "SinkStatus",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec..host"}"#,
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec..port"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Configured","type":"string","jsonPath":".status.conditions[?(@.type==\"Configured\")].status"}"#,
    printcolumn = r#"{"name":"Delivering","type":"string","jsonPath":".status.conditions[?(@.type==\"Delivering\")].status"}"#,
    printcolumn = r#"{"name":"Waiting","type":"integer","jsonPath":".status.counts.waiting","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.host) != has(self.servers)")
        .message("either host or servers names where to send to"),
    validation = Rule::new("!has(self.tls) || self.transport in ['tls', 'relp+tls']")
        .message("tls is for the transports tls and relp+tls"),
    validation = Rule::new("self.sharing == 'failover' || has(self.servers)")
        .message("sharing balance is for several servers")
)]
pub struct LogSinkSpec {
    /// The protocol of the sink.
    #[serde(default, rename = "type")]
    pub kind: SinkType,
    /// The name or address of the server.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The server's port. Defaults to 6514 for TLS, 514 for TCP and UDP, and 2514 for
    /// RELP.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Several servers instead of one host, the preferred one first. How they are used is
    /// set by `sharing`.
    #[schemars(length(min = 1, max = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<Server>>,
    /// The distribution of messages to several servers.
    #[serde(default)]
    pub sharing: Sharing,
    /// The transport protocol.
    #[serde(default)]
    pub transport: Transport,
    /// TLS settings, for the transports `tls` and `relp+tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Selects the containers whose logs are sent; all of them by default.
    #[serde(default)]
    pub selection: Selection,
    /// Whether the controller sends Kubernetes events as well.
    #[serde(default = "default_events")]
    pub events: bool,
    /// Selects the events that are sent; all of them by default.
    #[serde(default)]
    pub event_selection: EventSelection,
    /// Changes to the format of messages.
    #[serde(default)]
    pub format: Format,
    /// The maximum size of a message in bytes, 8000 by default (1180 for UDP); a
    /// longer one is split. Must not exceed the receiver's limit: rsyslog accepts
    /// 8096 bytes by default, syslog-ng 65536.
    #[schemars(range(min = 1024, max = 16_777_216))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<u32>,
    /// The maximum size of this sink's queue on the disk of each node: `50M` to `1000G`,
    /// such as `512M` or `2G`. When the queue is full, the oldest messages are lost and
    /// counted. With `sharing: balance`, each server has an equal part of it.
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = Rule::new("self.matches('^([5-9][0-9]|[1-9][0-9]{2,5})M$|^([1-9][0-9]{0,2}|1000)G$')")
            .message("allowed is 50M to 1000G, such as 512M or 2G")
    )]
    #[serde(default = "default_buffer_limit")]
    pub buffer_limit: String,
}

/// Sends the logs and events of many namespaces to an operator's syslog server.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "syslogsink.io",
    version = "v1alpha1",
    kind = "ClusterLogSink",
    shortname = "clsink",
    category = "sinks",
    status = "SinkStatus",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.sink.type"}"#,
    printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.sink..host"}"#,
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.sink..port"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Configured","type":"string","jsonPath":".status.conditions[?(@.type==\"Configured\")].status"}"#,
    printcolumn = r#"{"name":"Delivering","type":"string","jsonPath":".status.conditions[?(@.type==\"Delivering\")].status"}"#,
    printcolumn = r#"{"name":"Waiting","type":"integer","jsonPath":".status.counts.waiting","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLogSinkSpec {
    /// Where to, and what: all that the `spec` of a `LogSink` has.
    pub sink: LogSinkSpec,
    /// Only namespaces with such labels; all of them where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Not these namespaces.
    #[schemars(length(max = 1000))]
    #[serde(default)]
    pub exclude_namespaces: Vec<String>,
    /// Whether the agents' own log is sent as well. While the receiver is down, each
    /// failed attempt adds a line to the queue, up to `bufferLimit`.
    #[serde(default)]
    pub include_agent_logs: bool,
}

/// The protocol of a sink.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkType {
    /// Syslog (RFC 5424).
    #[default]
    Syslog,
}

/// One of several servers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Server {
    /// The name or address of the server.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$")
    )]
    pub host: String,
    /// The server's port. Defaults to the port of the transport.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The distribution of messages to several servers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// All messages go to the first server that can be reached.
    #[default]
    Failover,
    /// The log of each container goes to one of the servers.
    Balance,
}

/// Selects logs. A log is sent as well if the agent does not know whether it is selected,
/// because it could not look up the pod's labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// Only containers with one of these names; `*` stands for any characters.
    #[schemars(length(max = 100))]
    #[serde(default)]
    pub containers: Vec<String>,
    /// Only pods with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Only this stream of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Excludes selected logs.
    #[serde(default)]
    pub exclude: Exclusion,
}

/// Excludes logs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exclusion {
    /// Containers with one of these names; `*` stands for any characters.
    #[schemars(length(max = 100))]
    #[serde(default)]
    pub containers: Vec<String>,
    /// Pods with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// An output stream of a container.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Transport {
    /// TLS (RFC 5425).
    #[default]
    #[serde(rename = "tls")]
    Tls,
    /// Plain TCP (RFC 6587).
    #[serde(rename = "tcp")]
    Tcp,
    /// UDP (RFC 5426), without acknowledgement.
    #[serde(rename = "udp")]
    Udp,
    /// RELP, in which the receiver's program acknowledges each message.
    #[serde(rename = "relp")]
    Relp,
    /// RELP over TLS.
    #[serde(rename = "relp+tls")]
    RelpTls,
}

/// TLS settings.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// The CA certificates that are trusted to sign the receiver's certificate, or the
    /// receiver's certificate itself if it is self-signed. Defaults to the CAs in the agents'
    /// image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// The Secret of the type `kubernetes.io/tls` with the client certificate.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret: Option<String>,
    /// The name that the receiver's certificate must have. Defaults to the host.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The SHA-256 fingerprints of accepted receiver certificates, such as
    /// `sha-256:AB:CD:...` (RFC 5425, section 4.2.2).
    #[schemars(length(max = 8))]
    #[serde(default)]
    pub pins: Vec<String>,
    /// The minimum version of TLS.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Accept any certificate, without verification.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// A source of CA certificates in PEM.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.pem), has(self.secret), has(self.configMap)].filter(x, x).size() == 1")
        .message("exactly one of pem, secret and configMap is needed")
)]
pub struct CaSource {
    /// The certificates.
    #[schemars(length(max = 100_000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyReference>,
    /// A key of a `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyReference>,
}

/// A key of an object in the sink's namespace, or in the controller's namespace for a
/// `ClusterLogSink`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct KeyReference {
    /// The name of the object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The key in the object.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "default_ca_key")]
    pub key: String,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// The format of messages: the plugin's keys, with its templates
/// (docs/CONFIGURATION.md).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Format {
    /// The facility: a name, a number, or a template.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facility: Option<String>,
    /// The severity: a name, a number, or a template.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// HOSTNAME, as a template. Defaults to the node's name.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// APP-NAME, as a template. Defaults to `pod.log/<namespace>/<pod>/<container>`.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// PROCID, as a template. Defaults to `-`.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procid: Option<String>,
    /// MSGID, as a template. Defaults to `-`.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msgid: Option<String>,
    /// MSG, as a template. Defaults to the line.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Structured data in addition to `kubernetes@47450`.
    #[schemars(length(min = 1, max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_data: Option<String>,
    /// The format of the MSG of events.
    #[serde(default)]
    pub events: EventFormat,
}

fn default_buffer_limit() -> String {
    "512M".to_owned()
}

const fn default_events() -> bool {
    true
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}
