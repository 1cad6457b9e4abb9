//! The part common to all agents: the service, the parser of tags, and the filter that adds
//! labels.

use super::yaml::{self, Section, quoted};
use crate::settings::Settings;

/// Parses a tag: the tenant, then the container.
const TAG: &str = "^(?:ns|cluster)\\.[^.]+\\.var\\.log\\.containers\\.\
                   (?<pod_name>[^_]+)_(?<namespace_name>[^_]+)_(?<container_name>.+)-\
                   (?<docker_id>[a-z0-9]{64})\\.log$";

/// Renders the main file, which includes the others. `reads_any` is set if any of them has
/// an input.
pub(super) fn service<'f>(
    files: impl Iterator<Item = &'f str>,
    reads_any: bool,
    settings: &Settings,
) -> String {
    let chunks = format!("{}/chunks", settings.paths.state);
    let port = settings.agent.metrics_port.to_string();
    let keys = [
        ("flush", "1"),
        ("grace", "10"),
        ("log_level", "info"),
        ("http_server", "on"),
        // The DaemonSet's variable: all addresses, of IPv4 and IPv6.
        ("http_listen", "${HTTP_LISTEN}"),
        ("http_port", &port),
        ("health_check", "on"),
        ("storage.path", &chunks),
        // A chunk holds one container's records: as many as a node can have.
        ("storage.max_chunks_up", "2000"),
        ("scheduler.base", "1"),
        ("scheduler.cap", "30"),
    ];
    let keys = keys.map(|(key, value)| format!("  {key}: {}\n", quoted(value)));
    let filter = Section::new("kubernetes")
        .key("match", "sink.*")
        .key("kube_tag_prefix", "sink.")
        .key("regex_parser", "sink_tag")
        // Where names cannot be looked up, logs go without labels after 3 seconds. The
        // default of 3 minutes would keep an agent from reading anything for that time.
        .key("dns_retries", "3")
        .key("dns_wait_time", "1")
        // Without this key, a line of JSON could overwrite any key of its record.
        .key("merge_log", "on")
        .key("merge_log_key", "parsed")
        .key("annotations", "off")
        // A pod that is created again under its name has labels of its own; those
        // of a running one may change.
        .key("cache_use_docker_id", "on")
        .key("kube_meta_cache_ttl", "1h");
    let mut text = format!(
        "service:\n{}\nparsers:\n  - name: \"sink_tag\"\n    format: \"regex\"\n    \
         regex: {}\n\npipeline:\n{}",
        keys.concat(),
        quoted(TAG),
        yaml::list("filters", [filter.into_text()]),
    );
    if !reads_any {
        // An agent without any input does not start.
        let idle = Section::new("dummy").key("tag", "idle").key("samples", "1");
        text.push_str(&yaml::list("inputs", [idle.into_text()]));
        let nowhere = Section::new("null").key("match", "idle");
        text.push_str(&yaml::list("outputs", [nowhere.into_text()]));
    }
    let includes: Vec<String> = files
        .map(|file| format!("  - {}\n", quoted(file)))
        .collect();
    if !includes.is_empty() {
        text.push_str("\nincludes:\n");
        text.push_str(&includes.concat());
    }
    text
}
