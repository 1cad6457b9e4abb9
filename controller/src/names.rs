//! What the controller's objects are called.

/// The `DaemonSet`, and the agents' `ServiceAccount`.
pub const AGENT: &str = "syslog-sink-agent";
/// The container of the agents' pods.
pub const AGENT_CONTAINER: &str = "fluent-bit";
/// The label that the agents' pods have, whatever their revision.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/name", AGENT);
/// On Secrets and on the agents' pods: which revision they are of.
pub const REVISION: &str = "syslogsink.io/revision";
/// On everything that the controller made.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", MANAGER);
/// Who owns the fields that are written (server-side apply).
pub const MANAGER: &str = "sink-controller";
/// The `ConfigMap` that remembers what cannot be seen, and its keys.
pub const STATE: &str = "syslog-sink-state";
/// In it: which input reads which namespace.
pub const LANES: &str = "lanes.json";
/// In it: what became of revisions.
pub const HISTORY: &str = "history.json";
/// The `ConfigMap` that remembers which Events were delivered, and its key.
pub const EVENTS: &str = "syslog-sink-events";
/// In it: from where the next leader goes on.
pub const CHECKPOINT: &str = "checkpoint.json";
/// The file that Fluent Bit is started with.
pub const SERVICE: &str = "fluent-bit.yaml";

/// What selects the objects with this label.
#[must_use]
pub fn selector((key, value): (&str, &str)) -> String {
    format!("{key}={value}")
}
