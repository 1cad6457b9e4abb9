//! The agents' configuration: their files, and which tenant has which part of them.
//!
//! Whether agents have a sink, which certificates belong to a namespace and what has
//! changed between two revisions is answered from [`TenantPart`]s, which are stored
//! beside the files. No rendered text is searched.
//!
//! The condition `Configured` counts sinks, not revisions. A part has a hash of each sink's
//! section, and an agent has a sink if its revision has that hash. So a sink stays configured
//! while another sink's change rolls out, and a rollback is reported only to the sinks that it
//! affects.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The agents' files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The format of tenants' files. It changes if a tenant's file of an earlier version of the
/// controller does not go with the files of this version.
pub(crate) const FORMAT: u32 = 1;

/// The extension of the names of certificates and keys.
pub(crate) const PEM: &str = ".pem";

/// The files of a revision, and the tenants' parts of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Configuration {
    /// All files, those of the parts included.
    pub files: Files,
    /// The part of each tenant, by the name of the tenant's file.
    pub parts: BTreeMap<String, TenantPart>,
}

/// The part of one tenant: the sinks of a namespace, or one cluster sink.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantPart {
    /// The format of the tenant's file. A file of another format is part of no new revision.
    /// Format 0 are the files for inputs of the kind `tail`.
    #[serde(default)]
    pub format: u32,
    /// The names of the files with the certificates and keys that its outputs use.
    #[serde(default)]
    pub certificates: BTreeSet<String>,
    /// A hash of each sink's section, by the alias of its output.
    pub sinks: BTreeMap<String, String>,
}

/// A sink as it is rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedSink {
    /// The name of the tenant's file.
    pub file: String,
    /// The alias of its output.
    pub alias: String,
    /// A hash of its section.
    pub hash: String,
}

impl Configuration {
    /// Returns whether the sink is part of the configuration, with exactly this content.
    #[must_use]
    pub fn has(&self, sink: &RenderedSink) -> bool {
        let part = self.parts.get(&sink.file);
        part.and_then(|part| part.sinks.get(&sink.alias)) == Some(&sink.hash)
    }

    /// The tenants' files, with their contents.
    pub fn tenant_files(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let names = self.parts.keys();
        names.filter_map(|name| self.files.get_key_value(name))
    }
}

/// Returns a name for a content: 128 bits of its hash.
#[must_use]
pub fn content_hash(content: &[u8]) -> String {
    name_of(Sha256::new_with_prefix(content))
}

/// Returns the name of a revision: a hash of its files and of the agents' template.
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

/// Tenants choose contents: with 128 bits, nobody finds two that share a name.
fn name_of(hash: Sha256) -> String {
    let mut digits = format!("{:x}", hash.finalize());
    digits.truncate(32);
    digits
}
