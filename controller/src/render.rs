//! Fluent Bit's configuration, a file for each part:
//!
//! ```text
//! fluent-bit.yaml        service, the parser of tags, the kubernetes filter
//! lane-<n>.yaml          a tail input for the namespaces of a lane
//! ns-<namespace>.yaml    the outputs of a namespace's sinks
//! cluster-<name>.yaml    the input and the output of a cluster sink
//! <hash>.pem             certificates and keys
//! ```
//!
//! Every tag begins with its tenant (`sink.ns.<namespace>.`, `sink.cluster.<name>.`), and ends
//! like the tag of any container's log
//! (`var.log.containers.<pod>_<namespace>_<container>-<id>.log`), from which the plugin and the
//! kubernetes filter know the container. So one kubernetes filter with a parser for these tags
//! serves all namespaces, instead of one filter for each: every filter has its own cache and
//! connection.

mod input;
mod output;
mod service;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use crate::configuration::{Configuration, Files, RenderedSink, TenantPart, content_hash};
use crate::lanes::Lanes;
use crate::names::SERVICE;
use crate::settings::Settings;
use crate::snapshot::{ObjectName, SinkId};
use crate::tenants::{Accepted, ClusterTenant};

/// The names of tenants' files: a prefix for each kind, and the extension.
const NAMESPACE: &str = "ns-";
const CLUSTER: &str = "cluster-";
const YAML: &str = ".yaml";

/// A sink with its content.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    pub(crate) rendered: RenderedSink,
    /// The text of its sections.
    sections: String,
    certificates: Files,
    /// Whether its sections include an input.
    has_input: bool,
}

impl Sink {
    fn new(file: String, alias: String, sections: String, certificates: &Files) -> Self {
        Self {
            rendered: RenderedSink {
                file,
                alias,
                hash: content_hash(sections.as_bytes()),
            },
            sections,
            certificates: certificates.clone(),
            has_input: false,
        }
    }

    /// Returns the size of its sections and certificates in bytes.
    pub(crate) fn size(&self) -> usize {
        let certificates = self.certificates.values().map(Vec::len);
        self.sections.len() + certificates.sum::<usize>()
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
    fn new(namespace: Option<&str>, sinks: Vec<Sink>, text: String) -> Self {
        let has_input = sinks.iter().any(|sink| sink.has_input);
        let (mut hashes, mut certificates) = (BTreeMap::new(), Files::new());
        for sink in sinks {
            hashes.insert(sink.rendered.alias, sink.rendered.hash);
            certificates.extend(sink.certificates);
        }
        let part = TenantPart {
            namespace: namespace.map(str::to_owned),
            has_input,
            certificates: certificates.keys().cloned().collect(),
            sinks: hashes,
        };
        Self {
            part,
            text,
            certificates,
        }
    }

    /// Returns the tenant's part as another revision has it.
    pub(crate) fn of(file: &str, configuration: &Configuration) -> Option<Self> {
        let part = configuration.parts.get(file)?.clone();
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
        let text = output::list(sinks.iter().map(|sink| sink.sections.clone()));
        let tenant = Tenant::new(Some(namespace), sinks, text);
        (namespace_file(namespace), tenant)
    });
    let of_cluster = cluster.into_iter().map(|sink| {
        let (file, text) = (sink.rendered.file.clone(), sink.sections.clone());
        (file, Tenant::new(None, vec![sink], text))
    });
    of_namespaces.chain(of_cluster).collect()
}

/// Returns the namespaces that are read by lanes.
pub(crate) fn namespaces(tenants: &BTreeMap<String, Tenant>) -> BTreeSet<&str> {
    let parts = tenants.values().map(|tenant| &tenant.part);
    parts.filter_map(|part| part.namespace.as_deref()).collect()
}

/// Renders the whole configuration: the tenants' parts, and what they share.
pub(crate) fn configuration(
    tenants: BTreeMap<String, Tenant>,
    lanes: &Lanes,
    settings: &Settings,
) -> Configuration {
    let (mut texts, mut files, mut parts) = (BTreeMap::new(), Files::new(), BTreeMap::new());
    let by_lane = lanes.by_lane(namespaces(&tenants).into_iter());
    let has_input = !by_lane.is_empty() || tenants.values().any(|tenant| tenant.part.has_input);
    for (lane, namespaces) in by_lane {
        texts.insert(
            format!("lane-{lane}{YAML}"),
            input::lane(lane, &namespaces, settings),
        );
    }
    for (name, tenant) in tenants {
        files.extend(tenant.certificates);
        texts.insert(name.clone(), tenant.text);
        parts.insert(name, tenant.part);
    }
    let service = service::service(texts.keys().map(String::as_str), has_input, settings);
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
    input::lane(0, &[], settings) + &service::service(iter::empty(), true, settings)
}

/// Renders a namespace's sink.
pub(crate) fn sink(namespace: &str, name: &str, sink: &Accepted) -> Sink {
    let section = output::of_namespace(namespace, name, sink);
    let (file, alias) = (namespace_file(namespace), alias(namespace, name));
    Sink::new(file, alias, section, &sink.files)
}

/// Renders a cluster sink, whose file is its own.
pub(crate) fn cluster_sink(name: &str, tenant: &ClusterTenant, settings: &Settings) -> Sink {
    let tag = tag_part(name);
    let output = output::cluster(name, &tag, &tenant.accepted);
    let text = input::cluster(&tag, tenant, settings) + &output;
    let (file, alias) = (cluster_file(name), cluster_alias(name));
    let sink = Sink::new(file, alias, text, &tenant.accepted.files);
    Sink {
        has_input: tenant.reads.any(),
        ..sink
    }
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
    format!("{CLUSTER}{}{YAML}", tag_part(name))
}

/// Returns a name without dots, which separate the parts of a tag, and short enough for the
/// name of a file and a Secret's key. Names of Kubernetes contain no underscore, so
/// different names stay different.
fn tag_part(name: &str) -> String {
    const MAX: usize = 164;
    let part = name.replace('.', "_");
    if part.len() <= MAX {
        return part;
    }
    // Names of Kubernetes are ASCII.
    let begin = part.get(..MAX).unwrap_or_default();
    format!("{begin}_{}", content_hash(name.as_bytes()))
}
