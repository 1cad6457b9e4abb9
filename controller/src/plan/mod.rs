//! What shall be: a pure function of what is known.
//!
//! ```text
//! each sink -> sink::check -> accepted: options and files
//!                          -> refused: why; nothing else suffers
//! namespaces of accepted sinks -> lanes -> render -> files -> revision
//! ```

mod lanes;
mod material;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

pub use self::lanes::Lanes;
pub use self::sink::{Accepted, Refusal};
use crate::render::{self, Paths};
use crate::resources::ClusterLogSinkSpec;
use crate::snapshot::{SinkId, Snapshot, Stored};

/// What an operator sets for the whole cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The controller's own namespace, and the agents'.
    pub namespace: String,
    /// How many tail inputs an agent may have for the sinks of namespaces: each
    /// takes an inotify instance, of which a user has 128 on most nodes.
    pub max_lanes: u16,
    /// The agents' image: Fluent Bit with the plugin.
    pub image: String,
    /// The agents' folders.
    pub paths: Paths,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "syslog-sink".to_owned(),
            max_lanes: 32,
            image: "syslog-sink-agent".to_owned(),
            paths: Paths::default(),
        }
    }
}

/// What shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agents' configuration and certificates, by file name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// A name for the files' content, the same for the same content.
    pub revision: String,
    /// Which input reads which namespace, to be remembered.
    pub lanes: Lanes,
    /// What became of each sink.
    pub verdicts: BTreeMap<SinkId, Result<(), Refusal>>,
}

/// A namespace's sinks, by name.
pub(crate) type Tenants = BTreeMap<String, BTreeMap<String, Accepted>>;

/// A cluster sink that is in force.
#[derive(Clone, Debug)]
pub(crate) struct ClusterTenant {
    pub(crate) accepted: Accepted,
    pub(crate) reads: Reads,
}

/// What a cluster sink reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Everything but these namespaces.
    AllBut(BTreeSet<String>),
    /// These namespaces.
    Only(BTreeSet<String>),
}

impl Reads {
    /// Whether that is any namespace.
    pub(crate) fn any(&self) -> bool {
        match self {
            Self::AllBut(_) => true,
            Self::Only(namespaces) => !namespaces.is_empty(),
        }
    }
}

impl Plan {
    /// Makes the plan.
    #[must_use]
    pub fn new(snapshot: &Snapshot, settings: &Settings) -> Self {
        let mut verdicts = BTreeMap::new();
        let mut tenants = Tenants::new();
        for (name, stored) in &snapshot.log_sinks {
            let checked = match stored {
                Stored::Invalid(reason) => Err(Refusal::invalid(reason)),
                Stored::Spec(spec) => sink::check(spec, &name.namespace, snapshot, settings)
                    .and_then(|accepted| accepted.fenced(&name.namespace)),
            };
            let verdict = checked.map(|accepted| {
                let tenant = tenants.entry(name.namespace.clone()).or_default();
                tenant.insert(name.name.clone(), accepted);
            });
            verdicts.insert(SinkId::Namespaced(name.clone()), verdict);
        }
        let mut cluster = BTreeMap::new();
        for (name, stored) in &snapshot.cluster_log_sinks {
            let checked = match stored {
                Stored::Invalid(reason) => Err(Refusal::invalid(reason)),
                Stored::Spec(spec) => {
                    sink::check(&spec.sink, &settings.namespace, snapshot, settings)
                        .and_then(|accepted| Ok((accepted, reads(spec, snapshot)?)))
                }
            };
            let verdict = checked.map(|(accepted, reads)| {
                cluster.insert(name.clone(), ClusterTenant { accepted, reads });
            });
            verdicts.insert(SinkId::Cluster(name.clone()), verdict);
        }
        let lanes = snapshot
            .lanes
            .assign(tenants.keys().map(String::as_str), settings.max_lanes);
        let files = render::files(&tenants, &cluster, &lanes, &settings.paths);
        Self {
            revision: revision(&files),
            files,
            lanes,
            verdicts,
        }
    }
}

fn revision(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        for part in [name.as_bytes(), content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    short_hex(hash)
}

/// Which namespaces a cluster sink reads.
fn reads(spec: &ClusterLogSinkSpec, snapshot: &Snapshot) -> Result<Reads, Refusal> {
    let excluded: BTreeSet<String> = spec.exclude_namespaces.iter().cloned().collect();
    if let Some(name) = excluded.iter().find(|name| !is_namespace(name)) {
        return Err(Refusal::value(
            "excludeNamespaces",
            name,
            "is not the name of a namespace",
        ));
    }
    if spec.namespace_labels.is_empty() {
        return Ok(Reads::AllBut(excluded));
    }
    let has_all = |labels: &BTreeMap<String, String>| {
        let mut wanted = spec.namespace_labels.iter();
        wanted.all(|(key, value)| labels.get(key) == Some(value))
    };
    let chosen = snapshot
        .namespaces
        .iter()
        .filter(|(name, labels)| has_all(labels) && !excluded.contains(*name))
        .map(|(name, _)| name.clone());
    Ok(Reads::Only(chosen.collect()))
}

/// An RFC 1123 label.
fn is_namespace(name: &str) -> bool {
    let character = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(character)
}

/// Sixteen digits: enough that two contents never share them.
pub(crate) fn short_hex(hash: Sha256) -> String {
    let mut digits = format!("{:x}", hash.finalize());
    digits.truncate(16);
    digits
}
