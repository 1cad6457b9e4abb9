//! The routes of events to sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EventExclusion, EventFormat, EventSelection};
use k8s_openapi::jiff::Timestamp;
use mapper::config::Properties;
use mapper::selection::matches_pattern;
use transport::tls::Pem;

use super::occurrence::Occurrence;
use crate::configuration::Files;
use crate::snapshot::{SinkId, Snapshot};
use crate::tenants::{Accepted, OutputKeys, Reads};

/// The routes of all sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// The sinks that get events.
    pub(crate) open: BTreeMap<SinkId, Arc<Route>>,
    /// The refused sinks with their creation times: they get the events of the meantime
    /// once they are accepted.
    pub(crate) refused: BTreeMap<SinkId, Option<Timestamp>>,
    /// The sinks that want no events.
    pub(crate) off: BTreeSet<SinkId>,
}

/// The route of events to one sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) output: EventOutput,
    pub(crate) reads: Reads,
    pub(crate) selection: EventSelection,
    /// The sink's creation time: it gets no older events from a list.
    pub(crate) since: Option<Timestamp>,
}

/// The output for a sink's events: the keys of its connection and format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventOutput {
    pub(crate) keys: OutputKeys,
    /// The certificates and keys that the keys refer to.
    pub(crate) files: Files,
    pub(crate) format: EventFormat,
}

impl Routes {
    /// Adds an accepted sink.
    pub(crate) fn add(&mut self, id: SinkId, sink: &Accepted, reads: Reads, snapshot: &Snapshot) {
        let Some((selection, format)) = sink.events.clone() else {
            self.off.insert(id);
            return;
        };
        let route = Route {
            output: EventOutput {
                keys: sink.keys.clone(),
                files: sink.files.clone(),
                format,
            },
            reads,
            selection,
            since: created(&id, snapshot),
        };
        self.open.insert(id, Arc::new(route));
    }

    /// Adds a refused sink.
    pub(crate) fn refuse(&mut self, id: SinkId, snapshot: &Snapshot) {
        let created = created(&id, snapshot);
        self.refused.insert(id, created);
    }
}

fn created(id: &SinkId, snapshot: &Snapshot) -> Option<Timestamp> {
    snapshot.versions.get(id)?.created
}

impl Route {
    /// Returns whether the sink wants an event.
    pub(crate) fn matches(&self, occurrence: &Occurrence) -> bool {
        let EventSelection {
            minimum_level,
            types,
            reasons,
            kinds,
            exclude:
                EventExclusion {
                    types: excluded_types,
                    reasons: excluded_reasons,
                    kinds: excluded_kinds,
                },
        } = &self.selection;
        let type_ = occurrence.kind();
        let reason = occurrence.event.reason.as_deref().unwrap_or_default();
        let kind = occurrence.event.involved_object.kind.as_deref();
        let kind = kind.unwrap_or_default();
        let has =
            |patterns: &[String], name: &str| patterns.iter().any(|p| matches_pattern(p, name));
        self.reads.contains(occurrence.namespace())
            && type_ >= *minimum_level
            && (types.is_empty() || types.contains(&type_))
            && (reasons.is_empty() || has(reasons, reason))
            && (kinds.is_empty() || has(kinds, kind))
            && !excluded_types.contains(&type_)
            && !has(excluded_reasons, reason)
            && !has(excluded_kinds, kind)
    }

    /// Returns whether the sink wants an event of a list.
    pub(crate) fn matches_listed(&self, occurrence: &Occurrence) -> bool {
        self.since.is_none_or(|since| occurrence.is_since(since)) && self.matches(occurrence)
    }
}

impl Properties for EventOutput {
    fn get(&self, key: &str) -> Option<String> {
        // The other keys are about logs only: their selection and their format.
        let is_of_events = key == "servers"
            || key == "transport"
            || key.starts_with("tls_")
            || matches!(
                key,
                "facility"
                    | "hostname"
                    | "structured_data"
                    | "max_message_size"
                    | "namespace"
                    | "cluster"
            );
        is_of_events.then(|| self.keys.get(key))?.map(str::to_owned)
    }

    fn pem(&self, path: &str) -> Pem {
        let name = path.rsplit('/').next().unwrap_or_default();
        Pem::Text {
            name: path.to_owned(),
            text: self.files.get(name).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value as Json, json};

    use super::super::occurrence::tests::occurrence;
    use super::*;

    /// Creates the route of a namespaced sink.
    pub(crate) fn route(namespace: &str, selection: Json) -> Route {
        Route {
            output: EventOutput {
                keys: OutputKeys::default(),
                files: Files::new(),
                format: EventFormat::Text,
            },
            reads: Reads::Only(BTreeSet::from([namespace.to_owned()])),
            selection: serde_json::from_value(selection).unwrap(),
            since: None,
        }
    }

    #[test]
    fn a_route_matches_selected_events_that_are_not_excluded() {
        let failed = occurrence(1, &json!({"type": "Warning", "reason": "FailedScheduling"}));
        let started = occurrence(2, &json!({"type": "Normal", "reason": "Started"}));
        for (selection, of_failed, of_started) in [
            (json!({}), true, true),
            (json!({"minimumLevel": "Warning"}), true, false),
            (json!({"types": ["Normal"]}), false, true),
            (json!({"reasons": ["Failed*"]}), true, false),
            (json!({"kinds": ["Pod"]}), true, true),
            (json!({"kinds": ["Node", "Job"]}), false, false),
            (json!({"exclude": {"types": ["Normal"]}}), true, false),
            (json!({"exclude": {"reasons": ["Started"]}}), true, false),
            (json!({"exclude": {"kinds": ["P*"]}}), false, false),
        ] {
            let route = route("shop", selection.clone());
            let matched = (route.matches(&failed), route.matches(&started));
            assert_eq!(matched, (of_failed, of_started), "{selection}");
        }
    }

    #[test]
    fn a_route_does_not_match_events_of_other_namespaces() {
        let event = occurrence(1, &json!({}));
        assert!(!route("other", json!({})).matches(&event));
        let mut cluster = route("", json!({}));
        cluster.reads = Reads::AllBut(BTreeSet::new());
        assert!(cluster.matches(&event));
        cluster.reads = Reads::AllBut(BTreeSet::from(["shop".to_owned()]));
        assert!(!cluster.matches(&event));
    }

    #[test]
    fn a_listed_event_from_before_the_sink_does_not_match() {
        let event = occurrence(1, &json!({}));
        let mut route = route("shop", json!({}));
        route.since = Some("2026-03-01T12:00:00Z".parse().unwrap());
        assert!(route.matches_listed(&event));
        route.since = Some("2026-03-01T12:00:01Z".parse().unwrap());
        assert!(!route.matches_listed(&event) && route.matches(&event));
    }
}
