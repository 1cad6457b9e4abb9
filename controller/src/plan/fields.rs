//! The fields of a sink and the plugin's keys that they set.
//!
//! The plugin's parser checks most values, and its errors name keys. Owners of sinks know
//! fields, so conditions name these.

use api::Reason;
use mapper::config::ConfigError;
use transport::Setting;

use super::refusal::Refusal;

/// A key of the plugin, and the field that sets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
}

/// Defines a constant for each field, and the table of all.
macro_rules! fields {
    ($($constant:ident: $key:literal = $name:literal,)*) => {
        $(pub(super) const $constant: Field = Field { key: $key, name: $name };)*
        pub(super) const FIELDS: &[Field] = &[$($constant,)*];
    };
}

fields! {
    HOST: "servers" = "host",
    SERVERS: "servers" = "servers",
    SHARING: "sharing" = "sharing",
    TRANSPORT: "transport" = "transport",
    TLS_CA: "tls_ca_file" = "tls.ca",
    TLS_CERT: "tls_cert_file" = "tls.clientCertificateSecret",
    TLS_KEY: "tls_key_file" = "tls.clientCertificateSecret",
    TLS_SERVER_NAME: "tls_server_name" = "tls.serverName",
    TLS_PINS: "tls_pins" = "tls.pins",
    TLS_MIN_VERSION: "tls_min_version" = "tls.minVersion",
    TLS_VERIFY: "tls_verify" = "tls.insecureSkipVerify",
    CONTAINERS: "containers" = "selection.containers",
    POD_SELECTOR: "pod_selector" = "selection.podSelector",
    STREAM: "stream" = "selection.stream",
    EXCLUDED_CONTAINERS: "exclude_containers" = "selection.exclude.containers",
    EXCLUDED_PODS: "exclude_pod_selector" = "selection.exclude.podSelector",
    FACILITY: "facility" = "format.facility",
    SEVERITY: "severity" = "format.severity",
    HOSTNAME: "hostname" = "format.hostname",
    // Always set, by the controller.
    RECORD_CLUSTER_NAME: "record_cluster_name" = "format.hostname",
    APP_NAME: "app_name" = "format.appName",
    PROCID: "procid" = "format.procid",
    MSGID: "msgid" = "format.msgid",
    MESSAGE: "message" = "format.message",
    STRUCTURED_DATA: "structured_data" = "format.structuredData",
    MAX_MESSAGE_SIZE: "max_message_size" = "maxMessageSize",
    BUFFER_LIMIT: "queue_limit" = "bufferLimit",
    // Always set, by the controller.
    QUEUE_PATH: "queue_path" = "bufferLimit",
    QUEUE_NAME: "queue_name" = "metadata.uid",
    QUEUE_TOTAL_LIMIT: "queue_total_limit" = "bufferLimit",
    NAMESPACE: "namespace" = "metadata.namespace",
    CLUSTER: "cluster" = "kind",
    IDENTITY: "identity" = "kind",
    SINCE: "since" = "metadata.creationTimestamp",
    NAMESPACES: "namespaces" = "namespaceSelector",
    EXCLUDED_NAMESPACES: "exclude_namespaces" = "excludeNamespaces",
    AGENT_LOGS: "exclude_pods" = "includeAgentLogs",
}

// Fields that set no key by themselves.
pub(super) const PORT: &str = "port";
pub(super) const CA_PEM: &str = "tls.ca.pem";
pub(super) const CA_SECRET: &str = "tls.ca.secret";
pub(super) const CA_CONFIG_MAP: &str = "tls.ca.configMap";
pub(super) const CLIENT_CERTIFICATE: &str = TLS_CERT.name;

/// Explains an error of the plugin's parser by the fields of the resource. `set` are the
/// fields that the sink has set.
pub(super) fn refusal(error: &ConfigError, set: impl Iterator<Item = Field>) -> Refusal {
    let ConfigError {
        key,
        value,
        problem,
    } = error;
    let mut set = set;
    let field = set.find(|field| field.key == *key);
    let name = field.map_or_else(|| name_of(key), |field| field.name);
    match value {
        Some(value) => Refusal::value(name, value, problem),
        None => Refusal::new(Reason::InvalidValue, &format!("{name}: {problem}")),
    }
}

fn name_of(key: &'static str) -> &'static str {
    let field = FIELDS.iter().find(|field| field.key == key);
    field.map_or(key, |field| field.name)
}

/// Returns the field of a setting that advice on errors refers to.
pub(crate) const fn field_of(setting: Setting) -> &'static str {
    match setting {
        Setting::Transport => TRANSPORT.name,
        Setting::Ca => TLS_CA.name,
        // One field has both.
        Setting::ClientCertificate | Setting::ClientIdentity => TLS_CERT.name,
        Setting::ServerName => TLS_SERVER_NAME.name,
        Setting::Pins => TLS_PINS.name,
        Setting::MinVersion => TLS_MIN_VERSION.name,
        Setting::MaxMessageSize => MAX_MESSAGE_SIZE.name,
    }
}
