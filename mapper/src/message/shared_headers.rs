//! The shared headers of a chunk, each made once.
//!
//! The records of a chunk from the forward input are of many pods in turn. So the
//! last shared header is of no use for the next record, but an earlier one is.
//!
//! ```text
//! metadata ── hash ──> table ──> entry ──> bytes: kubernetes, cluster_name, shared header
//! ```
//!
//! The content is that of one chunk: tag and configuration are the same for all of
//! it, so that the metadata is the whole key.

use std::ops::Range;

use crate::chunk::{Map, Metadata};
use crate::identity::Identity;

/// The maximum number of shared headers; further ones are made for each record.
const ENTRIES: usize = 256;
/// The maximum number of bytes of all keys and shared headers.
const BYTES: usize = 256 * 1024;
/// The number of slots: a power of two, half of them free.
const SLOTS: usize = 2 * ENTRIES;

/// Shared headers by the metadata that they are made from.
#[derive(Debug, Default)]
pub(super) struct SharedHeaders {
    /// The keys and the shared headers, in the order of the entries.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// For each slot the number of an entry, counted from one; zero if it is free.
    table: Vec<u16>,
}

/// a shared header and its key in `bytes`.
#[derive(Debug)]
struct Entry {
    hash: u64,
    /// The number of the map's keys, if there is a map.
    kubernetes: Option<usize>,
    has_cluster_name: bool,
    /// The offsets of the map, the cluster's name, the shared header, and of its end.
    at: [u32; 4],
    omitted: u64,
    /// Where the namespace, the pod and the container are in the map.
    identity: Option<[Range<u32>; 3]>,
}

/// a shared header that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<'o> {
    bytes: &'o [u8],
    entry: &'o Entry,
}

impl<'o> Kept<'o> {
    /// The shared header.
    pub(super) fn header(self) -> &'o [u8] {
        let [.., start, end] = self.entry.at;
        &self.bytes[range(&(start..end))]
    }

    /// How many labels and parameters had no room in the shared header.
    pub(super) const fn omitted(self) -> u64 {
        self.entry.omitted
    }

    /// The identity in the `kubernetes` map that this was found by.
    pub(super) fn identity<'a>(self, metadata: &Metadata<'a>) -> Option<Identity<'a>> {
        let map = metadata.kubernetes?.bytes();
        let name = |at: &Range<u32>| std::str::from_utf8(map.get(range(at))?).ok();
        let [namespace, pod, container] = self.entry.identity.as_ref()?;
        Some(Identity {
            namespace: name(namespace)?,
            pod: name(pod)?,
            container: name(container)?,
        })
    }
}

impl SharedHeaders {
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.table.capacity() * size_of::<u16>()
    }

    /// Forgets all shared headers, for the next chunk.
    pub(super) fn clear(&mut self) {
        // Few entries, and so few slots to be freed, are the rule.
        for entry in self.entries.drain(..) {
            let mut slot = first_slot(entry.hash);
            while let Some(used @ 1..) = self.table.get_mut(slot) {
                *used = 0;
                slot = (slot + 1) % SLOTS;
            }
        }
        self.bytes.clear();
    }

    /// Returns the shared header that was made from this metadata.
    pub(super) fn get(&self, metadata: &Metadata<'_>) -> Option<Kept<'_>> {
        let hash = hash(metadata);
        let mut slot = first_slot(hash);
        loop {
            let number = usize::from(*self.table.get(slot)?);
            let entry = self.entries.get(number.checked_sub(1)?)?;
            if entry.hash == hash && self.is_of(entry, metadata) {
                let bytes = &self.bytes;
                return Some(Kept { bytes, entry });
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Keeps a shared header that [`SharedHeaders::get`] has not found, if there is room. The
    /// identity is the one in the metadata.
    pub(super) fn keep(
        &mut self,
        metadata: &Metadata<'_>,
        identity: Option<Identity<'_>>,
        header: &[u8],
        omitted: u64,
    ) {
        let kubernetes = metadata.kubernetes.map_or(&[][..], |map| map.bytes());
        let cluster_name = metadata.cluster_name.unwrap_or_default();
        let length = kubernetes.len() + cluster_name.len() + header.len();
        if self.entries.len() == ENTRIES || self.bytes.len() + length > BYTES {
            return;
        }
        let mut end = self.bytes.len() as u32;
        let mut at = [end; 4];
        for (part, next) in [kubernetes, cluster_name, header].into_iter().zip(1..) {
            self.bytes.extend_from_slice(part);
            end += part.len() as u32;
            at[next] = end;
        }
        let hash = hash(metadata);
        self.entries.push(Entry {
            hash,
            kubernetes: metadata.kubernetes.map(|map| map.len()),
            has_cluster_name: metadata.cluster_name.is_some(),
            at,
            omitted,
            identity: find(metadata.kubernetes, identity),
        });
        self.table.resize(SLOTS, 0);
        let mut slot = first_slot(hash);
        while self.table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        self.table[slot] = self.entries.len() as u16;
    }

    /// Whether the key of an entry is this metadata, byte for byte.
    fn is_of(&self, entry: &Entry, metadata: &Metadata<'_>) -> bool {
        let Metadata {
            kubernetes,
            cluster_name,
            is_ambiguous: _,
        } = metadata;
        let [map, name, header, _] = entry.at;
        entry.kubernetes == kubernetes.map(|map| map.len())
            && entry.has_cluster_name == cluster_name.is_some()
            && kubernetes.is_none_or(|found| self.bytes[range(&(map..name))] == *found.bytes())
            && cluster_name.is_none_or(|found| self.bytes[range(&(name..header))] == *found)
    }
}

const fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Where the names of an identity are in the map from which it was read.
fn find(kubernetes: Option<Map<'_>>, identity: Option<Identity<'_>>) -> Option<[Range<u32>; 3]> {
    let (map, identity) = (kubernetes?.bytes(), identity?);
    let find = |name: &str| {
        if name.is_empty() {
            return Some(0..0);
        }
        let start = name.as_ptr().addr().checked_sub(map.as_ptr().addr())?;
        let end = start.checked_add(name.len())?;
        (map.get(start..end)? == name.as_bytes()).then_some(start as u32..end as u32)
    };
    let Identity {
        namespace,
        pod,
        container,
    } = identity;
    Some([find(namespace)?, find(pod)?, find(container)?])
}

const fn first_slot(hash: u64) -> usize {
    (hash >> 32) as usize % SLOTS
}

/// A hash to find an entry by. Whoever makes many maps of one hash makes a search
/// slow, by [`ENTRIES`] comparisons of hashes and maps at most.
fn hash(metadata: &Metadata<'_>) -> u64 {
    let name = metadata.cluster_name.unwrap_or_default();
    let map = metadata.kubernetes.map_or(&[][..], |map| map.bytes());
    mix(mix(0, name), map)
}

/// Folds the products of pairs of words, as wyhash does: two words cost one
/// multiplication, and those of different pairs do not wait for each other.
fn mix(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
    let (pairs, rest) = bytes.as_chunks::<16>();
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(ODD[1]);
    for (pair, number) in pairs.iter().chain([&last]).zip(1_u64..) {
        let both = u128::from_le_bytes(*pair);
        // The number keeps pairs that change places apart.
        let one = both as u64 ^ ODD[0].wrapping_mul(number);
        let other = (both >> 64) as u64 ^ ODD[1];
        let product = u128::from(one) * u128::from(other);
        hash = hash.wrapping_add(product as u64 ^ (product >> 64) as u64);
    }
    (hash ^ hash >> 29).wrapping_mul(ODD[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Value;
    use crate::chunk::msgpack::read;

    fn encode(map: &rmpv::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, map).unwrap();
        bytes
    }

    fn metadata<'a>(kubernetes: &'a [u8], cluster_name: Option<&'a [u8]>) -> Metadata<'a> {
        let kubernetes = match read(kubernetes) {
            Ok((Value::Map(map), _)) => Some(map),
            _ => None,
        };
        Metadata {
            kubernetes,
            cluster_name,
            ..Metadata::default()
        }
    }

    fn pod(number: usize, padding: usize) -> Vec<u8> {
        let name = format!("web-{number}-{}", "x".repeat(padding));
        encode(&rig::event::map(vec![("pod_name", name.into())]))
    }

    #[test]
    fn an_origin_is_found_by_what_it_was_made_from_alone() {
        let (one, empty) = (pod(1, 0), encode(&rig::event::map(vec![])));
        let keys = [
            metadata(&[], None),
            metadata(&[], Some(b"")),
            metadata(&[], Some(b"a")),
            metadata(&empty, None),
            metadata(&empty, Some(b"a")),
            metadata(&one, None),
            metadata(&one, Some(b"a")),
        ];
        let mut shared_headers = SharedHeaders::default();
        for (number, key) in keys.iter().enumerate() {
            assert!(shared_headers.get(key).is_none(), "{key:?}");
            let header = format!("header {number}");
            shared_headers.keep(key, None, header.as_bytes(), number as u64);
        }
        for (number, key) in keys.iter().enumerate() {
            let header = format!("header {number}");
            let kept = shared_headers.get(key).unwrap();
            assert_eq!(kept.header(), header.as_bytes());
            assert_eq!(kept.omitted(), number as u64);
        }
        shared_headers.clear();
        assert!(keys.iter().all(|key| shared_headers.get(key).is_none()));
        assert!(shared_headers.table.iter().all(|slot| *slot == 0));
    }

    #[test]
    fn an_identity_is_found_again_in_another_map_of_the_same_bytes() {
        let of = |container: Option<&str>| {
            let mut entries = vec![
                ("namespace_name", "shop".into()),
                ("pod_name", "web".into()),
            ];
            entries.extend(container.map(|name| ("container_name", name.into())));
            encode(&rig::event::map(entries))
        };
        for bytes in [of(Some("nginx")), of(None)] {
            let first = metadata(&bytes, None);
            let identity = Identity::from_record(first.kubernetes.unwrap());
            assert!(identity.is_some());
            let mut shared_headers = SharedHeaders::default();
            shared_headers.keep(&first, identity, b"header", 0);
            let again = bytes.clone();
            let second = metadata(&again, None);
            assert_eq!(
                shared_headers.get(&second).unwrap().identity(&second),
                identity
            );
        }
        let bytes = of(None);
        let key = metadata(&bytes, None);
        let elsewhere = Identity {
            namespace: "shop",
            pod: "web",
            container: "",
        };
        let mut shared_headers = SharedHeaders::default();
        shared_headers.keep(&key, Some(elsewhere), b"header", 0);
        assert_eq!(shared_headers.get(&key).unwrap().identity(&key), None);
    }

    #[test]
    fn their_number_and_their_bytes_are_bounded() {
        for (padding, expected) in [(0, ENTRIES), (8 * 1024, 31)] {
            let mut shared_headers = SharedHeaders::default();
            let pods: Vec<Vec<u8>> = (0..2 * ENTRIES)
                .map(|number| pod(number, padding))
                .collect();
            for pod in &pods {
                shared_headers.keep(&metadata(pod, None), None, b"header", 0);
            }
            let is_kept = |pod: &&Vec<u8>| shared_headers.get(&metadata(pod, None)).is_some();
            assert_eq!(pods.iter().filter(is_kept).count(), expected);
            assert!(shared_headers.bytes.len() <= BYTES);
        }
    }
}
