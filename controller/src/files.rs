//! The agents' files, and names for contents.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// The agents' files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How the names of the files begin that are a namespace's or a cluster sink's
/// own, and how they end.
pub(crate) const NAMESPACE: &str = "ns-";
pub(crate) const CLUSTER: &str = "cluster-";
pub(crate) const YAML: &str = ".yaml";
/// How the names of certificates and keys end.
pub(crate) const PEM: &str = ".pem";

/// The files that are one tenant's each.
pub fn units(files: &Files) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    files.iter().filter(|(name, _)| {
        name.ends_with(YAML) && (name.starts_with(NAMESPACE) || name.starts_with(CLUSTER))
    })
}

/// A name for a content.
#[must_use]
pub fn content_hash(content: &[u8]) -> String {
    name_of(Sha256::new_with_prefix(content))
}

/// A name for the files' and the template's content.
#[must_use]
pub fn revision(files: &Files, template: &str) -> String {
    let mut hash = Sha256::new_with_prefix(template);
    for (name, content) in files {
        for part in [name.as_bytes(), content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    name_of(hash)
}

/// The digits of 128 bits: nobody finds two contents that share them.
fn name_of(hash: Sha256) -> String {
    let mut digits = format!("{:x}", hash.finalize());
    digits.truncate(32);
    digits
}
