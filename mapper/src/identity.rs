//! Which container a log line is from.
//!
//! The kubelet names each container's log file, and the tail input makes the
//! tag from the file's name: no tenant can write either. What a record says of
//! itself is not proof of anything, since a log line can be parsed into keys.

use crate::chunk::{Map, Value};

/// A container, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The pod, or another object that events are about.
    pub pod: &'a str,
    /// The container; empty for events.
    pub container: &'a str,
}

/// Where the identity of a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The tag: for everything that a tail input reads on a node.
    Tag,
    /// The record's `kubernetes` map: for pipelines whose tags say nothing
    /// (the forward input), and whose records can be trusted.
    Record,
    /// Nowhere: no record is of Kubernetes.
    None,
}

/// What the path of a container's log becomes in a tag.
const CONTAINER_LOGS: &str = "var.log.containers.";
/// Hexadecimal digits of a container's ID.
const ID: usize = 64;

impl<'a> Identity<'a> {
    /// Reads `...var.log.containers.<pod>_<namespace>_<container>-<id>.log`.
    #[must_use]
    pub fn from_tag(tag: &'a str) -> Option<Self> {
        let at = tag.find(CONTAINER_LOGS)? + CONTAINER_LOGS.len();
        // None of the three names can have an underscore.
        let mut parts = tag[at..].strip_suffix(".log")?.split('_');
        let (pod, namespace, container_id) = (parts.next()?, parts.next()?, parts.next()?);
        let (container, id) = container_id.rsplit_once('-')?;
        let valid = parts.next().is_none()
            && id.len() == ID
            && id.bytes().all(|byte| byte.is_ascii_hexdigit())
            && is_name(pod, 253)
            && is_name(namespace, 63)
            && is_name(container, 63);
        valid.then_some(Self {
            namespace,
            pod,
            container,
        })
    }

    /// Reads `namespace_name`, `pod_name` and `container_name` of a record's
    /// `kubernetes` map. Only the namespace has to be there.
    #[must_use]
    pub fn from_record(kubernetes: Map<'a>) -> Option<Self> {
        let [mut namespace, mut pod, mut container] = [None; 3];
        // Of equal keys the last one counts.
        for (key, value) in kubernetes {
            match key {
                Value::Text(b"namespace_name") => namespace = name(value, 63),
                Value::Text(b"pod_name") => pod = name(value, 253),
                Value::Text(b"container_name") => container = name(value, 63),
                _ => {}
            }
        }
        Some(Self {
            namespace: namespace?,
            pod: pod.unwrap_or_default(),
            container: container.unwrap_or_default(),
        })
    }
}

/// A value that is a Kubernetes name of at most `max` characters.
fn name(value: Value<'_>, max: usize) -> Option<&str> {
    let Value::Text(text) = value else {
        return None;
    };
    let name = std::str::from_utf8(text).ok()?;
    is_name(name, max).then_some(name)
}

/// The characters of a Kubernetes name (RFC 1123 labels and subdomains).
fn is_name(name: &str, max: usize) -> bool {
    let character = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    (1..=max).contains(&name.len()) && name.bytes().all(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn tag(rest: &str) -> String {
        format!("kube.var.log.containers.{rest}-{ID}.log")
    }

    #[test]
    fn a_container_log_says_whose_it_is() {
        for (tag, namespace, pod, container) in [
            (tag("web-0_shop_nginx"), "shop", "web-0", "nginx"),
            (tag("a.b-c_team-a_my-app-1"), "team-a", "a.b-c", "my-app-1"),
            (
                tag("var.log.containers.x_ns_c"),
                "ns",
                "var.log.containers.x",
                "c",
            ),
        ] {
            let expected = Identity {
                namespace,
                pod,
                container,
            };
            assert_eq!(Identity::from_tag(&tag), Some(expected), "{tag}");
        }
    }

    #[test]
    fn other_tags_say_nothing() {
        for tag in [
            String::new(),
            "kube.var.log.syslog".to_owned(),
            "kube.var.log.containers.".to_owned(),
            tag("web-0_shop"),
            tag("web-0_shop_nginx_more"),
            tag("_shop_nginx"),
            tag("web-0__nginx"),
            tag("web-0_Shop_nginx"),
            tag("web-0_sh op_nginx"),
            format!("kube.var.log.containers.web_shop_nginx-{}.log", &ID[1..]),
            format!("kube.var.log.containers.web_shop_nginx-{}x.log", &ID[1..]),
            format!("kube.var.log.containers.web_shop_nginx-{ID}"),
        ] {
            assert_eq!(Identity::from_tag(&tag), None, "{tag}");
        }
    }
}
