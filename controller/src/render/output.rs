//! The outputs, one for each sink.
//!
//! An output needs no worker: it appends to its queue, and the queue's thread delivers.

use super::yaml::{self, Section};
use super::{alias, cluster_alias};
use crate::tenants::Accepted;

/// Renders the list of a tenant's outputs.
pub(super) fn list(outputs: impl IntoIterator<Item = String>) -> String {
    format!("pipeline:\n{}", yaml::list("outputs", outputs))
}

/// Renders the output of a namespaced sink.
pub(super) fn of_namespace(namespace: &str, name: &str, sink: &Accepted) -> String {
    output(&alias(namespace, name), &format!("ns.{namespace}"), sink)
}

/// Renders the output of a cluster sink. Its keys choose the namespaces.
pub(super) fn cluster(name: &str, sink: &Accepted) -> String {
    output(&cluster_alias(name), "ns.*", sink)
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
        .into_text()
}
