//! `[kubernetes@47450 ...]`: labels and identity, as in PKS.

use syslog::{SdName, SdNameBuf, StructuredData};

use super::fields::Fields;
use super::tally::{Reason, Tally};
use crate::chunk::{Map, Value};
use crate::config::KUBERNETES_SD_ID;
use crate::identity::Identity;

/// Appends the element. Labels that would make the buffer longer than `limit`
/// are left out and counted; the identity goes before them.
pub(super) fn push(
    data: &mut StructuredData<'_>,
    identity: Identity<'_>,
    fields: &Fields<'_>,
    limit: usize,
    tally: &mut Tally,
) {
    let id = sd_name(KUBERNETES_SD_ID);
    let mut element = data
        .element(id)
        .expect("the configuration leaves this SD-ID alone");
    let params = [
        ("namespace_name", identity.namespace.as_bytes()),
        ("object_name", identity.pod.as_bytes()),
        ("container_name", identity.container.as_bytes()),
        ("vm_id", fields.vm_id.unwrap_or_default()),
    ];
    // ` name="value"` for each, and the element's `]`.
    let reserved: usize = params
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum::<usize>()
        + 1;

    for (key, value) in labels(fields.labels) {
        let name = label_name(key);
        let written = element.param_within(name.as_name(), value, limit.saturating_sub(reserved));
        if !written {
            tally.add(Reason::ParamOmitted);
        }
    }
    for (name, value) in params {
        if name != "vm_id" || !value.is_empty() {
            element.param(sd_name(name), value);
        }
    }
}

fn labels(labels: Option<Map<'_>>) -> impl Iterator<Item = (&[u8], &[u8])> {
    labels
        .into_iter()
        .flatten()
        .filter_map(|entry| match entry {
            (Value::Text(key), Value::Text(value)) => Some((key, value)),
            _ => None,
        })
}

/// A constant that is an SD-NAME.
fn sd_name(text: &'static str) -> SdName<'static> {
    SdName::new(text).expect("this constant is an SD-NAME")
}

/// The PARAM-NAME of a label: its key where that fits and means nothing else,
/// or else the end of it, which says more than the beginning (a domain), with
/// a hash that keeps it unlike all others.
fn label_name(key: &[u8]) -> SdNameBuf {
    /// Hexadecimal digits.
    const HASH: usize = 8;

    if let Ok(text) = std::str::from_utf8(key)
        && !is_reserved(text)
        && let Ok(name) = SdName::new(text)
    {
        return name.into();
    }
    let kept = &key[key.len().saturating_sub(SdName::MAX - HASH - 1)..];
    let mut text = [0; SdName::MAX];
    for (to, from) in text.iter_mut().zip(kept) {
        *to = if SdName::allows(char::from(*from)) {
            *from
        } else {
            b'_'
        };
    }
    text[kept.len()] = b'~';
    let hash = fnv1a(key);
    for (place, to) in text[kept.len() + 1..].iter_mut().take(HASH).enumerate() {
        *to = b"0123456789abcdef"[(hash >> (28 - 4 * place)) as usize & 0xf];
    }
    let text = std::str::from_utf8(&text[..kept.len() + 1 + HASH]).ok();
    text.and_then(|text| SdName::new(text).ok())
        .expect("at most 32 characters that are allowed")
        .into()
}

/// The names that say whose a message is: no label can claim them.
fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "namespace_name" | "object_name" | "container_name" | "vm_id"
    )
}

/// FNV-1a with 32 bits: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: &str) -> String {
        label_name(key.as_bytes()).as_name().as_str().to_owned()
    }

    #[test]
    fn keys_that_fit_stay_as_they_are() {
        for key in [
            "app",
            "app.kubernetes.io/name",
            "exactly-32-characters-are-allowe",
        ] {
            assert_eq!(name(key), key);
        }
    }

    #[test]
    fn other_keys_are_shortened_and_stay_unlike() {
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
    fn no_label_claims_an_identity() {
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
