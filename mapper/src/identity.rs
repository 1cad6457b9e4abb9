//! The identity of a log line: its namespace, pod and container.
//!
//! The kubelet names each container's log file, and the tail input derives the tag
//! from the file name. Tenants control neither. The record's own keys prove
//! nothing, because a filter may have parsed them from the log line.

use crate::chunk::{Map, Value};

/// A container with its pod and namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The namespace's name.
    pub namespace: &'a str,
    /// The pod's name, or for events the name of the object that they are about.
    pub pod: &'a str,
    /// The container's name; empty for events.
    pub container: &'a str,
}

/// The source of records' identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The tag, for records that a tail input reads on a node.
    Tag,
    /// The record's `kubernetes` map, for trusted pipelines whose tags contain no
    /// identity (the forward input).
    Record,
    /// The metadata of the group that a record is in, which an input adds and no container
    /// can write.
    Group,
    /// No source: records are not from Kubernetes.
    None,
}

/// The folder of container logs as it appears in a tag.
const CONTAINER_LOGS: &str = "var.log.containers.";
/// The number of hexadecimal digits of a container ID.
const ID: usize = 64;

impl<'a> Identity<'a> {
    /// Parses a tag of the form
    /// `...var.log.containers.<pod>_<namespace>_<container>-<id>.log`. Returns `None`
    /// for other tags.
    #[must_use]
    pub fn from_tag(tag: &'a str) -> Option<Self> {
        let at = tag.find(CONTAINER_LOGS)? + CONTAINER_LOGS.len();
        // Kubernetes names cannot contain an underscore.
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

    /// Returns the identity of an object that is not a container. A name that is not valid is
    /// omitted. Returns `None` if the namespace is not valid.
    #[must_use]
    pub fn of_object(namespace: &'a str, name: &'a str) -> Option<Self> {
        is_name(namespace, 63).then(|| Self {
            namespace,
            pod: if is_name(name, 253) { name } else { "" },
            container: "",
        })
    }

    /// Reads `namespace_name`, `pod_name` and `container_name` from a record's
    /// `kubernetes` map. Returns `None` if the namespace is missing or invalid.
    #[must_use]
    pub fn from_record(kubernetes: Map<'a>) -> Option<Self> {
        let [mut namespace, mut pod, mut container] = [None; 3];
        // The last of duplicate keys counts.
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

/// Returns the value if it is a Kubernetes name of at most `max` characters.
fn name(value: Value<'_>, max: usize) -> Option<&str> {
    let Value::Text(text) = value else {
        return None;
    };
    let name = std::str::from_utf8(text).ok()?;
    is_name(name, max).then_some(name)
}

/// Whether a text has the length and the characters of a Kubernetes name (RFC 1123
/// label or subdomain).
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
    fn a_container_logs_tag_gives_its_identity() {
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
    fn other_tags_give_no_identity() {
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
