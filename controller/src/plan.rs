//! The plan: the wanted configuration, a pure function of a snapshot.
//!
//! ```text
//! each sink -> sink::check -> render::sink -> quota -> accepted: its sections and files
//!                                                   -> refused: why; nothing else suffers
//! tenants' files -> held back? (history) -> render::configuration -> revision
//! ```

mod fields;
mod labels;
mod material;
mod quota;
mod refusal;
mod servers;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use api::ClusterLogSinkSpec;
use kube::core::SelectorExt;

pub(crate) use self::fields::field_of;
use self::quota::Quota;
pub use self::refusal::Refusal;
pub(crate) use self::sink::{Scope, check, explanation};
use crate::agent;
use crate::configuration::{Configuration, FORMAT, RenderedSink, revision};
use crate::events::Routes;
use crate::history::HoldReason;
use crate::render;
use crate::settings::Settings;
use crate::snapshot::{SinkId, Snapshot, Stored};
use crate::tenants::Reads;

/// The wanted configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agents' configuration and certificates.
    pub configuration: Configuration,
    /// The name of the agents' template, which does not depend on the tenants.
    pub template: String,
    /// The name of the revision: a hash of the files and the template.
    pub revision: String,
    /// The result of each sink.
    pub verdicts: BTreeMap<SinkId, Result<RenderedSink, Refusal>>,
    /// The routes of events to sinks.
    pub routes: Routes,
    /// The files that are held back, and why.
    pub held: BTreeMap<String, HoldReason>,
}

impl Plan {
    /// Creates the plan for a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot, settings: &Settings) -> Self {
        let mut verdicts = BTreeMap::new();
        let mut routes = Routes::default();
        let mut namespaces: BTreeMap<&str, Vec<render::Sink>> = BTreeMap::new();
        let mut quotas: BTreeMap<&str, Quota> = BTreeMap::new();
        for (name, stored) in oldest_first(&snapshot.log_sinks, snapshot) {
            let checked = match stored {
                Stored::Invalid(reason) => Err(Refusal::invalid(reason)),
                Stored::Spec(spec) => {
                    let scope = Scope::Namespace(&name.namespace);
                    let version = snapshot.versions.get(&name.clone().into());
                    sink::check(spec, scope, version, snapshot, settings)
                }
            };
            let verdict = checked.and_then(|accepted| {
                let sink = render::sink(&name.namespace, &name.name, &accepted);
                let quota = quotas.entry(&name.namespace).or_default();
                quota.take(&accepted, &sink, settings)?;
                let reads = Reads::Only(BTreeSet::from([name.namespace.clone()]));
                routes.add(name.clone().into(), &accepted, reads, snapshot);
                let rendered = sink.rendered.clone();
                namespaces.entry(&name.namespace).or_default().push(sink);
                Ok(rendered)
            });
            verdicts.insert(SinkId::Namespaced(name.clone()), verdict);
        }
        let mut cluster = Vec::new();
        for (name, stored) in oldest_first(&snapshot.cluster_log_sinks, snapshot) {
            let checked = match stored {
                Stored::Invalid(reason) => Err(Refusal::invalid(reason)),
                Stored::Spec(spec) => reads(spec, snapshot).and_then(|reads| {
                    let scope = Scope::Cluster {
                        reads: &reads,
                        has_agent_logs: spec.include_agent_logs,
                    };
                    let version = snapshot.versions.get(&name.clone().into());
                    let checked = sink::check(&spec.sink, scope, version, snapshot, settings);
                    Ok((checked?, reads))
                }),
            };
            let verdict = checked.and_then(|(accepted, reads)| {
                quota::has_room_for_cluster_sink(cluster.len(), settings)?;
                routes.add(name.clone().into(), &accepted, reads, snapshot);
                let sink = render::cluster_sink(name, &accepted);
                let rendered = sink.rendered.clone();
                cluster.push(sink);
                Ok(rendered)
            });
            verdicts.insert(SinkId::Cluster(name.clone()), verdict);
        }
        let refused = verdicts.iter().filter(|(_, verdict)| verdict.is_err());
        for (id, _) in refused {
            routes.refuse(id.clone(), snapshot);
        }
        let template = agent::template(settings);
        let mut tenants = render::tenants(namespaces, cluster);
        let held = hold(&mut tenants, &template, snapshot);
        for (id, verdict) in &verdicts {
            if verdict.as_ref().is_err_and(Refusal::is_not_looked_up) {
                keep(&mut tenants, &render::file_of(id), snapshot.current());
            }
        }
        let configuration = render::configuration(tenants, settings);
        Self {
            revision: revision(&configuration.files, &template),
            configuration,
            template,
            verdicts,
            routes,
            held,
        }
    }
}

/// Returns the sinks ordered by age: quotas are first come, first served.
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

/// Replaces the files that are held back by those of the good revision.
fn hold(
    tenants: &mut BTreeMap<String, render::Tenant>,
    template: &str,
    snapshot: &Snapshot,
) -> BTreeMap<String, HoldReason> {
    let Snapshot { history, now, .. } = snapshot;
    if history.tries_template_alone(template) {
        let good = snapshot.good();
        let names = good.into_iter().flat_map(|good| good.parts.keys());
        let names: BTreeSet<String> = tenants.keys().chain(names).cloned().collect();
        for name in names {
            keep(tenants, &name, good);
        }
        return BTreeMap::new();
    }
    let held: BTreeMap<String, HoldReason> = tenants
        .iter()
        .filter_map(|(name, tenant)| {
            let kept = history.hold_reason(name, tenant.text.as_bytes(), template, *now)?;
            Some((name.clone(), kept))
        })
        .collect();
    for name in held.keys() {
        put_back(tenants, name, snapshot.good());
    }
    held
}

/// Replaces a tenant's file by that of another configuration, if that has the current format.
fn keep(tenants: &mut BTreeMap<String, render::Tenant>, name: &str, other: Option<&Configuration>) {
    let part = other.and_then(|other| other.parts.get(name));
    if part.is_none_or(|part| part.format == FORMAT) {
        put_back(tenants, name, other);
    }
}

/// Replaces a tenant's file by that of another configuration. Removes it if there is none that
/// has the current format.
fn put_back(
    tenants: &mut BTreeMap<String, render::Tenant>,
    name: &str,
    other: Option<&Configuration>,
) {
    match other.and_then(|other| render::Tenant::of(name, other)) {
        Some(before) => tenants.insert(name.to_owned(), before),
        None => tenants.remove(name),
    };
}

/// Returns the namespaces that a cluster sink reads.
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

/// Returns whether a name is an RFC 1123 label.
fn is_namespace(name: &str) -> bool {
    let character = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(character)
}
