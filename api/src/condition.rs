//! The types of conditions, and their values.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::SinkStatus;

/// The type of a condition of a sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionType {
    /// The sink is valid, and what it refers to exists.
    Accepted,
    /// The agents of all nodes run with the sink.
    Configured,
    /// The agents, and the controller for events, are connected to the sink's server,
    /// and it takes what they send.
    Delivering,
    /// Accepted and configured, for tools that know nothing of this resource (kstatus):
    /// Flux, and `helm --wait` of Helm 4. Argo CD needs the script in docs/CONTROLLER.md.
    Ready,
    /// Without a change the sink will not become ready (kstatus). Present only then.
    Stalled,
}

impl ConditionType {
    /// All types, in the order in which a status has them.
    pub const ALL: [Self; 5] = [
        Self::Accepted,
        Self::Configured,
        Self::Delivering,
        Self::Ready,
        Self::Stalled,
    ];

    /// The name, as `kubectl wait --for=condition=NAME` takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Configured => "Configured",
            Self::Delivering => "Delivering",
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
        }
    }

    /// Returns the type with this name; none where a controller of another version
    /// wrote it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut types = Self::ALL.into_iter();
        types.find(|type_| type_.as_str() == name)
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Whether the condition holds is not known.
    Unknown,
}

impl ConditionStatus {
    /// The name in the object.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Reads the status of a condition; anything else than `True` and `False` is unknown.
    #[must_use]
    pub fn of(condition: &Condition) -> Self {
        match condition.status.as_str() {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SinkStatus {
    /// Returns the condition of a type, if it was written.
    #[must_use]
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        let mut conditions = self.conditions.iter();
        conditions.find(|condition| condition.type_ == type_.as_str())
    }

    /// Returns the status of a condition: unknown while it was not written.
    #[must_use]
    pub fn status_of(&self, type_: ConditionType) -> ConditionStatus {
        self.condition(type_)
            .map_or(ConditionStatus::Unknown, ConditionStatus::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_read_back() {
        for type_ in ConditionType::ALL {
            assert_eq!(ConditionType::from_name(type_.as_str()), Some(type_));
        }
        assert_eq!(ConditionType::from_name("accepted"), None);
    }
}
