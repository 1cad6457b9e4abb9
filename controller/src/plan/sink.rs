//! One sink, checked: the options of its output and the files that they name.

use out_syslog_sink::config::{Config, Properties};

use super::refusal::Refusal;
use super::{labels, material};
use crate::files::{Files, PEM, content_hash};
use crate::resources::{
    Exclusion, Format, LogSinkSpec, Selection, Server, Sharing, SinkType, Stream, TlsSpec,
    TlsVersion, Transport,
};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::tenants::Accepted;
use crate::value::Value;

/// Checks a sink whose references are to objects of this namespace.
pub(crate) fn check(
    spec: &LogSinkSpec,
    namespace: &str,
    snapshot: &Snapshot,
    settings: &Settings,
) -> Result<Accepted, Refusal> {
    let LogSinkSpec {
        kind: SinkType::Syslog,
        host,
        port,
        servers,
        sharing,
        transport,
        tls,
        selection,
        events,
        event_selection,
        format,
        max_message_size,
        buffer_limit,
    } = spec;
    let secure = transport_is_secure(*transport);
    let mut options = Options {
        secure,
        folder: &settings.paths.config,
        values: Vec::new(),
        files: Files::new(),
    };
    options.push(
        "addr",
        "host",
        &address(host.as_deref(), *port, servers.as_deref(), *transport)?,
    )?;
    if *sharing == Sharing::Balance {
        options.push("servers", "sharing", "balance")?;
    }
    options.push("transport", "transport", transport_name(*transport))?;
    options.push_selection(selection)?;
    options.push_format(format)?;
    if let Some(size) = max_message_size {
        options.push("max_message_size", "maxMessageSize", &size.to_string())?;
    }
    // A container's text must not name the cluster.
    options.push("record_cluster_name", "record_cluster_name", "off")?;
    if tls.is_some() && !secure {
        let problem = "tls is for the transports tls and relp+tls";
        return Err(Refusal::new("InvalidValue", problem));
    }
    if let Some(tls) = tls {
        options.push_tls(tls)?;
    }
    // The plugin can look at everything but the files, which are not here.
    options.check()?;
    if let Some(tls) = tls {
        options.push_certificates(tls, namespace, snapshot)?;
    }
    Ok(Accepted {
        options: options.values,
        files: options.files,
        buffer_limit: value("bufferLimit", buffer_limit)?,
        events: events.then(|| (event_selection.clone(), format.events)),
    })
}

/// The same sink, for records of one namespace only.
pub(super) fn fenced(mut sink: Accepted, namespace: &str) -> Result<Accepted, Refusal> {
    let namespace = value("namespace", namespace)?;
    sink.options.push(("namespace", namespace));
    Ok(sink)
}

/// A value that a user wrote into a field.
fn value(field: &str, text: &str) -> Result<Value, Refusal> {
    Value::new(text).map_err(|error| Refusal::value(field, text, &error.to_string()))
}

/// `host:port`, several with commas between them.
fn address(
    host: Option<&str>,
    port: Option<u16>,
    servers: Option<&[Server]>,
    transport: Transport,
) -> Result<String, Refusal> {
    let one = |host: &str, port: Option<u16>| {
        let port = port.unwrap_or(default_port(transport));
        // A comma would be another server.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(allowed) {
            let problem = "is neither a host name nor an address";
            return Err(Refusal::value("host", host, problem));
        }
        Ok(if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        })
    };
    match (host, servers) {
        (Some(host), None) => one(host, port),
        (None, Some(servers)) if !servers.is_empty() => {
            let all: Result<Vec<String>, Refusal> = servers
                .iter()
                .map(|server| one(&server.host, server.port))
                .collect();
            Ok(all?.join(","))
        }
        _ => Err(Refusal::new(
            "InvalidValue",
            "either host or servers names where to send to",
        )),
    }
}

const fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tls => 6514,
        Transport::Tcp | Transport::Udp => 514,
        Transport::Relp | Transport::RelpTls => 2514,
    }
}

const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "tls",
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Relp => "relp",
        Transport::RelpTls => "relp+tls",
    }
}

const fn transport_is_secure(transport: Transport) -> bool {
    matches!(transport, Transport::Tls | Transport::RelpTls)
}

struct Options<'a> {
    /// Whether the transport has TLS.
    secure: bool,
    /// Where an agent has the files.
    folder: &'a str,
    values: Vec<(&'static str, Value)>,
    files: Files,
}

impl Options<'_> {
    /// Adds a key of the plugin, whose value users call `field`.
    fn push(&mut self, key: &'static str, field: &str, value: &str) -> Result<(), Refusal> {
        self.values.push((key, self::value(field, value)?));
        Ok(())
    }

    fn push_selection(&mut self, selection: &Selection) -> Result<(), Refusal> {
        let Selection {
            containers,
            pod_selector,
            stream,
            exclude:
                Exclusion {
                    containers: excluded_containers,
                    pod_selector: excluded_pods,
                },
        } = selection;
        for (key, field, names) in [
            ("containers", "selection.containers", containers),
            (
                "exclude_containers",
                "selection.exclude.containers",
                excluded_containers,
            ),
        ] {
            if !names.is_empty() {
                self.push(key, field, &names.join(","))?;
            }
        }
        for (key, field, selector) in [
            ("pod_selector", "selection.podSelector", pod_selector),
            (
                "exclude_pod_selector",
                "selection.exclude.podSelector",
                excluded_pods,
            ),
        ] {
            if let Some(selector) = selector {
                let selector = labels::selector(field, selector)?;
                if !selector.selects_all() {
                    self.push(key, field, &selector.to_string())?;
                }
            }
        }
        match stream {
            Some(Stream::Stdout) => self.push("stream", "selection.stream", "stdout"),
            Some(Stream::Stderr) => self.push("stream", "selection.stream", "stderr"),
            None => Ok(()),
        }
    }

    fn push_format(&mut self, format: &Format) -> Result<(), Refusal> {
        let Format {
            facility,
            severity,
            hostname,
            app_name,
            procid,
            msgid,
            message,
            structured_data,
            // What agents send is no Event.
            events: _,
        } = format;
        for (key, field, value) in [
            ("facility", "format.facility", facility),
            ("severity", "format.severity", severity),
            ("hostname", "format.hostname", hostname),
            ("app_name", "format.appName", app_name),
            ("procid", "format.procid", procid),
            ("msgid", "format.msgid", msgid),
            ("message", "format.message", message),
            ("structured_data", "format.structuredData", structured_data),
        ] {
            if let Some(value) = value {
                self.push(key, field, value)?;
            }
        }
        Ok(())
    }

    fn push_tls(&mut self, tls: &TlsSpec) -> Result<(), Refusal> {
        let TlsSpec {
            // They are files.
            ca: _,
            client_certificate_secret: _,
            server_name,
            pins,
            min_version,
            insecure_skip_verify,
        } = tls;
        if let Some(name) = server_name {
            self.push("tls_server_name", "tls.serverName", name)?;
        }
        if !pins.is_empty() {
            self.push("tls_pin_sha256", "tls.pins", &pins.join(","))?;
        }
        if *min_version == TlsVersion::V1_3 {
            self.push("tls_min_version", "tls.minVersion", "1.3")?;
        }
        if *insecure_skip_verify {
            self.push("tls_verify", "tls.insecureSkipVerify", "off")?;
        }
        Ok(())
    }

    fn push_certificates(
        &mut self,
        tls: &TlsSpec,
        namespace: &str,
        snapshot: &Snapshot,
    ) -> Result<(), Refusal> {
        if let Some(source) = &tls.ca {
            let pem = material::ca(source, namespace, snapshot)?;
            self.push_file("tls_ca_file", pem)?;
        }
        if let Some(secret) = &tls.client_certificate_secret {
            let (cert, key) = material::identity(secret, namespace, snapshot)?;
            self.push_file("tls_cert_file", cert)?;
            self.push_file("tls_key_file", key)?;
        }
        Ok(())
    }

    /// A file is named by its content: the same CA of many sinks is one file.
    fn push_file(&mut self, key: &'static str, content: Vec<u8>) -> Result<(), Refusal> {
        let name = format!("{}{PEM}", content_hash(&content));
        self.push(key, key, &format!("{}/{name}", self.folder))?;
        self.files.insert(name, content);
        Ok(())
    }

    /// Whether the plugin will take the values.
    fn check(&self) -> Result<(), Refusal> {
        Config::parse(self)
            .map(drop)
            .map_err(|error| Refusal::new("InvalidValue", &error.to_string()))
    }
}

impl Properties for Options<'_> {
    fn get(&self, key: &str) -> Option<String> {
        if key == "tls_verify" && self.secure {
            // Else the plugin looks for CAs, which are the agents'.
            return Some("off".to_owned());
        }
        let mut values = self.values.iter();
        let (_, value) = values.find(|(name, _)| *name == key)?;
        Some(value.as_str().to_owned())
    }
}
