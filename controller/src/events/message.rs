//! Conversion of Events to messages by the mapper, so that a sink's format applies to Events
//! as well.
//!
//! APP-NAME is `k8s.event/<namespace>/<object>`, as in PKS. The other fields of an Event
//! are in `kubernetes@47450`.

use std::borrow::Cow;

use api::{EventFormat, EventType};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use mapper::chunk::Time;
use mapper::message::{KubernetesEvent, Mapper, Tally, Workspace};
use syslog::{Batch, Severity};

use super::occurrence::Occurrence;

/// Appends the message of an Event.
pub(super) fn push_event(
    occurrence: &Occurrence,
    format: EventFormat,
    mapper: &Mapper,
    batch: &mut Batch,
    space: &mut Workspace,
) -> Tally {
    let Occurrence { event, .. } = occurrence;
    let text = match format {
        EventFormat::Text => Cow::from(event.message.as_deref().unwrap_or_default()),
        EventFormat::Json => {
            Cow::from(serde_json::to_string(event).expect("an Event has only text keys"))
        }
    };
    let repetition = occurrence.repetition();
    let (count, node) = (repetition.count.to_string(), node(event));
    let time = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    let (first, last) = (time(occurrence.first()), time(repetition.last));
    let object = &event.involved_object;
    let params = [
        ("kind", object.kind.as_deref()),
        ("name", object.name.as_deref()),
        ("uid", object.uid.as_deref()),
        ("field_path", object.field_path.as_deref()),
        ("reason", event.reason.as_deref()),
        ("type", event.type_.as_deref()),
        ("component", component(event)),
        ("node", node),
        ("count", Some(&*count)),
        ("first_time", first.as_deref()),
        ("last_time", last.as_deref()),
    ];
    let params = params.into_iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    let params: Vec<(&str, &str)> = params.collect();
    let event = KubernetesEvent {
        time: repetition.last.map(|last| Time {
            seconds: last.as_second(),
            nanos: last.subsec_nanosecond().unsigned_abs(),
        }),
        severity: match occurrence.kind() {
            EventType::Normal => Severity::Informational,
            EventType::Warning => Severity::Warning,
        },
        namespace: occurrence.namespace(),
        object: object.name.as_deref().unwrap_or_default(),
        node,
        params: &params,
        text: &text,
    };
    mapper.map_event(&event, batch, space)
}

/// Returns the component that reported the Event.
fn component(event: &Event) -> Option<&str> {
    let source = event.source.as_ref();
    let of_source = source.and_then(|source| source.component.as_deref());
    of_source
        .filter(|component| !component.is_empty())
        .or(event.reporting_component.as_deref())
}

/// Returns the node of the Event, if there is one.
fn node(event: &Event) -> Option<&str> {
    let source = event.source.as_ref();
    let of_source = source.and_then(|source| source.host.as_deref());
    of_source.filter(|host| !host.is_empty()).or_else(|| {
        let object = &event.involved_object;
        let is_node = object.kind.as_deref() == Some("Node");
        let is_kubelet = event.reporting_component.as_deref() == Some("kubelet");
        match (is_node, is_kubelet) {
            (true, _) => object.name.as_deref(),
            (_, true) => event.reporting_instance.as_deref(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use mapper::config::{Config, Properties};
    use serde_json::json;
    use syslog::Framing;

    use super::super::occurrence::tests::occurrence;
    use super::super::route::EventOutput;
    use super::*;
    use crate::configuration::Files;
    use crate::tenants::OutputKeys;
    use crate::value;

    /// Returns the message of a sink with these options.
    fn message_with(
        options: &[(&'static str, &str)],
        format: EventFormat,
        fields: &serde_json::Value,
    ) -> String {
        let all = [
            ("servers", "logs.example.com"),
            ("transport", "tcp"),
            ("cluster", "on"),
        ];
        let mut keys = OutputKeys::default();
        for (key, text) in all.iter().chain(options) {
            keys.push(key, value::Value::new(text).unwrap());
        }
        let output = EventOutput {
            keys,
            files: Files::new(),
            format,
        };
        assert_eq!(output.get("message"), None);
        let mapper = Mapper::new(&Config::parse(&output).unwrap(), "controller-1".to_owned());
        let mut batch = Batch::new(Framing::Datagram);
        let (event, space) = (occurrence(7, fields), &mut Workspace::default());
        push_event(&event, format, &mapper, &mut batch, space);
        let text = String::from_utf8(batch.bytes().to_vec()).unwrap();
        receiver::message::parse(batch.bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        text
    }

    fn message(fields: &serde_json::Value) -> String {
        message_with(&[], EventFormat::Text, fields)
    }

    #[test]
    fn an_event_of_the_kubelet_is_formatted() {
        let text = message(&json!({
            "type": "Warning",
            "reason": "BackOff",
            "message": "Back-off pulling image \"shop/web:1\"",
            "count": 3,
            "firstTimestamp": "2026-03-01T12:00:01Z",
            "lastTimestamp": "2026-03-01T12:00:41Z",
            "involvedObject": {"uid": "2f", "fieldPath": "spec.containers{web}"},
            "source": {"component": "kubelet", "host": "node-7"},
        }));
        assert_eq!(
            text,
            "<12>1 2026-03-01T12:00:41.000000Z node-7 k8s.event/shop/web - - \
             [kubernetes@47450 kind=\"Pod\" name=\"web\" uid=\"2f\" \
             field_path=\"spec.containers{web}\" reason=\"BackOff\" type=\"Warning\" \
             component=\"kubelet\" node=\"node-7\" count=\"3\" \
             first_time=\"2026-03-01T12:00:01Z\" last_time=\"2026-03-01T12:00:41Z\" \
             namespace_name=\"shop\" object_name=\"web\" container_name=\"\" vm_id=\"node-7\"] \
             Back-off pulling image \"shop/web:1\""
        );
    }

    #[test]
    fn an_event_of_the_scheduler_is_formatted() {
        let text = message(&json!({
            "type": "Normal",
            "reason": "Scheduled",
            "message": "Successfully assigned shop/web to node-7",
            "eventTime": "2026-03-01T12:00:01.123456Z",
            "reportingComponent": "default-scheduler",
            "reportingInstance": "default-scheduler-control-plane",
        }));
        let start = "<14>1 2026-03-01T12:00:01.123456Z controller-1 k8s.event/shop/web - - ";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.contains(" component=\"default-scheduler\" count=\"1\""),
            "{text}"
        );
    }

    #[test]
    fn only_format_options_for_events_apply() {
        let options = [
            ("facility", "local3"),
            ("hostname", "prod-cluster"),
            ("structured_data", "[env@32473 stage=\"prod\"]"),
            ("severity", "$level"),
            ("app_name", "shop"),
            ("message", "$nothing"),
            ("containers", "web"),
            ("pod_selector", "app=web"),
        ];
        let fields = json!({"type": "Warning", "message": "a\nb"});
        let text = message_with(&options, EventFormat::Text, &fields);
        let start = "<156>1 2026-03-01T12:00:00.000000Z prod-cluster k8s.event/shop/web - - \
                     [env@32473 stage=\"prod\"][kubernetes@47450 kind=\"Pod\"";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with("] a\nb"), "{text}");
    }

    #[test]
    fn an_event_is_formatted_as_one_line_of_json() {
        let fields = json!({"message": "a\nb", "metadata": {"labels": {"a": "b"}}});
        let text = message_with(&[], EventFormat::Json, &fields);
        let (_, json) = text.split_once("] ").unwrap();
        let parsed: Event = serde_json::from_str(json).unwrap();
        assert_eq!(parsed, occurrence(7, &fields).event);
        assert!(!json.contains('\n') && !json.contains("labels"), "{json}");
    }

    #[test]
    fn hostile_text_is_escaped() {
        let text = message(&json!({
            "type": "Warning\" evil=\"1",
            "reason": "a\"]\\ b\n<0>1 - - - - - -",
            "message": "x\n<0>1 - evil - - - - \u{0}\u{7f}\u{2028}",
            "involvedObject": {"kind": "P o]d", "name": "../../\"\n", "namespace": "other"},
            "lastTimestamp": "2200-01-01T00:00:00Z",
            "source": {"host": "a b\nc"},
        }));
        // A name that no object has is no part of APP-NAME.
        assert!(text.contains(" a-b-c k8s.event/shop - - "), "{text}");
        assert!(text.contains(" reason=\"a\\\"\\]\\\\ b <0>1"), "{text}");
        assert!(
            text.contains(" namespace_name=\"shop\" object_name=\"\""),
            "{text}"
        );
        assert!(
            text.starts_with("<14>1 2200-01-01T00:00:00.000000Z "),
            "{text}"
        );
    }

    #[test]
    fn an_event_without_fields_is_a_valid_message() {
        let text = message(&json!({"involvedObject": {"kind": null, "name": null}}));
        assert!(
            text.contains(" k8s.event/shop - - [kubernetes@47450 count=\"1\""),
            "{text}"
        );
    }
}
