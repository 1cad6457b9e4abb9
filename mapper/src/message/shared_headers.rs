//! A cache of a chunk's shared headers, so that each is encoded only once.
//!
//! The fields from HOSTNAME to STRUCTURED-DATA (the *shared header*) follow from the tag,
//! the `kubernetes` map and `cluster_name`. The shared header is kept while these are
//! byte for byte the same as in the previous record, and is copied after each record's
//! own PRI and TIMESTAMP. A template that reads any other key is rendered for each
//! record.
//!
//! In a chunk of the forward input, records of many pods alternate. The shared header
//! of the previous record then does not fit the next one, but an earlier one does. So
//! the shared headers of a chunk are kept, at most 256 and 256 KiB, and looked up by the
//! bytes of the map.
//!
//! ```text
//! metadata ── hash ──> table ──> entry ──> bytes: kubernetes, cluster_name, shared header
//! ```
//!
//! The cache is for one chunk. All records of a chunk have the same tag and
//! configuration, so the metadata alone is the key. Tests map mixed records together and
//! one by one, and compare.

use std::ops::Range;

use crate::chunk::{ContainerMetadata, Map};
use crate::identity::Identity;

/// The maximum number of cached headers; others are encoded for each record.
const ENTRIES: usize = 256;
/// The maximum number of bytes of all keys and shared headers.
const BYTES: usize = 256 * 1024;
/// The number of slots of the hash table: a power of two, at most half of them used.
const SLOTS: usize = 2 * ENTRIES;

/// A hash table of shared headers, keyed by the metadata that they were encoded from.
#[derive(Debug, Default)]
pub(super) struct SharedHeaders {
    /// The keys and the shared headers, in the order of the entries.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The number of each slot's entry, counted from one; zero if the slot is free.
    table: Vec<u16>,
}

/// The location of a shared header and its key in `bytes`.
#[derive(Debug)]
struct Entry {
    hash: u64,
    /// The number of keys of the `kubernetes` map, if there is one.
    kubernetes: Option<usize>,
    has_cluster_name: bool,
    /// The offsets of the map, the cluster's name and the shared header, and the
    /// header's end.
    at: [u32; 4],
    omitted: u64,
    /// The ranges of the namespace, the pod and the container in the map.
    identity: Option<[Range<u32>; 3]>,
}

/// A shared header in the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedHeader<'o> {
    bytes: &'o [u8],
    entry: &'o Entry,
}

impl<'o> CachedHeader<'o> {
    /// Returns the encoded header.
    pub(super) fn header(self) -> &'o [u8] {
        let [.., start, end] = self.entry.at;
        &self.bytes[range(&(start..end))]
    }

    /// Returns the number of labels and parameters that did not fit the header.
    pub(super) const fn omitted(self) -> u64 {
        self.entry.omitted
    }

    /// Returns the identity in `metadata`, which must equal the header's key.
    pub(super) fn identity<'a>(self, metadata: &ContainerMetadata<'a>) -> Option<Identity<'a>> {
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
    /// Returns the size of the allocated memory in bytes.
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.table.capacity() * size_of::<u16>()
    }

    /// Removes all headers, for the next chunk.
    pub(super) fn clear(&mut self) {
        // Most chunks have few entries, so freeing their slots is faster than zeroing
        // the table.
        for entry in self.entries.drain(..) {
            let mut slot = first_slot(entry.hash);
            while let Some(used @ 1..) = self.table.get_mut(slot) {
                *used = 0;
                slot = (slot + 1) % SLOTS;
            }
        }
        self.bytes.clear();
    }

    /// Returns the shared header that was encoded from equal metadata.
    pub(super) fn get(&self, metadata: &ContainerMetadata<'_>) -> Option<CachedHeader<'_>> {
        let hash = hash(metadata);
        let mut slot = first_slot(hash);
        loop {
            let number = usize::from(*self.table.get(slot)?);
            let entry = self.entries.get(number.checked_sub(1)?)?;
            if entry.hash == hash && self.has_key(entry, metadata) {
                let bytes = &self.bytes;
                return Some(CachedHeader { bytes, entry });
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Adds a shared header that [`SharedHeaders::get`] did not find, if there is room.
    /// The identity must have been read from the metadata.
    pub(super) fn insert(
        &mut self,
        metadata: &ContainerMetadata<'_>,
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
            identity: locate(metadata.kubernetes, identity),
        });
        self.table.resize(SLOTS, 0);
        let mut slot = first_slot(hash);
        while self.table[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        self.table[slot] = self.entries.len() as u16;
    }

    /// Whether the key of an entry equals the metadata byte for byte.
    fn has_key(&self, entry: &Entry, metadata: &ContainerMetadata<'_>) -> bool {
        let ContainerMetadata {
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

/// Returns the ranges of an identity's namespace, pod and container in the map that
/// the identity was read from. Returns `None` if it was not read from this map.
fn locate(kubernetes: Option<Map<'_>>, identity: Option<Identity<'_>>) -> Option<[Range<u32>; 3]> {
    let (map, identity) = (kubernetes?.bytes(), identity?);
    let locate = |name: &str| {
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
    Some([locate(namespace)?, locate(pod)?, locate(container)?])
}

const fn first_slot(hash: u64) -> usize {
    (hash >> 32) as usize % SLOTS
}

/// Hashes the metadata for the table. The hash is not keyed: an attacker who creates
/// colliding maps costs each lookup at most [`ENTRIES`] comparisons.
fn hash(metadata: &ContainerMetadata<'_>) -> u64 {
    let name = metadata.cluster_name.unwrap_or_default();
    let map = metadata.kubernetes.map_or(&[][..], |map| map.bytes());
    mix(mix(0, name), map)
}

/// Folds the products of pairs of words, as wyhash does: two words need one
/// multiplication, and the multiplications of different pairs are independent.
fn mix(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
    let (pairs, rest) = bytes.as_chunks::<16>();
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(ODD[1]);
    for (pair, number) in pairs.iter().chain([&last]).zip(1_u64..) {
        let both = u128::from_le_bytes(*pair);
        // The number makes the hash depend on the order of the pairs.
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

    fn metadata<'a>(kubernetes: &'a [u8], cluster_name: Option<&'a [u8]>) -> ContainerMetadata<'a> {
        let kubernetes = match read(kubernetes) {
            Ok((Value::Map(map), _)) => Some(map),
            _ => None,
        };
        ContainerMetadata {
            kubernetes,
            cluster_name,
            ..ContainerMetadata::default()
        }
    }

    fn pod(number: usize, padding: usize) -> Vec<u8> {
        let name = format!("web-{number}-{}", "x".repeat(padding));
        encode(&rig::event::map(vec![("pod_name", name.into())]))
    }

    #[test]
    fn a_shared_header_is_found_only_by_its_own_metadata() {
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
            shared_headers.insert(key, None, header.as_bytes(), number as u64);
        }
        for (number, key) in keys.iter().enumerate() {
            let header = format!("header {number}");
            let cached = shared_headers.get(key).unwrap();
            assert_eq!(cached.header(), header.as_bytes());
            assert_eq!(cached.omitted(), number as u64);
        }
        shared_headers.clear();
        assert!(keys.iter().all(|key| shared_headers.get(key).is_none()));
        assert!(shared_headers.table.iter().all(|slot| *slot == 0));
    }

    #[test]
    fn an_identity_is_located_in_an_equal_map() {
        let map_with = |container: Option<&str>| {
            let mut entries = vec![
                ("namespace_name", "shop".into()),
                ("pod_name", "web".into()),
            ];
            entries.extend(container.map(|name| ("container_name", name.into())));
            encode(&rig::event::map(entries))
        };
        for bytes in [map_with(Some("nginx")), map_with(None)] {
            let first = metadata(&bytes, None);
            let identity = Identity::from_record(first.kubernetes.unwrap());
            assert!(identity.is_some());
            let mut shared_headers = SharedHeaders::default();
            shared_headers.insert(&first, identity, b"header", 0);
            let copy = bytes.clone();
            let second = metadata(&copy, None);
            assert_eq!(
                shared_headers.get(&second).unwrap().identity(&second),
                identity
            );
        }
        let bytes = map_with(None);
        let key = metadata(&bytes, None);
        let elsewhere = Identity {
            namespace: "shop",
            pod: "web",
            container: "",
        };
        let mut shared_headers = SharedHeaders::default();
        shared_headers.insert(&key, Some(elsewhere), b"header", 0);
        assert_eq!(shared_headers.get(&key).unwrap().identity(&key), None);
    }

    #[test]
    fn the_number_and_the_size_of_entries_are_bounded() {
        for (padding, expected) in [(0, ENTRIES), (8 * 1024, 31)] {
            let mut shared_headers = SharedHeaders::default();
            let pods: Vec<Vec<u8>> = (0..2 * ENTRIES)
                .map(|number| pod(number, padding))
                .collect();
            for pod in &pods {
                shared_headers.insert(&metadata(pod, None), None, b"header", 0);
            }
            let is_cached = |pod: &&Vec<u8>| shared_headers.get(&metadata(pod, None)).is_some();
            assert_eq!(pods.iter().filter(is_cached).count(), expected);
            assert!(shared_headers.bytes.len() <= BYTES);
        }
    }
}
