//! What users write about Kubernetes' events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events. A `*` in a name stands for any characters.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventSelection {
    /// Only events that are at least as grave.
    #[serde(default)]
    pub minimum_level: EventType,
    /// Only events of these types.
    #[schemars(length(max = 2))]
    #[serde(default)]
    pub types: Vec<EventType>,
    /// Only events with one of these reasons, such as `BackOff` or `Failed*`.
    #[schemars(
        length(max = 100),
        inner(regex(pattern = r"^[A-Za-z0-9_.:/*-]{1,128}$"))
    )]
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Only events about objects of one of these kinds, such as `Pod`.
    #[schemars(length(max = 100), inner(regex(pattern = r"^[A-Za-z0-9*]{1,63}$")))]
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Not these, though they are selected.
    #[serde(default)]
    pub exclude: EventExclusion,
}

/// Which events are left out. A `*` in a name stands for any characters.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventExclusion {
    /// Events of these types.
    #[schemars(length(max = 2))]
    #[serde(default)]
    pub types: Vec<EventType>,
    /// Events with one of these reasons.
    #[schemars(
        length(max = 100),
        inner(regex(pattern = r"^[A-Za-z0-9_.:/*-]{1,128}$"))
    )]
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Events about objects of one of these kinds.
    #[schemars(length(max = 100), inner(regex(pattern = r"^[A-Za-z0-9*]{1,63}$")))]
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// The types that events have, the graver one later.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum EventType {
    /// Something happened as it should. Also what has none of these types.
    #[default]
    Normal,
    /// Something went wrong.
    Warning,
}

/// What the message of an event is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// What the event says.
    #[default]
    Text,
    /// The event as the API has it, in one line of JSON.
    Json,
}
