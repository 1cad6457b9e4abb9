//! The outputs, one for each sink.

use super::yaml::{self, Section};
use super::{alias, cluster_alias};
use crate::tenants::Accepted;

/// Renders the list of a namespace's outputs.
pub(super) fn list(outputs: impl IntoIterator<Item = String>) -> String {
    format!("pipeline:\n{}", yaml::list("outputs", outputs))
}

/// Renders the output of a namespaced sink.
pub(super) fn of_namespace(namespace: &str, name: &str, sink: &Accepted) -> String {
    let tags = format!("sink.ns.{namespace}.*");
    output(&alias(namespace, name), &tags, sink)
}

/// Renders the output of a cluster sink, whose tags contain `tag`.
pub(super) fn cluster(name: &str, tag: &str, sink: &Accepted) -> String {
    let tags = format!("sink.cluster.{tag}.*");
    yaml::list("outputs", [output(&cluster_alias(name), &tags, sink)])
}

fn output(alias: &str, tags: &str, sink: &Accepted) -> String {
    let section = Section::new("syslog_sink")
        .key("alias", alias)
        .key("match", tags);
    let section = sink
        .keys
        .iter()
        .fold(section, |section, (key, value)| section.key(key, value));
    section
        // A chunk is tried again only while the queue's disk is full.
        .key("retry_limit", "no_limits")
        // A thread of its own: on the engine's own thread, tail would starve it.
        .key("workers", "1")
        .into_text()
}
