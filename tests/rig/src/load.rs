//! Records as a Kubernetes node has them, for measuring.

use crate::event::{Format, container_tag, event_in, map};

/// The length of a text that makes a message of 486 bytes.
pub const USUAL_TEXT: usize = 215;

/// A chunk of one container's records, and its tag. Each text is a number,
/// filled up to so many bytes.
#[must_use]
pub fn chunk(format: Format, records: usize, text: usize) -> (String, Vec<u8>) {
    let labels = map(vec![
        ("app", "web".into()),
        ("pod-template-hash", "6d4cf56db6".into()),
        ("team", "storefront".into()),
    ]);
    let kubernetes = map(vec![
        ("pod_name", "web-6d4cf56db6-x2k8p".into()),
        ("namespace_name", "shop".into()),
        ("host", "node-1.example.com".into()),
        ("labels", labels),
    ]);
    let record = |number: usize| {
        let body = map(vec![
            ("log", format!("{number:0>text$}\n").into()),
            ("stream", "stdout".into()),
            ("kubernetes", kubernetes.clone()),
        ]);
        event_in(format, 1_772_366_400, number as u32 * 1000, body)
    };
    let tag = container_tag("shop", "web-6d4cf56db6-x2k8p", "nginx");
    (tag, (0..records).flat_map(record).collect())
}
