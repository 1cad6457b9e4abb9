//! The checkpoint, which a leader leaves to the next: the versions up to which sinks have
//! all Events.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::render::alias_of;
use crate::snapshot::SinkId;

/// The maximum number of sinks with a position of their own: a `ConfigMap` holds 1 MiB.
const MAX_POSITIONS: usize = 2000;

/// The positions of sinks in the stream of Events.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checkpoint {
    /// The version of the newest Event.
    pub(crate) version: u64,
    /// The creation time of the newest sink known at that time.
    pub(crate) sinks_until: Option<Timestamp>,
    /// The sinks whose position differs from `version`.
    pub(crate) positions: BTreeMap<String, u64>,
}

impl Checkpoint {
    /// Sets the position of a sink. If there are too many, the first ones keep theirs; of
    /// the others, Events that wait are lost with this leader.
    pub(crate) fn put(&mut self, id: &SinkId, version: u64) {
        if self.positions.len() < MAX_POSITIONS {
            self.positions.insert(alias_of(id), version);
        }
    }

    /// Returns the position of a sink with this creation time.
    pub(crate) fn position_of(&self, id: &SinkId, since: Option<Timestamp>) -> u64 {
        match self.positions.get(&alias_of(id)) {
            Some(position) => *position,
            // Nobody knew of it yet.
            None if since >= self.sinks_until => 0,
            None => self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ObjectName;

    #[test]
    fn a_sink_newer_than_the_checkpoint_starts_at_zero() {
        let id = |name: &str| SinkId::Namespaced(ObjectName::new("shop", name));
        let time = |text: &str| Some(text.parse().unwrap());
        let mut checkpoint = Checkpoint {
            version: 100,
            sinks_until: time("2026-03-01T12:00:00Z"),
            positions: BTreeMap::new(),
        };
        checkpoint.put(&id("behind"), 70);
        checkpoint.put(&id("newest"), 100);
        let position = |name, since| checkpoint.position_of(&id(name), time(since));
        assert_eq!(position("behind", "2026-03-01T11:00:00Z"), 70);
        assert_eq!(position("other", "2026-03-01T11:00:00Z"), 100);
        assert_eq!(position("newest", "2026-03-01T12:00:00Z"), 100);
        assert_eq!(position("newer", "2026-03-01T12:00:00Z"), 0);
        assert_eq!(position("newer", "2026-03-01T12:00:01Z"), 0);
        let text = serde_json::to_string(&checkpoint).unwrap();
        assert_eq!(
            serde_json::from_str::<Checkpoint>(&text).unwrap(),
            checkpoint
        );
    }

    #[test]
    fn without_a_checkpoint_every_sink_starts_at_zero() {
        let id = SinkId::Cluster("all".to_owned());
        assert_eq!(Checkpoint::default().position_of(&id, None), 0);
    }
}
