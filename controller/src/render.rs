//! Fluent Bit's configuration, a file for each part:
//!
//! ```text
//! fluent-bit.yaml        the service, and the input of all sinks
//! ns-<namespace>.yaml    the outputs of a namespace's sinks
//! cluster-<name>.yaml    the output of a cluster sink
//! <hash>.pem             certificates and keys
//! ```
//!
//! One input reads each container once, whatever the number of sinks. Its tags are
//! `ns.<namespace>`, and the metadata of its groups of records identify the containers.

mod input;
mod output;
mod service;
mod yaml;

use std::collections::BTreeMap;
use std::iter;

use crate::configuration::{Configuration, FORMAT, Files, RenderedSink, TenantPart, content_hash};
use crate::names::SERVICE;
use crate::settings::Settings;
use crate::snapshot::{ObjectName, SinkId};
use crate::tenants::Accepted;

/// The names of tenants' files: a prefix for each kind, and the extension.
const NAMESPACE: &str = "ns-";
const CLUSTER: &str = "cluster-";
const YAML: &str = ".yaml";

/// A sink with its content.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) rendered: RenderedSink,
    /// The text of its section.
    section: String,
    certificates: Files,
}

impl Sink {
    fn new(file: String, alias: String, section: String, certificates: &Files) -> Self {
        Self {
            rendered: RenderedSink {
                file,
                alias,
                hash: content_hash(section.as_bytes()),
            },
            section,
            certificates: certificates.clone(),
        }
    }

    /// Returns the size of its section and certificates in bytes.
    pub(crate) fn size(&self) -> usize {
        let certificates = self.certificates.values().map(Vec::len);
        self.section.len() + certificates.sum::<usize>()
    }
}

/// One tenant's part of the configuration, with its content.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    part: TenantPart,
    /// The content of the tenant's file.
    pub(crate) text: String,
    certificates: Files,
}

impl Tenant {
    fn new(sinks: Vec<Sink>) -> Self {
        let text = output::list(sinks.iter().map(|sink| sink.section.clone()));
        let (mut hashes, mut certificates) = (BTreeMap::new(), Files::new());
        for sink in sinks {
            hashes.insert(sink.rendered.alias, sink.rendered.hash);
            certificates.extend(sink.certificates);
        }
        let part = TenantPart {
            format: FORMAT,
            certificates: certificates.keys().cloned().collect(),
            sinks: hashes,
        };
        Self {
            part,
            text,
            certificates,
        }
    }

    /// Returns the tenant's part as another revision has it, if its format is the current one.
    pub(crate) fn of(file: &str, configuration: &Configuration) -> Option<Self> {
        let part = configuration.parts.get(file)?.clone();
        if part.format != FORMAT {
            return None;
        }
        let text = String::from_utf8(configuration.files.get(file)?.clone()).ok()?;
        let certificates = part.certificates.iter();
        Some(Self {
            certificates: certificates
                .filter_map(|name| configuration.files.get_key_value(name))
                .map(|(name, content)| (name.clone(), content.clone()))
                .collect(),
            text,
            part,
        })
    }
}

/// Returns the part of each tenant, by file name: of the sinks of each namespace, and of each
/// cluster sink.
pub(crate) fn tenants(
    namespaces: BTreeMap<&str, Vec<Sink>>,
    cluster: Vec<Sink>,
) -> BTreeMap<String, Tenant> {
    let of_namespaces = namespaces.into_iter().map(|(namespace, mut sinks)| {
        sinks.sort_by(|a, b| a.rendered.alias.cmp(&b.rendered.alias));
        (namespace_file(namespace), Tenant::new(sinks))
    });
    let of_cluster = cluster
        .into_iter()
        .map(|sink| (sink.rendered.file.clone(), Tenant::new(vec![sink])));
    of_namespaces.chain(of_cluster).collect()
}

/// Renders the whole configuration: the tenants' parts, and what they share.
pub(crate) fn configuration(
    tenants: BTreeMap<String, Tenant>,
    settings: &Settings,
) -> Configuration {
    let (mut texts, mut files, mut parts) = (BTreeMap::new(), Files::new(), BTreeMap::new());
    let has_outputs = !tenants.is_empty();
    for (name, tenant) in tenants {
        files.extend(tenant.certificates);
        texts.insert(name.clone(), tenant.text);
        parts.insert(name, tenant.part);
    }
    let service = service::service(texts.keys().map(String::as_str), has_outputs, settings);
    texts.insert(SERVICE.to_owned(), service);
    files.extend(
        texts
            .into_iter()
            .map(|(name, text)| (name, text.into_bytes())),
    );
    Configuration { files, parts }
}

/// Renders the configuration without any tenant.
pub(crate) fn shared(settings: &Settings) -> String {
    service::service(iter::empty(), true, settings)
}

/// Renders a namespace's sink.
pub(crate) fn sink(namespace: &str, name: &str, sink: &Accepted) -> Sink {
    let section = output::of_namespace(namespace, name, sink);
    let (file, alias) = (namespace_file(namespace), alias(namespace, name));
    Sink::new(file, alias, section, &sink.files)
}

/// Renders a cluster sink, whose file is its own.
pub(crate) fn cluster_sink(name: &str, sink: &Accepted) -> Sink {
    let section = output::cluster(name, sink);
    let (file, alias) = (cluster_file(name), cluster_alias(name));
    Sink::new(file, alias, section, &sink.files)
}

/// Returns the alias of a namespaced sink's output, which is its name in metrics as well.
fn alias(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Returns the alias of a cluster sink's output. No namespace contains an underscore.
fn cluster_alias(name: &str) -> String {
    format!("_cluster/{name}")
}

/// Returns the name of a sink's file.
pub(crate) fn file_of(id: &SinkId) -> String {
    match id {
        SinkId::Namespaced(ObjectName { namespace, .. }) => namespace_file(namespace),
        SinkId::Cluster(name) => cluster_file(name),
    }
}

/// Returns the alias of a sink's output.
pub(crate) fn alias_of(id: &SinkId) -> String {
    match id {
        SinkId::Namespaced(ObjectName { namespace, name }) => alias(namespace, name),
        SinkId::Cluster(name) => cluster_alias(name),
    }
}

fn namespace_file(namespace: &str) -> String {
    format!("{NAMESPACE}{namespace}{YAML}")
}

fn cluster_file(name: &str) -> String {
    format!("{CLUSTER}{}{YAML}", file_part(name))
}

/// Returns a name without dots, and short enough for the name of a file and a Secret's key.
/// Names of Kubernetes contain no underscore, so different names stay different.
fn file_part(name: &str) -> String {
    const MAX: usize = 164;
    let part = name.replace('.', "_");
    if part.len() <= MAX {
        return part;
    }
    // Names of Kubernetes are ASCII.
    let begin = part.get(..MAX).unwrap_or_default();
    format!("{begin}_{}", content_hash(name.as_bytes()))
}
