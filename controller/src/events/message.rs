//! Conversion of an Event to the record from which the mapper makes a message, so that a
//! sink's format applies to Events as well.
//!
//! APP-NAME is `k8s.event/<namespace>/<object>`, as in PKS. The other fields of an Event
//! are in `kubernetes@47450`.

use api::{EventFormat, EventType};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use rmpv::Value;

use super::occurrence::{Occurrence, Repetition};

/// The tag by which the mapper recognises Events.
pub(super) const TAG: &str = "k8s.event";

/// Appends an Event as a record of Fluent Bit.
pub(super) fn push_record(occurrence: &Occurrence, format: EventFormat, chunk: &mut Vec<u8>) {
    let text = match format {
        EventFormat::Text => occurrence.event.message.clone().unwrap_or_default(),
        EventFormat::Json => {
            serde_json::to_string(&occurrence.event).expect("an Event has only text keys")
        }
    };
    let severity = match occurrence.kind() {
        EventType::Normal => "info",
        EventType::Warning => "warning",
    };
    let repetition = occurrence.repetition();
    let record = map([
        ("log", Value::from(text)),
        ("severity", Value::from(severity)),
        ("kubernetes", kubernetes(occurrence, repetition)),
    ]);
    let head = Value::Array(vec![time(repetition.last), map([])]);
    rmpv::encode::write_value(chunk, &Value::Array(vec![head, record]))
        .expect("a Vec takes everything");
}

fn kubernetes(occurrence: &Occurrence, Repetition { count, last }: Repetition) -> Value {
    let Event {
        involved_object: object,
        reason,
        ..
    } = &occurrence.event;
    let node = node(&occurrence.event);
    let time = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    let params = [
        ("kind", object.kind.clone()),
        ("name", object.name.clone()),
        ("uid", object.uid.clone()),
        ("field_path", object.field_path.clone()),
        ("reason", reason.clone()),
        ("type", occurrence.event.type_.clone()),
        ("component", component(&occurrence.event)),
        ("node", node.clone()),
        ("count", Some(count.to_string())),
        ("first_time", time(occurrence.first())),
        ("last_time", time(last)),
    ];
    let params = params.into_iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some((Value::from(name), Value::from(value)))
    });
    map([
        ("namespace_name", occurrence.namespace().into()),
        ("pod_name", object.name.clone().unwrap_or_default().into()),
        ("host", node.unwrap_or_default().into()),
        ("labels", Value::Map(params.collect())),
    ])
}

/// Returns the component that reported the Event.
fn component(event: &Event) -> Option<String> {
    let source = event.source.as_ref();
    let of_source = source.and_then(|source| source.component.clone());
    of_source
        .filter(|component| !component.is_empty())
        .or_else(|| event.reporting_component.clone())
}

/// Returns the node of the Event, if there is one.
fn node(event: &Event) -> Option<String> {
    let source = event.source.as_ref();
    let of_source = source.and_then(|source| source.host.clone());
    of_source.filter(|host| !host.is_empty()).or_else(|| {
        let object = &event.involved_object;
        let is_node = object.kind.as_deref() == Some("Node");
        let is_kubelet = event.reporting_component.as_deref() == Some("kubelet");
        match (is_node, is_kubelet) {
            (true, _) => object.name.clone(),
            (_, true) => event.reporting_instance.clone(),
            _ => None,
        }
    })
}

/// Encodes a time as the forward protocol does; nil if it is out of range.
fn time(moment: Option<Timestamp>) -> Value {
    let seconds = moment.map(|moment| u32::try_from(moment.as_second()));
    let (Some(moment), Some(Ok(seconds))) = (moment, seconds) else {
        return Value::Nil;
    };
    let nanos = moment.subsec_nanosecond().unsigned_abs();
    Value::Ext(0, [seconds.to_be_bytes(), nanos.to_be_bytes()].concat())
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use mapper::config::{Config, Properties};
    use mapper::message::{Mapper, Workspace};
    use serde_json::json;
    use syslog::{Batch, Framing};

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
            ("addr", "logs.example.com"),
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
        let (mut chunk, mut batch) = (Vec::new(), Batch::new(Framing::Datagram));
        push_record(&occurrence(7, fields), format, &mut chunk);
        mapper.map_chunk(TAG, &chunk, &mut batch, &mut Workspace::default());
        let text = String::from_utf8(batch.bytes().to_vec()).unwrap();
        receiver::message::parse(batch.bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        text
    }

    fn message(fields: &serde_json::Value) -> String {
        message_with(&[], EventFormat::Text, fields)
    }

    #[test]
    fn a_kubelets_event() {
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
    fn a_schedulers_event() {
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
    fn what_a_sink_says_of_its_messages_holds_unless_it_is_about_logs() {
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
    fn a_whole_event_in_one_line() {
        let fields = json!({"message": "a\nb", "metadata": {"labels": {"a": "b"}}});
        let text = message_with(&[], EventFormat::Json, &fields);
        let (_, json) = text.split_once("] ").unwrap();
        let parsed: Event = serde_json::from_str(json).unwrap();
        assert_eq!(parsed, occurrence(7, &fields).event);
        assert!(!json.contains('\n') && !json.contains("labels"), "{json}");
    }

    #[test]
    fn hostile_text_stays_text() {
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
        assert!(text.starts_with("<14>1 - "), "{text}");
    }

    #[test]
    fn an_event_without_anything_is_one_all_the_same() {
        let text = message(&json!({"involvedObject": {"kind": null, "name": null}}));
        assert!(
            text.contains(" k8s.event/shop - - [kubernetes@47450 count=\"1\""),
            "{text}"
        );
    }
}
