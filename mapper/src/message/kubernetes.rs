//! The SD-ELEMENT `kubernetes@47450` with a container's labels, or an Event's fields, and
//! the identity, as in PKS.

use syslog::{Hostname, SdId, SdName, StructuredData};

use super::HeaderValues;
use crate::config::KUBERNETES_SD_ID;
use crate::identity::Identity;

const ELEMENT: SdId<'_> = SdId::literal(KUBERNETES_SD_ID);
const NAMESPACE_NAME: SdName<'_> = SdName::literal("namespace_name");
const OBJECT_NAME: SdName<'_> = SdName::literal("object_name");
const CONTAINER_NAME: SdName<'_> = SdName::literal("container_name");
/// The node's name, under the name that PKS uses. HOSTNAME may be the cluster's name.
const VM_ID: SdName<'_> = SdName::literal("vm_id");
/// The names of the plugin's own parameters, which no label may use.
const RESERVED: [SdName<'_>; 4] = [NAMESPACE_NAME, OBJECT_NAME, CONTAINER_NAME, VM_ID];

/// Appends the element with the labels or fields, the identity, and the node as the last
/// parameter. Returns the number of parameters omitted because the buffer would
/// exceed `limit` bytes. The identity is always included.
pub(super) fn push(
    data: &mut StructuredData<'_>,
    identity: Identity<'_>,
    values: &impl HeaderValues,
    limit: usize,
) -> u64 {
    let mut element = data
        .element(ELEMENT)
        .expect("the configuration reserves this SD-ID");
    let identity = [
        (NAMESPACE_NAME, identity.namespace.as_bytes()),
        (OBJECT_NAME, identity.pod.as_bytes()),
        (CONTAINER_NAME, identity.container.as_bytes()),
    ];
    // A longer text is not a host name.
    let node = values.node().filter(|name| name.len() <= Hostname::MAX);
    let node = node.map(|name| (VM_ID, name));
    // ` name="value"` for each parameter, and the element's `]`.
    let reserved: usize = identity
        .iter()
        .chain(&node)
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
        + 1;

    let mut omitted = 0;
    for (key, value) in values.params() {
        let mut buffer = [0; SdName::MAX];
        let name = label_name(key, &mut buffer);
        if !element.param_within(name, value, limit.saturating_sub(reserved)) {
            omitted += 1;
        }
    }
    for (name, value) in identity {
        element.param(name, value);
    }
    if let Some((name, value)) = node
        && !element.param_within(name, value, limit - 1)
    {
        omitted += 1;
    }
    omitted
}

/// Returns the PARAM-NAME of a label: the key if it is a valid PARAM-NAME and not
/// reserved. Otherwise the end of the key, which is more specific than its domain
/// prefix, with a hash that keeps shortened names distinct; `buffer` holds that name.
fn label_name<'k>(key: &'k [u8], buffer: &'k mut [u8; SdName::MAX]) -> SdName<'k> {
    /// The number of hexadecimal digits of the hash.
    const HASH: usize = 8;

    if let Ok(text) = std::str::from_utf8(key)
        && let Ok(name) = SdName::new(text)
        && !RESERVED.contains(&name)
    {
        return name;
    }
    let kept = &key[key.len().saturating_sub(SdName::MAX - HASH - 1)..];
    for (to, from) in buffer.iter_mut().zip(kept) {
        *to = if SdName::allows(char::from(*from)) {
            *from
        } else {
            b'_'
        };
    }
    buffer[kept.len()] = b'~';
    let hash = fnv1a(key);
    for (position, to) in buffer[kept.len() + 1..].iter_mut().take(HASH).enumerate() {
        *to = b"0123456789abcdef"[(hash >> (28 - 4 * position)) as usize & 0xf];
    }
    let text = std::str::from_utf8(&buffer[..kept.len() + 1 + HASH]).ok();
    text.and_then(|text| SdName::new(text).ok())
        .expect("a shortened name is a valid PARAM-NAME")
}

/// Returns the 32-bit FNV-1a hash, which is the same on every machine and in every
/// version.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str) -> String {
        let mut buffer = [0; SdName::MAX];
        label_name(key.as_bytes(), &mut buffer).as_str().to_owned()
    }

    #[test]
    fn valid_keys_are_kept() {
        for key in [
            "app",
            "app.kubernetes.io/name",
            "exactly-32-characters-are-allowe",
        ] {
            assert_eq!(name(key), key);
        }
    }

    #[test]
    fn other_keys_are_shortened_to_distinct_names() {
        let key = "statefulset.kubernetes.io/pod-name";
        assert_eq!(name(key), format!(".kubernetes.io/pod-name~{}", hash(key)));
        let long = [
            "one.example.com/the-same-long-suffix",
            "two.example.com/the-same-long-suffix",
        ];
        assert_ne!(name(long[0]), name(long[1]));
        assert_eq!(name(""), format!("~{}", hash("")));
        assert_eq!(name("a b"), format!("a_b~{}", hash("a b")));
    }

    #[test]
    fn a_label_cannot_use_a_reserved_name() {
        assert_eq!(
            name("namespace_name"),
            format!("namespace_name~{}", hash("namespace_name"))
        );
    }

    fn hash(key: &str) -> String {
        format!("{:08x}", fnv1a(key.as_bytes()))
    }

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
