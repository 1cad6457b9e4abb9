//! The inputs, which tail the containers' log files.
//!
//! Inputs keep their chunks on disk (`storage.type filesystem`). A chunk between tail and the
//! queue is lost with its process if it is in memory, since tail has already advanced its
//! position: five kills lost 4,400 of 77,600 lines. docs/BENCHMARKS.md has the figures, and
//! the bytes written.

use super::yaml::{self, Section};
use crate::names::{AGENT, AGENT_CONTAINER};
use crate::settings::{Paths, Settings};
use crate::tenants::{ClusterTenant, Reads};

/// Matches the pod, namespace and container of a path; none of them can contain an
/// underscore.
const FILE: &str = r"(?<file>[^/_]+_(?<ns>[^/_]+)_[^/_]+\.log)$";
/// The glob of the random suffix of a `DaemonSet`'s pods.
const SUFFIX: &str = "[a-z0-9][a-z0-9][a-z0-9][a-z0-9][a-z0-9]";

/// Renders the input of a lane's namespaces.
pub(super) fn lane(lane: u16, namespaces: &[&str], settings: &Settings) -> String {
    let paths = &settings.paths;
    let path = globs(namespaces.iter().copied(), paths);
    let input = tail(paths, &format!("lane-{lane}"), &path, "sink.ns.<ns>")
        .key("exclude_path", &agents(settings));
    format!("pipeline:\n{}", yaml::list("inputs", [input.into_text()]))
}

/// Renders the input of a cluster sink.
pub(super) fn cluster(name: &str, tenant: &ClusterTenant, settings: &Settings) -> String {
    let ClusterTenant {
        accepted: _,
        reads,
        agent_logs,
    } = tenant;
    let paths = &settings.paths;
    if !reads.any() {
        return "pipeline:\n".to_owned();
    }
    let (path, mut excluded) = match reads {
        Reads::AllBut(excluded) => (all(paths), glob_list(excluded, paths)),
        Reads::Only(namespaces) => (globs(namespaces, paths), Vec::new()),
    };
    if !agent_logs {
        excluded.push(agents(settings));
    }
    let excluded = (!excluded.is_empty()).then(|| excluded.join(","));
    let alias = format!("cluster-{name}");
    let input = tail(paths, &alias, &path, &format!("sink.cluster.{name}"))
        .key_if("exclude_path", excluded.as_deref());
    format!("pipeline:\n{}", yaml::list("inputs", [input.into_text()]))
}

/// Returns the glob of all containers' files.
fn all(paths: &Paths) -> String {
    format!("{}/*.log", paths.containers)
}

/// Returns the glob of the agents' own log. With a receiver that is down, each of its lines
/// would cause an attempt, and each attempt another line.
fn agents(settings: &Settings) -> String {
    let Settings {
        namespace, paths, ..
    } = settings;
    let folder = &paths.containers;
    format!("{folder}/{AGENT}-{SUFFIX}_{namespace}_{AGENT_CONTAINER}-*.log")
}

/// Returns the globs of the files of these namespaces.
fn globs(namespaces: impl IntoIterator<Item = impl AsRef<str>>, paths: &Paths) -> String {
    glob_list(namespaces, paths).join(",")
}

fn glob_list(namespaces: impl IntoIterator<Item = impl AsRef<str>>, paths: &Paths) -> Vec<String> {
    let glob = |namespace: &str| format!("{}/*_{namespace}_*.log", paths.containers);
    let namespaces = namespaces.into_iter();
    namespaces
        .map(|namespace| glob(namespace.as_ref()))
        .collect()
}

fn tail(paths: &Paths, alias: &str, path: &str, owner: &str) -> Section {
    Section::new("tail")
        .key("alias", alias)
        .key("path", path)
        .key("tag", &format!("{owner}.var.log.containers.<file>"))
        .key("tag_regex", FILE)
        // Two inputs must not share one.
        .key("db", &format!("{}/{alias}.db", paths.state))
        .key("multiline.parser", "docker, cri")
        .key("read_from_head", "on")
        // A pod may live for seconds only.
        .key("refresh_interval", "1")
        .key("rotate_wait", "30")
        // A longer line is skipped and counted, and those behind it are read.
        .key("buffer_max_size", "1M")
        .key("skip_long_lines", "on")
        .key("storage.type", "filesystem")
}
