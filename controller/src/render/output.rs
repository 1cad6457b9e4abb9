//! The outputs, one for each sink.
//!
//! Outputs keep a worker, although an append to a queue needs no thread of its own. Fluent Bit
//! starts about one flush without workers in each pass of its event loop, in which each tail
//! input reads 32 KB of each file that has more. Of 57,000 lines read per second, 6,700
//! reached the receiver, and 53,300 with a worker (docs/BENCHMARKS.md).
//!
//! Smaller batches of tail (`Event_Batch_Size`, `Static_Batch_Size`) do not solve this. They
//! shorten a pass, but each pass begins with the same file, so a file that grows faster than
//! it is read keeps all others from being read (`tests/e2e/tests/tail.rs`). So the controller
//! and `fluent-bit-conf/kubernetes.*` render a worker, at the cost of a thread for each sink,
//! and agents are not reloaded.

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
