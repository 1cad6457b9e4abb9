//! What shall be: a pure function of what is known.
//!
//! ```text
//! each sink -> sink::check -> accepted: options and files
//!                          -> refused: why; nothing else suffers
//! namespaces of accepted sinks -> lanes -> render -> files -> revision
//! ```

mod labels;
mod lanes;
mod material;
mod quota;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use kube::core::SelectorExt;
use sha2::{Digest, Sha256};

pub use self::lanes::Lanes;
use self::quota::Quota;
pub use self::sink::{Accepted, Refusal};
use crate::agent;
use crate::render;
use crate::resources::ClusterLogSinkSpec;
use crate::settings::Settings;
use crate::snapshot::{SinkId, Snapshot, Stored};

/// The agents' files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agents' configuration and certificates.
    pub files: Files,
    /// A name for the agents' template besides the files.
    pub template: String,
    /// A name for the files' and the template's content, the same for the same
    /// content.
    pub revision: String,
    /// Which input reads which namespace, to be remembered.
    pub lanes: Lanes,
    /// What became of each sink.
    pub verdicts: BTreeMap<SinkId, Result<Place, Refusal>>,
    /// The files that agents do not get as they should be, and why.
    pub held: BTreeMap<String, String>,
}

/// Where a sink is in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: String,
    /// The part of it.
    pub section: String,
}

impl Place {
    /// Whether the sink is in these files, as it shall be.
    #[must_use]
    pub fn is_in(&self, files: &Files) -> bool {
        let text = files.get(&self.file);
        text.is_some_and(|text| memchr::memmem::find(text, self.section.as_bytes()).is_some())
    }
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
        let mut quotas: BTreeMap<&str, Quota> = BTreeMap::new();
        for (name, stored) in oldest_first(&snapshot.log_sinks, snapshot) {
            let checked = match stored {
                Stored::Invalid(reason) => Err(Refusal::invalid(reason)),
                Stored::Spec(spec) => sink::check(spec, &name.namespace, snapshot, settings)
                    .and_then(|accepted| accepted.fenced(&name.namespace)),
            };
            let verdict = checked.and_then(|accepted| {
                let place = render::place(&name.namespace, &name.name, &accepted);
                let quota = quotas.entry(&name.namespace).or_default();
                quota.take(&accepted, &place, settings)?;
                let tenant = tenants.entry(name.namespace.clone()).or_default();
                tenant.insert(name.name.clone(), accepted);
                Ok(place)
            });
            verdicts.insert(SinkId::Namespaced(name.clone()), verdict);
        }
        let mut cluster = BTreeMap::new();
        for (name, stored) in oldest_first(&snapshot.cluster_log_sinks, snapshot) {
            let checked = match stored {
                Stored::Invalid(reason) => Err(Refusal::invalid(reason)),
                Stored::Spec(spec) => {
                    sink::check(&spec.sink, &settings.namespace, snapshot, settings)
                        .and_then(|accepted| Ok((accepted, reads(spec, snapshot)?)))
                }
            };
            let verdict = checked.and_then(|(accepted, reads)| {
                quota::has_room_for_cluster_sink(cluster.len(), settings)?;
                let tenant = ClusterTenant { accepted, reads };
                let place = render::cluster_place(name, &tenant, &settings.paths);
                cluster.insert(name.clone(), tenant);
                Ok(place)
            });
            verdicts.insert(SinkId::Cluster(name.clone()), verdict);
        }
        let template = agent::template(settings);
        let mut units = render::units(&tenants, &cluster, &settings.paths);
        let held = hold(&mut units, &template, snapshot);
        let lanes = snapshot
            .lanes
            .assign(render::namespaces(&units), settings.max_lanes);
        let files = render::files(units, &lanes, settings);
        Self {
            revision: revision(&files, &template),
            files,
            template,
            lanes,
            verdicts,
            held,
        }
    }
}

/// The files that are one tenant's each.
pub fn units(files: &Files) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    files.iter().filter(|(name, _)| render::is_unit(name))
}

/// A quota is first come, first served.
fn oldest_first<'s, K, T>(sinks: &'s BTreeMap<K, T>, snapshot: &Snapshot) -> Vec<(&'s K, &'s T)>
where
    K: Clone + Into<SinkId>,
{
    let mut sinks: Vec<_> = sinks.iter().collect();
    sinks.sort_by_cached_key(|(name, _)| {
        let version = snapshot.versions.get(&(*name).clone().into());
        version.map(|version| version.created)
    });
    sinks
}

/// Puts what was good in the place of what is held.
fn hold(
    units: &mut BTreeMap<String, render::Unit>,
    template: &str,
    snapshot: &Snapshot,
) -> BTreeMap<String, String> {
    let mut held = BTreeMap::new();
    for (name, why) in snapshot.history.held(template) {
        let is_the_same = |unit: &render::Unit| content_hash(unit.text.as_bytes()) == why.content;
        if !units.get(name).is_some_and(is_the_same) {
            continue;
        }
        match snapshot
            .good()
            .and_then(|good| render::Unit::of(name, good))
        {
            Some(before) => units.insert(name.clone(), before),
            None => units.remove(name),
        };
        held.insert(name.clone(), why.why.clone());
    }
    held
}

/// A name for a file's content.
#[must_use]
pub(crate) fn content_hash(content: &[u8]) -> String {
    short_hex(Sha256::new_with_prefix(content))
}

fn revision(files: &Files, template: &str) -> String {
    let mut hash = Sha256::new_with_prefix(template);
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
    let Some(selector) = &spec.namespace_selector else {
        return Ok(Reads::AllBut(excluded));
    };
    let selector = labels::selector("namespaceSelector", selector)?;
    if selector.selects_all() {
        return Ok(Reads::AllBut(excluded));
    }
    let chosen = snapshot
        .namespaces
        .iter()
        .filter(|(name, labels)| selector.matches(labels) && !excluded.contains(*name))
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
