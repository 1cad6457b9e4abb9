//! The check of one sink: the keys of its output, and the files that they refer to.

use api::{
    Exclusion, Format, LogSinkSpec, Reason, Selection, Sharing, SinkType, Stream, TlsSpec,
    TlsVersion, Transport,
};
use mapper::config::{Config, ConfigError, Properties};

use super::fields::{self, Field};
use super::refusal::Refusal;
use super::{labels, material, servers};
use crate::configuration::{Files, PEM, content_hash};
use crate::names::AGENT;
use crate::settings::Settings;
use crate::snapshot::{Snapshot, Version};
use crate::tenants::{Accepted, OutputKeys, Reads};
use crate::value::Value;

/// A name that the plugin accepts and no namespace has, for a cluster sink that reads nothing.
const NO_NAMESPACE: &str = "-";

/// The scope of a sink's records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// One namespace, which also has the objects that the sink refers to.
    Namespace(&'a str),
    /// The namespaces that a cluster sink reads; the objects are in the controller's.
    Cluster {
        reads: &'a Reads,
        /// Whether it gets the agents' own logs.
        has_agent_logs: bool,
    },
}

/// Checks a sink. The UID of its version names its queue on the nodes' disks; a sink without a
/// version has no queue.
pub(crate) fn check(
    spec: &LogSinkSpec,
    scope: Scope<'_>,
    version: Option<&Version>,
    snapshot: &Snapshot,
    settings: &Settings,
) -> Result<Accepted, Refusal> {
    let LogSinkSpec {
        kind: SinkType::Syslog,
        host,
        port,
        servers: several,
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
        keys: OutputKeys::default(),
        set: Vec::new(),
        files: Files::new(),
    };
    let (field, address) =
        servers::addresses(host.as_deref(), *port, several.as_deref(), *transport)?;
    options.push(field, &address)?;
    if *sharing == Sharing::Balance {
        options.push(fields::SHARING, "balance")?;
    }
    options.push(fields::TRANSPORT, transport_name(*transport))?;
    options.push_selection(selection)?;
    options.push_format(format)?;
    if let Some(size) = max_message_size {
        options.push(fields::MAX_MESSAGE_SIZE, &size.to_string())?;
    }
    // A container's text must not name the cluster.
    options.push(fields::RECORD_CLUSTER_NAME, "off")?;
    if tls.is_some() && !secure {
        let problem = "tls is for the transports tls and relp+tls";
        return Err(Refusal::new(Reason::InvalidValue, problem));
    }
    if let Some(tls) = tls {
        options.push_tls(tls)?;
    }
    let namespace = options.push_scope(scope, settings)?;
    if let Some(version) = version {
        options.push_queue(&version.uid, buffer_limit, settings)?;
        options.push_since(version)?;
    }
    // The plugin's parser cannot check the files, which exist only on nodes.
    let config = options.check()?;
    if let Some(tls) = tls {
        options.push_certificates(tls, namespace, snapshot)?;
    }
    Ok(Accepted {
        keys: options.keys,
        files: options.files,
        buffer_limit: config.queue.map_or(0, |queue| queue.limit as u64),
        events: events.then(|| (event_selection.clone(), format.events)),
    })
}

/// Explains an error of the plugin's parser by the fields of the resource.
pub(crate) fn explanation(error: &ConfigError) -> String {
    fields::refusal(error, std::iter::empty()).message
}

/// Checks a value of a field.
fn value(field: &str, text: &str) -> Result<Value, Refusal> {
    Value::new(text).map_err(|error| Refusal::value(field, text, &error.to_string()))
}

pub(super) const fn transport_name(transport: Transport) -> &'static str {
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
    /// The agents' folder of the files.
    folder: &'a str,
    keys: OutputKeys,
    /// The fields whose keys are set.
    set: Vec<Field>,
    files: Files,
}

impl Options<'_> {
    /// Adds the value of a field.
    fn push(&mut self, field: Field, value: &str) -> Result<(), Refusal> {
        self.keys.push(field.key, self::value(field.name, value)?);
        self.set.push(field);
        Ok(())
    }

    /// Adds the keys for the scope. Returns the namespace of the objects that the sink
    /// refers to.
    fn push_scope<'s>(
        &mut self,
        scope: Scope<'s>,
        settings: &'s Settings,
    ) -> Result<&'s str, Refusal> {
        self.push(fields::IDENTITY, "group")?;
        let own = settings.namespace.as_str();
        let (namespace, has_own) = match scope {
            Scope::Namespace(namespace) => {
                self.push(fields::NAMESPACE, namespace)?;
                (namespace, namespace == own)
            }
            Scope::Cluster {
                reads,
                has_agent_logs,
            } => {
                self.push(fields::CLUSTER, "on")?;
                self.push_reads(reads)?;
                (own, reads.contains(own) && !has_agent_logs)
            }
        };
        if has_own {
            // With a receiver that is down, each line of an agent's log could cause another.
            self.push(fields::AGENT_LOGS, &format!("{own}/{AGENT}-*"))?;
        }
        Ok(namespace)
    }

    /// Adds the namespaces that a cluster sink reads.
    fn push_reads(&mut self, reads: &Reads) -> Result<(), Refusal> {
        let (field, names) = match reads {
            Reads::AllBut(names) => (fields::EXCLUDED_NAMESPACES, names),
            Reads::Only(names) => (fields::NAMESPACES, names),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match (reads, names.is_empty()) {
            (_, false) => self.push(field, &names.join(",")),
            (Reads::AllBut(_), true) => Ok(()),
            // An empty value would count as absent.
            (Reads::Only(_), true) => self.push(field, NO_NAMESPACE),
        }
    }

    /// Adds the time from which the sink gets lines that are there before its output.
    fn push_since(&mut self, version: &Version) -> Result<(), Refusal> {
        match version.created {
            Some(created) => self.push(fields::SINCE, &created.to_string()),
            None => Ok(()),
        }
    }

    /// Adds the queue's keys. The queue is named by the sink's UID alone: an object that is
    /// created again has another UID, and so has every object in a namespace that is created
    /// again, so the namespace's UID would add nothing. The agents delete queues that no
    /// output claims.
    fn push_queue(&mut self, uid: &str, limit: &str, settings: &Settings) -> Result<(), Refusal> {
        self.push(fields::QUEUE_PATH, &settings.paths.queues())?;
        self.push(fields::QUEUE_NAME, uid)?;
        self.push(fields::BUFFER_LIMIT, limit)?;
        let total = settings.queues.max_per_node.to_string();
        self.push(fields::QUEUE_TOTAL_LIMIT, &total)
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
        for (field, names) in [
            (fields::CONTAINERS, containers),
            (fields::EXCLUDED_CONTAINERS, excluded_containers),
        ] {
            if !names.is_empty() {
                self.push(field, &names.join(","))?;
            }
        }
        for (field, selector) in [
            (fields::POD_SELECTOR, pod_selector),
            (fields::EXCLUDED_PODS, excluded_pods),
        ] {
            if let Some(selector) = selector {
                let selector = labels::selector(field.name, selector)?;
                if !selector.selects_all() {
                    self.push(field, &selector.to_string())?;
                }
            }
        }
        match stream {
            Some(Stream::Stdout) => self.push(fields::STREAM, "stdout"),
            Some(Stream::Stderr) => self.push(fields::STREAM, "stderr"),
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
            // Agents send no Events.
            events: _,
        } = format;
        for (field, value) in [
            (fields::FACILITY, facility),
            (fields::SEVERITY, severity),
            (fields::HOSTNAME, hostname),
            (fields::APP_NAME, app_name),
            (fields::PROCID, procid),
            (fields::MSGID, msgid),
            (fields::MESSAGE, message),
            (fields::STRUCTURED_DATA, structured_data),
        ] {
            if let Some(value) = value {
                self.push(field, value)?;
            }
        }
        Ok(())
    }

    fn push_tls(&mut self, tls: &TlsSpec) -> Result<(), Refusal> {
        let TlsSpec {
            // Added by `push_certificates`.
            ca: _,
            client_certificate_secret: _,
            server_name,
            pins,
            min_version,
            insecure_skip_verify,
        } = tls;
        if let Some(name) = server_name {
            self.push(fields::TLS_SERVER_NAME, name)?;
        }
        if !pins.is_empty() {
            self.push(fields::TLS_PINS, &pins.join(","))?;
        }
        if *min_version == TlsVersion::V1_3 {
            self.push(fields::TLS_MIN_VERSION, "1.3")?;
        }
        if *insecure_skip_verify {
            self.push(fields::TLS_VERIFY, "off")?;
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
            self.push_file(fields::TLS_CA, pem)?;
        }
        if let Some(secret) = &tls.client_certificate_secret {
            let (cert, key) = material::identity(secret, namespace, snapshot)?;
            self.push_file(fields::TLS_CERT, cert)?;
            self.push_file(fields::TLS_KEY, key)?;
        }
        Ok(())
    }

    /// Adds a file. It is named by its content: a CA of many sinks is one file.
    fn push_file(&mut self, field: Field, content: Vec<u8>) -> Result<(), Refusal> {
        let name = format!("{}{PEM}", content_hash(&content));
        self.push(field, &format!("{}/{name}", self.folder))?;
        self.files.insert(name, content);
        Ok(())
    }

    /// Parses the keys with the plugin's parser.
    fn check(&self) -> Result<Config, Refusal> {
        Config::parse(self).map_err(|error| fields::refusal(&error, self.set.iter().copied()))
    }
}

impl Properties for Options<'_> {
    fn get(&self, key: &str) -> Option<String> {
        if key == fields::TLS_VERIFY.key && self.secure {
            // Only for this check: otherwise the parser would look for the system's CAs, which
            // are in the agents' image.
            return Some("off".to_owned());
        }
        self.keys.get(key).map(str::to_owned)
    }
}
