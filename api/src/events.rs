//! The selection and format of Kubernetes events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Selects events. A `*` in a name stands for any characters.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventSelection {
    /// Only events of this type or a more severe one.
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
    /// Excludes selected events.
    #[serde(default)]
    pub exclude: EventExclusion,
}

/// Excludes events. A `*` in a name stands for any characters.
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

/// The type of an event, in order of severity.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum EventType {
    /// An expected event, or one of an unknown type.
    #[default]
    Normal,
    /// A problem.
    Warning,
}

/// The format of the MSG of events.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// The event's message.
    #[default]
    Text,
    /// The whole event as one line of JSON.
    Json,
}
