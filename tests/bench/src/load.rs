//! Records as a Kubernetes node has them.

use rig::event::{container_tag, event, map};

const RECORDS: usize = 3000;
/// Makes a message of 486 bytes.
const TEXT: usize = 215;

/// A chunk of one container.
#[derive(Debug)]
pub(crate) struct Load {
    chunk: (String, Vec<u8>),
}

impl Load {
    pub(crate) fn new() -> Self {
        let tag = container_tag("shop", "web-6d4cf56db6-x2k8p", "nginx");
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
                ("log", format!("{number:0>TEXT$}\n").into()),
                ("stream", "stdout".into()),
                ("kubernetes", kubernetes.clone()),
            ]);
            event(1_772_366_400, number as u32 * 1000, body)
        };
        let chunk = (0..RECORDS).flat_map(record).collect();
        Self { chunk: (tag, chunk) }
    }

    pub(crate) fn chunks(&self) -> &[(String, Vec<u8>)] {
        std::slice::from_ref(&self.chunk)
    }

    pub(crate) const fn messages(&self) -> usize {
        RECORDS
    }
}
