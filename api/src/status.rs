//! What the controller says of a sink.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller says of a sink.
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
    /// `Accepted`: the sink is one that can be configured. `Configured`: the
    /// nodes' agents have it. `Delivering`: they, and the controller for events,
    /// are connected to its server, and it takes what they send. `Ready`, for
    /// tools that know nothing else: it is accepted, and all nodes have it; `Stalled`: that will not be without a change.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What the agents have counted, each since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The last failure that was seen; it stays when all is well again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// What the agents have counted, each since its start. Looked at once a minute.
// What is absent is written as null, which removes it: the status is a merge patch.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Messages that the receiver acknowledged.
    pub acknowledged: u64,
    /// Records that were given up.
    pub dropped: u64,
    /// Messages on the nodes' disks that the receiver has not acknowledged.
    #[serde(default)]
    pub waiting: u64,
    /// When the oldest of them was written there.
    #[serde(default)]
    pub oldest_waiting_time: Option<Time>,
    /// What became of Kubernetes' events, if the sink gets any.
    #[serde(default)]
    pub events: Option<EventCounts>,
    /// When this was so.
    pub observed_time: Time,
    /// When a message more was acknowledged than before.
    #[serde(default)]
    pub last_acknowledged_time: Option<Time>,
}

/// What became of Kubernetes' events, since this controller leads.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventCounts {
    /// Events that the receiver acknowledged.
    pub acknowledged: u64,
    /// Events that were given up because too many waited.
    pub dropped: u64,
    /// Events that wait for the receiver.
    pub waiting: u64,
}

/// A failure to deliver.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct LastError {
    /// Which kind of failure, as in the condition `Delivering`.
    pub reason: String,
    /// A node where it was seen; `controller` where that is who sends events.
    pub node: String,
    /// When it was seen first.
    pub time: Time,
}
