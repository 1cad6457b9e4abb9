//! What is read: the log files of containers.

use super::Paths;
use super::yaml::{self, Section};
use crate::plan::Reads;

/// Pod, namespace and container; none of them can have an underscore.
const FILE: &str = r"(?<file>[^/_]+_(?<ns>[^/_]+)_[^/_]+\.log)$";

/// The namespaces that share an input.
pub(super) fn lane(lane: u16, namespaces: &[&str], paths: &Paths) -> String {
    let globs: Vec<String> = namespaces
        .iter()
        .map(|namespace| glob(namespace, paths))
        .collect();
    let input = tail(
        paths,
        &format!("lane-{lane}"),
        &globs.join(","),
        "sink.ns.<ns>",
    );
    format!("pipeline:\n{}", yaml::list("inputs", [input]))
}

/// What a cluster sink reads.
pub(super) fn cluster(name: &str, reads: &Reads, paths: &Paths) -> String {
    let (path, excluded) = match reads {
        Reads::AllBut(excluded) => (
            format!("{}/*.log", paths.containers),
            excluded
                .iter()
                .map(|namespace| glob(namespace, paths))
                .collect(),
        ),
        Reads::Only(namespaces) => {
            let globs: Vec<String> = namespaces
                .iter()
                .map(|namespace| glob(namespace, paths))
                .collect();
            (globs.join(","), Vec::new())
        }
    };
    if path.is_empty() {
        return "pipeline:\n".to_owned();
    }
    let excluded = (!excluded.is_empty()).then(|| excluded.join(","));
    let input = tail(
        paths,
        &format!("cluster-{name}"),
        &path,
        &format!("sink.cluster.{name}"),
    )
    .key_if("exclude_path", excluded.as_deref());
    format!("pipeline:\n{}", yaml::list("inputs", [input]))
}

fn glob(namespace: &str, paths: &Paths) -> String {
    format!("{}/*_{namespace}_*.log", paths.containers)
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
