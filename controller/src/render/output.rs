//! Where it goes: an output for each sink.

use std::collections::BTreeMap;

use super::yaml::{self, Section};
use crate::plan::Accepted;

/// The outputs of a namespace's sinks.
pub(super) fn namespace(namespace: &str, sinks: &BTreeMap<String, Accepted>) -> String {
    let tags = format!("sink.ns.{namespace}.*");
    let outputs = sinks
        .iter()
        .map(|(name, sink)| output(&format!("{namespace}/{name}"), &tags, sink));
    format!("pipeline:\n{}", yaml::list("outputs", outputs))
}

/// The output of a cluster sink.
pub(super) fn cluster(name: &str, sink: &Accepted) -> String {
    let output = output(
        &format!("cluster/{name}"),
        &format!("sink.cluster.{name}.*"),
        sink,
    );
    yaml::list("outputs", [output])
}

fn output(alias: &str, tags: &str, sink: &Accepted) -> Section {
    let section = Section::new("syslog_sink")
        .key("alias", alias)
        .key("match", tags);
    let section = sink.options.iter().fold(section, |section, (key, value)| {
        section.key(key, value.as_str())
    });
    section
        // Never give a chunk up, but bound what waits.
        .key("retry_limit", "no_limits")
        .key("storage.total_limit_size", sink.buffer_limit.as_str())
        // A thread of its own, so that a slow receiver holds nobody else up.
        .key("workers", "1")
}
