//! The status of a sink, which the controller writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a sink.
// Without this default, a sink that no controller has seen would be ready for kstatus,
// which takes an object without conditions for one that needs none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct SinkStatus {
    /// The generation that the conditions are about; -1 until a controller has seen the
    /// sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the sink is valid. `Configured`: the agents of all nodes run with it.
    /// `Delivering`: the agents, and the controller for events, are connected to the server,
    /// and it accepts what they send. `Ready`: the sink is accepted and configured.
    /// `Stalled`: it will not become ready without a change.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Counts of the agents, each since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The last failure. It stays after recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// Counts of the agents, each since its start. Updated once a minute.
// Absent fields are written as null, which removes them: the status is a merge patch.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Messages that the receiver acknowledged.
    pub acknowledged: u64,
    /// Records that were dropped.
    pub dropped: u64,
    /// Messages in the nodes' queues that the receiver has not acknowledged.
    #[serde(default)]
    pub waiting: u64,
    /// The time at which the oldest waiting message was queued.
    #[serde(default)]
    pub oldest_waiting_time: Option<Time>,
    /// Counts of Kubernetes events, if the sink gets any.
    #[serde(default)]
    pub events: Option<EventCounts>,
    /// The time of these counts.
    pub observed_time: Time,
    /// The last time at which the number of acknowledged messages had grown.
    #[serde(default)]
    pub last_acknowledged_time: Option<Time>,
}

/// Counts of Kubernetes events since the reporting controller became leader.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventCounts {
    /// Events that the receiver acknowledged.
    pub acknowledged: u64,
    /// Events that were dropped because too many waited.
    pub dropped: u64,
    /// Events that the receiver has not acknowledged yet.
    pub waiting: u64,
}

/// A failure to deliver.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct LastError {
    /// The kind of failure, as in the condition `Delivering`.
    pub reason: String,
    /// A node with the failure, or `controller` for events.
    pub node: String,
    /// The time at which it was first seen.
    pub time: Time,
}
