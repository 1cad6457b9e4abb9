//! The names of the controller's objects.

/// The name of the `DaemonSet` and of the agents' `ServiceAccount`.
pub const AGENT: &str = "syslog-sink-agent";
/// The name of the container in the agents' pods.
pub const AGENT_CONTAINER: &str = "fluent-bit";
/// The label of the agents' pods of all revisions.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/name", AGENT);
/// The label or annotation with the revision, on Secrets and agents' pods.
pub const REVISION: &str = "syslogsink.io/revision";
/// The label of everything that the controller created.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", MANAGER);
/// The field manager of server-side apply.
pub const MANAGER: &str = "sink-controller";
/// The name of the `ConfigMap` with the controller's state.
pub const STATE: &str = "syslog-sink-state";
/// The key of the state of the rollout.
pub const HISTORY: &str = "history.json";
/// The name of the `ConfigMap` with the position in the Events.
pub const EVENTS: &str = "syslog-sink-events";
/// The key of the position.
pub const CHECKPOINT: &str = "checkpoint.json";
/// The configuration file that Fluent Bit is started with.
pub const SERVICE: &str = "fluent-bit.yaml";

/// Returns the label selector for a label.
#[must_use]
pub fn selector((key, value): (&str, &str)) -> String {
    format!("{key}={value}")
}
