//! The part common to all agents: the service, and the input.

use super::input;
use super::yaml::{self, Section, quoted};
use crate::settings::Settings;

/// Renders the main file, which includes the others. `has_outputs` is set if any of them has
/// an output.
pub(super) fn service<'f>(
    files: impl Iterator<Item = &'f str>,
    has_outputs: bool,
    settings: &Settings,
) -> String {
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
        ("scheduler.base", "1"),
        ("scheduler.cap", "30"),
    ];
    let keys = keys.map(|(key, value)| format!("  {key}: {}\n", quoted(value)));
    let mut text = format!("service:\n{}\npipeline:\n", keys.concat());
    if has_outputs {
        text.push_str(&input::pod_logs(settings));
    } else {
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
