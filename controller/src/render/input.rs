//! What is read: the log files of containers.

use super::yaml::{self, Section};
use crate::settings::Paths;
use crate::tenants::Reads;

/// Pod, namespace and container; none of them can have an underscore.
const FILE: &str = r"(?<file>[^/_]+_(?<ns>[^/_]+)_[^/_]+\.log)$";

/// The namespaces that share an input.
pub(super) fn lane(lane: u16, namespaces: &[&str], paths: &Paths) -> String {
    let path = globs(namespaces.iter().copied(), paths);
    let input = tail(paths, &format!("lane-{lane}"), &path, "sink.ns.<ns>");
    format!("pipeline:\n{}", yaml::list("inputs", [input.into_text()]))
}

/// What a cluster sink reads.
pub(super) fn cluster(name: &str, reads: &Reads, paths: &Paths) -> String {
    if !reads.any() {
        return "pipeline:\n".to_owned();
    }
    let (path, excluded) = match reads {
        Reads::AllBut(excluded) if excluded.is_empty() => (all(paths), None),
        Reads::AllBut(excluded) => (all(paths), Some(globs(excluded, paths))),
        Reads::Only(namespaces) => (globs(namespaces, paths), None),
    };
    let alias = format!("cluster-{name}");
    let input = tail(paths, &alias, &path, &format!("sink.cluster.{name}"))
        .key_if("exclude_path", excluded.as_deref());
    format!("pipeline:\n{}", yaml::list("inputs", [input.into_text()]))
}

/// The files of all containers.
fn all(paths: &Paths) -> String {
    format!("{}/*.log", paths.containers)
}

/// The files of these namespaces' containers.
fn globs(namespaces: impl IntoIterator<Item = impl AsRef<str>>, paths: &Paths) -> String {
    let glob = |namespace: &str| format!("{}/*_{namespace}_*.log", paths.containers);
    let globs: Vec<String> = namespaces
        .into_iter()
        .map(|namespace| glob(namespace.as_ref()))
        .collect();
    globs.join(",")
}

fn tail(paths: &Paths, alias: &str, path: &str, owner: &str) -> Section {
    Section::new("tail")
        .key("alias", alias)
        .key("path", path)
        .key("tag", &format!("{owner}.var.log.containers.<file>"))
        .key("tag_regex", FILE)
        // Two inputs must not share one.
        .key("db", &format!("{}/{alias}.db", paths.state))
        .key("multiline.parser", "cri")
        .key("read_from_head", "on")
        // A pod may live for seconds only.
        .key("refresh_interval", "1")
        .key("rotate_wait", "30")
        .key("buffer_max_size", "1M")
        .key("storage.type", "filesystem")
}
