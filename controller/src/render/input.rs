//! The input, which reads the logs of all namespaces that an output wants.
//!
//! It keeps no position of its own, but continues where the outputs' queues end, and stops
//! reading while these take nothing. So its records stay in memory (`docs/POD_LOGS.md`).

use super::yaml::{self, Section};
use crate::settings::Settings;

/// The maximum size of the records in memory. The input itself holds up to 8 MiB.
const MEMORY: &str = "16M";

/// Renders the input.
pub(super) fn pod_logs(settings: &Settings) -> String {
    let paths = &settings.paths;
    let mut input = Section::new("pod_logs")
        .key("alias", "pods")
        .key("path", &paths.pods)
        .key("queue_path", &paths.queues())
        .key("labels_path", &paths.labels)
        // The DaemonSet's variable.
        .key("node_name", "${NODE_NAME}")
        .key("mem_buf_limit", MEMORY);
    if !paths.links.is_empty() {
        input = input.key("link_paths", &paths.links.join(","));
    }
    yaml::list("inputs", [input.into_text()])
}
