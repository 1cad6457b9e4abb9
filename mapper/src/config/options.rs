//! The table of configuration keys, and typed access to their values.

use std::time::Duration;

use transport::Setting;
use transport::tls::Pem;

use super::ConfigError;
use super::value;
use crate::template::Template;

/// A source of configuration values, such as Fluent Bit's `[OUTPUT]` section.
pub trait Properties {
    /// Returns the value of a key, or `None` if the key is absent. Keys are
    /// case-insensitive.
    fn get(&self, key: &str) -> Option<String>;

    /// Returns the PEM source that a path refers to: the file at the path, unless
    /// the implementation keeps its content in memory.
    fn pem(&self, path: &str) -> Pem {
        Pem::File(path.into())
    }
}

/// The name and default of a configuration key, as in the reference.
#[derive(Debug)]
pub struct OptionInfo {
    /// The key.
    pub name: &'static str,
    /// The default for an absent or empty value; empty if the key has no default.
    pub default: &'static str,
}

const fn option(name: &'static str, default: &'static str) -> OptionInfo {
    OptionInfo { name, default }
}

/// All keys, in the order of the reference (docs/CONFIGURATION.md).
pub const OPTIONS: &[OptionInfo] = &[
    option("servers", ""),
    option("sharing", "failover"),
    option("failback", "5m"),
    option("transport", "tls"),
    option("framing", "octet-counting"),
    option("control_characters", "space"),
    option("tls_ca_file", ""),
    option("tls_cert_file", ""),
    option("tls_key_file", ""),
    option("tls_server_name", ""),
    option("tls_pins", ""),
    option("tls_verify", "on"),
    option("tls_min_version", "1.2"),
    option("identity", "tag"),
    option("record_cluster_name", "on"),
    option("namespace", ""),
    option("cluster", "off"),
    option("namespaces", ""),
    option("exclude_namespaces", ""),
    option("exclude_pods", ""),
    option("since", ""),
    option("containers", ""),
    option("exclude_containers", ""),
    option("pod_selector", ""),
    option("exclude_pod_selector", ""),
    option("stream", ""),
    option("facility", "user"),
    option("severity", "info"),
    option("timestamp", ""),
    option("hostname", ""),
    option("app_name", ""),
    option("procid", ""),
    option("msgid", ""),
    option("message", ""),
    option("message_key", "log"),
    option("structured_data", ""),
    option("kubernetes_structured_data", "on"),
    option("bom", "off"),
    option("max_message_size", "8000"),
    option("oversize", "split"),
    option("connect_timeout", "10s"),
    option("write_timeout", "10s"),
    option("close_timeout", "2s"),
    option("exit_timeout", "5s"),
    option("keepalive", "60s"),
    option("user_timeout", "30s"),
    option("backoff_min", "500ms"),
    option("backoff_max", "30s"),
    option("replay_buffer", "auto"),
    option("replay_age", "5m"),
    option("relp_window", "1024"),
    option("queue_path", ""),
    option("queue_name", ""),
    option("queue_limit", "512M"),
    option("queue_total_limit", ""),
    option("queue_sync", "off"),
    option("queue_orphan_age", "60m"),
    option("addr", ""),
    option("instancename", ""),
    option("tlsconfig", ""),
    option("sanitizehost", "on"),
];

/// Returns the key or keys of a setting that an error's hint refers to.
#[must_use]
pub const fn key_of(setting: Setting) -> &'static str {
    match setting {
        Setting::Transport => "transport",
        Setting::Ca => "tls_ca_file",
        Setting::ClientCertificate => "tls_cert_file",
        Setting::ClientIdentity => "tls_cert_file and tls_key_file",
        Setting::ServerName => "tls_server_name",
        Setting::Pins => "tls_pins",
        Setting::MinVersion => "tls_min_version",
        Setting::MaxMessageSize => "max_message_size",
    }
}

/// Typed access to the values of keys.
pub(super) struct Options<'a> {
    properties: &'a dyn Properties,
}

impl<'a> Options<'a> {
    pub(super) fn new(properties: &'a dyn Properties) -> Self {
        Self { properties }
    }

    fn info(key: &'static str) -> &'static OptionInfo {
        OPTIONS
            .iter()
            .find(|option| option.name == key)
            .expect("every key that is read is in OPTIONS")
    }

    /// Returns the value, trimmed.
    pub(super) fn raw(&self, key: &'static str) -> Option<String> {
        debug_assert_eq!(Self::info(key).name, key);
        self.properties
            .get(key)
            .map(|value| value.trim().to_owned())
    }

    /// Returns the value, or `None` if it is absent or empty, as with an unset
    /// variable.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.raw(key).filter(|value| !value.is_empty())
    }

    /// Returns the PEM source that the value names.
    pub(super) fn pem(&self, key: &'static str) -> Option<Pem> {
        self.text(key).map(|path| self.properties.pem(&path))
    }

    /// Returns an error about the key and its value.
    pub(super) fn error(&self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            key,
            value: self.raw(key),
            problem: problem.into(),
        }
    }

    /// Parses the value if it is set.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.text(key)
            .map(|text| parse(&text).map_err(|problem| self.error(key, problem)))
            .transpose()
    }

    /// Parses the value, or returns an error if it is not set.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(key, parse)?
            .ok_or_else(|| self.error(key, format!("missing, expected {expected}")))
    }

    /// Parses the value, or the default if it is not set.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let text = self
            .text(key)
            .unwrap_or_else(|| Self::info(key).default.to_owned());
        parse(&text).map_err(|problem| self.error(key, problem))
    }

    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Result<T, ConfigError> {
        self.parsed(key, |text| value::choice(text, choices))
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<bool, ConfigError> {
        self.parsed(key, value::flag)
    }

    pub(super) fn duration(&self, key: &'static str) -> Result<Duration, ConfigError> {
        self.parsed(key, value::duration)
    }

    pub(super) fn template(&self, key: &'static str) -> Result<Option<Template>, ConfigError> {
        self.optional(key, |text| {
            Template::parse(text).map_err(|error| error.to_string())
        })
    }
}
