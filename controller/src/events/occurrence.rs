//! An occurrence: one version of an Event. The API keeps repetitions in one Event, whose
//! count and last time change.
//!
//! Both of the API's groups show the same Events. Those written by way of
//! `events.k8s.io/v1` count in a series, those of core/v1 in `count`.
//!
//! Resource versions are compared. Those of one resource are increasing numbers: Kubernetes
//! guarantees this since 1.35 (KEP-5504), and earlier versions behaved in the same manner. So
//! a position in the stream of Events is one number, a restart is a list and a comparison, and
//! no single Event has to be remembered. A queue is ordered by version, so an Event that both
//! the list and the watch return is in it once.

use std::io;

use api::EventType;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::lenient::Lenient;

/// An occurrence of an Event.
#[derive(Debug)]
pub(crate) struct Occurrence {
    /// The resource version; greater for later occurrences.
    pub(crate) version: u64,
    pub(crate) event: Event,
    /// The approximate memory use in bytes.
    pub(crate) weight: usize,
}

/// The count and the last time of an Event, which change with each occurrence.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) struct Repetition {
    pub(crate) count: i32,
    pub(crate) last: Option<Timestamp>,
}

impl Occurrence {
    /// Creates an occurrence; none if the Event has no version, which API servers always
    /// set.
    pub(crate) fn new(Lenient(mut event): Lenient<Event>) -> Option<Self> {
        let version = event.metadata.resource_version.as_ref()?.parse().ok()?;
        // These fields do not describe the event, and can be long.
        event.metadata.annotations = None;
        event.metadata.labels = None;
        event.metadata.owner_references = None;
        let mut length = Length(0);
        // A count of bytes takes everything.
        let _ = serde_json::to_writer(&mut length, &event);
        Some(Self {
            version,
            weight: size_of::<Self>() + length.0,
            event,
        })
    }

    /// Returns the Event's namespace, which is that of its object, or `default` for
    /// cluster-scoped objects.
    pub(crate) fn namespace(&self) -> &str {
        self.event.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns the Event's UID, which is the same for all its occurrences.
    pub(crate) fn uid(&self) -> &str {
        self.event.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> EventType {
        match self.event.type_.as_deref() {
            Some("Warning") => EventType::Warning,
            _ => EventType::Normal,
        }
    }

    pub(crate) fn repetition(&self) -> Repetition {
        let Event {
            count,
            event_time,
            first_timestamp,
            last_timestamp,
            series,
            ..
        } = &self.event;
        let series = series.as_ref();
        let in_series = series.and_then(|series| series.last_observed_time.as_ref());
        let last = in_series.map(|time| time.0);
        let last = last.or(last_timestamp.as_ref().map(|time| time.0));
        let last = last.or(event_time.as_ref().map(|time| time.0));
        let last = last.or(first_timestamp.as_ref().map(|time| time.0));
        let count = series.and_then(|series| series.count).or(*count);
        Repetition {
            count: count.unwrap_or(1).max(1),
            last: last.or_else(|| self.created()),
        }
    }

    /// Returns the time of the first occurrence.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        let first = self.event.first_timestamp.as_ref().map(|time| time.0);
        let in_detail = self.event.event_time.as_ref().map(|time| time.0);
        in_detail.or(first).or_else(|| self.created())
    }

    /// Returns whether the Event is not older than a time. The fields of an Event are free
    /// text, except for its creation time.
    pub(crate) fn is_since(&self, time: Timestamp) -> bool {
        let is_since = |moment: Timestamp| moment.as_second() >= time.as_second();
        self.created().is_some_and(is_since) || self.repetition().last.is_some_and(is_since)
    }

    fn created(&self) -> Option<Timestamp> {
        self.event.creation_timestamp().map(|time| time.0)
    }
}

/// Counts written bytes.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Creates an occurrence with these fields.
    pub(crate) fn occurrence(version: u64, fields: &Value) -> Occurrence {
        let mut event = json!({
            "metadata": {
                "name": "web.1",
                "namespace": "shop",
                "uid": "7d1f",
                "resourceVersion": version.to_string(),
                "creationTimestamp": "2026-03-01T12:00:00Z",
            },
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": "shop"},
        });
        merge(&mut event, fields);
        Occurrence::new(serde_json::from_value(event).unwrap()).unwrap()
    }

    fn merge(to: &mut Value, from: &Value) {
        match (to, from) {
            (Value::Object(to), Value::Object(from)) => {
                for (key, value) in from {
                    merge(to.entry(key).or_insert(Value::Null), value);
                }
            }
            (to, from) => from.clone_into(to),
        }
    }

    fn repetition(fields: &Value) -> (i32, String) {
        let Repetition { count, last } = occurrence(1, fields).repetition();
        (count, last.unwrap().to_string())
    }

    #[test]
    fn count_and_time_come_from_both_apis() {
        let counted = json!({
            "count": 3,
            "firstTimestamp": "2026-03-01T12:00:01Z",
            "lastTimestamp": "2026-03-01T12:00:09Z",
            "eventTime": null,
        });
        assert_eq!(repetition(&counted), (3, "2026-03-01T12:00:09Z".to_owned()));
        let once = json!({"eventTime": "2026-03-01T12:00:02.123456Z"});
        assert_eq!(
            repetition(&once),
            (1, "2026-03-01T12:00:02.123456Z".to_owned())
        );
        let series = json!({
            "eventTime": "2026-03-01T12:00:02.123456Z",
            "series": {"count": 4, "lastObservedTime": "2026-03-01T12:06:00.5Z"},
        });
        assert_eq!(
            repetition(&series),
            (4, "2026-03-01T12:06:00.5Z".to_owned())
        );
        let first = occurrence(1, &series).first().unwrap();
        assert_eq!(first.to_string(), "2026-03-01T12:00:02.123456Z");
    }

    #[test]
    fn an_event_without_time_and_count_occurred_once_at_its_creation() {
        let (count, last) = repetition(&json!({"count": -1}));
        assert_eq!((count, last.as_str()), (1, "2026-03-01T12:00:00Z"));
    }

    #[test]
    fn an_event_with_a_wrong_time_dates_from_its_creation() {
        let wrong = occurrence(1, &json!({"lastTimestamp": "1970-01-01T00:00:00Z"}));
        assert!(wrong.is_since("2026-03-01T12:00:00.9Z".parse().unwrap()));
        assert!(!wrong.is_since("2026-03-01T12:00:01Z".parse().unwrap()));
        let repeated = occurrence(1, &json!({"lastTimestamp": "2026-03-01T13:00:00Z"}));
        assert!(repeated.is_since("2026-03-01T13:00:00Z".parse().unwrap()));
    }
}
