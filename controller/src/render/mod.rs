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
//! Every tag begins with whose it is: `sink.ns.<namespace>.` or
//! `sink.cluster.<name>.`, and ends like that of any container's log
//! (`var.log.containers.<pod>_<namespace>_<container>-<id>.log`), from which
//! the plugin and the kubernetes filter know the container.

mod input;
mod output;
mod service;
mod yaml;

use std::collections::BTreeMap;

use crate::files::{CLUSTER, Files, NAMESPACE, PEM, YAML, content_hash};
use crate::lanes::Lanes;
use crate::names::SERVICE;
use crate::settings::Settings;
use crate::snapshot::{ObjectName, SinkId};
use crate::tenants::{Accepted, ClusterTenant, Place, Tenants};

/// A file that is one tenant's, and the certificates that it names.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) text: String,
    certificates: Files,
}

impl Unit {
    /// One of a revision.
    pub(crate) fn of(name: &str, files: &Files) -> Option<Self> {
        let text = String::from_utf8(files.get(name)?.clone()).ok()?;
        let is_named = |file: &str| file.strip_suffix(PEM).is_some() && text.contains(file);
        let certificates = files.iter().filter(|(file, _)| is_named(file));
        Some(Self {
            certificates: certificates
                .map(|(name, content)| (name.clone(), content.clone()))
                .collect(),
            text,
        })
    }
}

/// The files of all tenants.
pub(crate) fn units(
    tenants: &Tenants,
    cluster: &BTreeMap<String, ClusterTenant>,
    settings: &Settings,
) -> BTreeMap<String, Unit> {
    let of_namespaces = tenants.iter().map(|(namespace, sinks)| {
        let unit = Unit {
            text: output::namespace(namespace, sinks),
            certificates: sinks.values().flat_map(|sink| sink.files.clone()).collect(),
        };
        (namespace_file(namespace), unit)
    });
    let of_cluster = cluster.iter().map(|(name, tenant)| {
        let unit = Unit {
            text: cluster_text(name, tenant, settings),
            certificates: tenant.accepted.files.clone(),
        };
        (cluster_file(name), unit)
    });
    of_namespaces.chain(of_cluster).collect()
}

/// The namespaces that have a file.
pub(crate) fn namespaces(units: &BTreeMap<String, Unit>) -> impl Iterator<Item = &str> {
    let names = units.keys();
    names.filter_map(|file| file.strip_prefix(NAMESPACE)?.strip_suffix(YAML))
}

/// All files: those of tenants, and what they share.
pub(crate) fn files(units: BTreeMap<String, Unit>, lanes: &Lanes, settings: &Settings) -> Files {
    let (mut texts, mut files) = (BTreeMap::new(), Files::new());
    for (lane, namespaces) in lanes.by_lane(namespaces(&units)) {
        texts.insert(
            format!("lane-{lane}{YAML}"),
            input::lane(lane, &namespaces, settings),
        );
    }
    for (name, unit) in units {
        texts.insert(name, unit.text);
        files.extend(unit.certificates);
    }
    let reads_any = texts.values().any(|text| text.contains(INPUTS));
    let service = service::service(texts.keys().map(String::as_str), reads_any, settings);
    texts.insert(SERVICE.to_owned(), service);
    files.extend(
        texts
            .into_iter()
            .map(|(name, text)| (name, text.into_bytes())),
    );
    files
}

/// Where a namespace's sink is.
pub(crate) fn place(namespace: &str, name: &str, sink: &Accepted) -> Place {
    Place {
        file: namespace_file(namespace),
        section: output::of_namespace(namespace, name, sink),
    }
}

/// Where a cluster sink is: its file is its own.
pub(crate) fn cluster_place(name: &str, tenant: &ClusterTenant, settings: &Settings) -> Place {
    Place {
        file: cluster_file(name),
        section: cluster_text(name, tenant, settings),
    }
}

/// What the output of a namespace's sink is called, in metrics as well.
fn alias(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// What the output of a cluster sink is called. No namespace has an underscore.
fn cluster_alias(name: &str) -> String {
    format!("_cluster/{name}")
}

/// The file that a sink is in.
pub(crate) fn file_of(id: &SinkId) -> String {
    match id {
        SinkId::Namespaced(ObjectName { namespace, .. }) => namespace_file(namespace),
        SinkId::Cluster(name) => cluster_file(name),
    }
}

/// What a sink's output is called.
pub(crate) fn alias_of(id: &SinkId) -> String {
    match id {
        SinkId::Namespaced(ObjectName { namespace, name }) => alias(namespace, name),
        SinkId::Cluster(name) => cluster_alias(name),
    }
}

/// How the list of inputs begins. No value has a line's end, so that this is
/// nothing else.
const INPUTS: &str = "\n  inputs:\n";

fn namespace_file(namespace: &str) -> String {
    format!("{NAMESPACE}{namespace}{YAML}")
}

fn cluster_file(name: &str) -> String {
    format!("{CLUSTER}{}{YAML}", tag_part(name))
}

fn cluster_text(name: &str, tenant: &ClusterTenant, settings: &Settings) -> String {
    let tag = tag_part(name);
    input::cluster(&tag, tenant, settings) + &output::cluster(name, &tag, &tenant.accepted)
}

/// A name without dots, which separate the parts of a tag, and not too long for
/// a file's name or a Secret's key. No name of Kubernetes has an underscore, so
/// that no two become the same.
fn tag_part(name: &str) -> String {
    const LONGEST: usize = 164;
    let part = name.replace('.', "_");
    if part.len() <= LONGEST {
        return part;
    }
    // Names of Kubernetes are ASCII.
    let begin = part.get(..LONGEST).unwrap_or_default();
    format!("{begin}_{}", content_hash(name.as_bytes()))
}
