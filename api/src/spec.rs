//! What users write.
//!
//! The schema refuses what it can with a message; what it cannot see (whether
//! a Secret exists, whether a template is one) is the plan's to refuse.
#![allow(unreachable_pub, reason = "what the derives make; all of it is public")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EventFormat, EventSelection, SinkStatus};

/// The logs of a namespace, to its own syslog server.
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
    /// What the sink speaks.
    #[serde(default, rename = "type")]
    pub kind: SinkType,
    /// The name or address of the server.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port; without it that of the transport: 6514 for TLS, 514 for TCP
    /// and UDP, 2514 for RELP.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Several servers in the place of one, the preferred one first: whichever
    /// answers has everything.
    #[schemars(length(min = 1, max = 8))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<Server>>,
    /// How several servers share the work.
    #[serde(default)]
    pub sharing: Sharing,
    /// How messages get there.
    #[serde(default)]
    pub transport: Transport,
    /// For the transports `tls` and `relp+tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Which of the containers' logs; all of them by default.
    #[serde(default)]
    pub selection: Selection,
    /// Whether Kubernetes' events are sent as well, by the controller.
    #[serde(default = "default_events")]
    pub events: bool,
    /// Which of the events; all of them by default.
    #[serde(default)]
    pub event_selection: EventSelection,
    /// What messages look like, where it is not the usual.
    #[serde(default)]
    pub format: Format,
    /// The maximum size of a message in bytes, 8000 by default (1180 for UDP); a
    /// longer one is split. Must not exceed the receiver's limit: rsyslog accepts
    /// 8096 bytes by default, syslog-ng 65536.
    #[schemars(range(min = 1024, max = 16_777_216))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<u32>,
    /// The maximum number of bytes that wait on a node's disk for this sink: `50M` to
    /// `1000G`, such as `512M` or `2G`. Beyond it the oldest messages are lost and
    /// counted. With `sharing: balance` each server has an equal part.
    #[schemars(length(max = 16))]
    #[x_kube(
        validation = Rule::new("self.matches('^([5-9][0-9]|[1-9][0-9]{2,5})M$|^([1-9][0-9]{0,2}|1000)G$')")
            .message("allowed is 50M to 1000G, such as 512M or 2G")
    )]
    #[serde(default = "default_buffer_limit")]
    pub buffer_limit: String,
}

/// The logs of many namespaces, to an operator's syslog server.
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
    /// failed try adds a line, which is tried as well: up to `bufferLimit`.
    #[serde(default)]
    pub include_agent_logs: bool,
}

/// What a sink speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkType {
    /// RFC 5424.
    #[default]
    Syslog,
}

/// One of several servers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Server {
    /// The name or address.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$")
    )]
    pub host: String,
    /// The port; without it that of the transport.
    #[schemars(range(min = 1, max = 65535))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// How several servers share the work.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// The first that answers has all of it.
    #[default]
    Failover,
    /// Each container's log goes to one of them.
    Balance,
}

/// Which logs. One of which it is not known whether it is meant, because the
/// agent could not ask for its pod's labels, is sent.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// Only containers with one of these names; `*` stands for any characters.
    #[schemars(length(max = 100))]
    #[serde(default)]
    pub containers: Vec<String>,
    /// Only pods with such labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Only what containers write to this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Not these, though they are selected.
    #[serde(default)]
    pub exclude: Exclusion,
}

/// What is left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exclusion {
    /// Containers with one of these names; `*` stands for any characters.
    #[schemars(length(max = 100))]
    #[serde(default)]
    pub containers: Vec<String>,
    /// Pods with such labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// What a container writes to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// How messages get there.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Transport {
    /// TLS (RFC 5425).
    #[default]
    #[serde(rename = "tls")]
    Tls,
    /// Plain TCP (RFC 6587).
    #[serde(rename = "tcp")]
    Tcp,
    /// UDP (RFC 5426): nothing is acknowledged.
    #[serde(rename = "udp")]
    Udp,
    /// RELP: the receiver's program acknowledges each message.
    #[serde(rename = "relp")]
    Relp,
    /// RELP over TLS.
    #[serde(rename = "relp+tls")]
    RelpTls,
}

/// Whom to trust, and who we are.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// The CAs that may sign the receiver's certificate, and certificates that
    /// the receiver may present itself, such as a self-signed one; the CAs of
    /// the agent's image where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
    /// A Secret of the type `kubernetes.io/tls` with our certificate.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_secret: Option<String>,
    /// The name in the receiver's certificate, where it is not the host's.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// SHA-256 fingerprints that the receiver's certificate may have, such as
    /// `sha-256:AB:CD:...` (RFC 5425, section 4.2.2).
    #[schemars(length(max = 8))]
    #[serde(default)]
    pub pins: Vec<String>,
    /// The oldest version of TLS.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Trust any certificate.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Where CA certificates come from, in PEM.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.pem), has(self.secret), has(self.configMap)].filter(x, x).size() == 1")
        .message("exactly one of pem, secret and configMap is needed")
)]
pub struct CaSource {
    /// The certificates themselves.
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

/// A key of an object in the sink's own namespace; for a `ClusterLogSink`, in
/// the controller's.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct KeyReference {
    /// The object.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Its key.
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

/// What messages look like: the plugin's keys, with its templates
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
    /// HOSTNAME: a template; the node by default.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// APP-NAME: a template; `pod.log/<namespace>/<pod>/<container>` by default.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// PROCID: a template; `-` by default.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procid: Option<String>,
    /// MSGID: a template; `-` by default.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msgid: Option<String>,
    /// MSG: a template; the line by default.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Structured data besides `kubernetes@47450`.
    #[schemars(length(min = 1, max = 4096))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structured_data: Option<String>,
    /// What the message of an event is.
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
