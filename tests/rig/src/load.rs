//! Records like those of a Kubernetes node, for measurements.

use rmpv::Value;

use crate::event::{Format, container_tag, event_in, map};

/// The length of a text that results in a message of 486 bytes.
pub const USUAL_TEXT: usize = 215;

/// Returns the tag and the records of a chunk of one container. Each text is a number,
/// padded to `text` bytes.
#[must_use]
pub fn chunk(format: Format, records: usize, text: usize) -> (String, Vec<u8>) {
    let kubernetes = kubernetes("web-6d4cf56db6-x2k8p", None);
    let record = |number| record(format, number, text, kubernetes.clone());
    let tag = container_tag("shop", "web-6d4cf56db6-x2k8p", "nginx");
    (tag, (0..records).flat_map(record).collect())
}

/// Returns a chunk of the forward input: records of `pods` pods in turn, which are
/// identified only by the records. The messages are as long as those of [`chunk`].
#[must_use]
pub fn forwarded(format: Format, records: usize, text: usize, pods: usize) -> (String, Vec<u8>) {
    let record = |number: usize| {
        let pod = format!("web-6d4cf56db6-{:0>5}", number % pods);
        record(format, number, text, kubernetes(&pod, Some("nginx")))
    };
    let chunk = (0..records).flat_map(record).collect();
    ("forwarded".to_owned(), chunk)
}

fn kubernetes(pod: &str, container: Option<&str>) -> Value {
    let labels = map(vec![
        ("app", "web".into()),
        ("pod-template-hash", "6d4cf56db6".into()),
        ("team", "storefront".into()),
    ]);
    let mut entries = vec![
        ("pod_name", pod.into()),
        ("namespace_name", "shop".into()),
        ("host", "node-1.example.com".into()),
        ("labels", labels),
    ];
    entries.extend(container.map(|name| ("container_name", name.into())));
    map(entries)
}

fn record(format: Format, number: usize, text: usize, kubernetes: Value) -> Vec<u8> {
    let body = map(vec![
        ("log", format!("{number:0>text$}\n").into()),
        ("stream", "stdout".into()),
        ("kubernetes", kubernetes),
    ]);
    event_in(format, 1_772_366_400, number as u32 * 1000, body)
}
