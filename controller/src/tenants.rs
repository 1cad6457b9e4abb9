//! Sinks that are in force, and where they are.

use std::collections::{BTreeMap, BTreeSet};

use api::{EventFormat, EventSelection};

use crate::files::Files;
use crate::value::Value;

/// A sink that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The plugin's keys, in the order in which they are written.
    pub(crate) options: Vec<(&'static str, Value)>,
    /// Certificates and keys, by file name.
    pub(crate) files: Files,
    /// How many bytes may wait on a node's disk.
    pub(crate) buffer_limit: u64,
    /// Which events it gets, if it gets any, and as what.
    pub(crate) events: Option<(EventSelection, EventFormat)>,
}

/// A namespace's sinks, by name.
pub(crate) type Tenants = BTreeMap<String, BTreeMap<String, Accepted>>;

/// A cluster sink that is in force.
#[derive(Clone, Debug)]
pub(crate) struct ClusterTenant {
    pub(crate) accepted: Accepted,
    pub(crate) reads: Reads,
    /// Whether it reads the agents' own log as well.
    pub(crate) agent_logs: bool,
}

/// What a cluster sink reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Everything but these namespaces.
    AllBut(BTreeSet<String>),
    /// These namespaces.
    Only(BTreeSet<String>),
}

impl Reads {
    /// Whether this is one of them.
    pub(crate) fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::AllBut(namespaces) => !namespaces.contains(namespace),
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }

    /// Whether that is any namespace.
    pub(crate) fn any(&self) -> bool {
        match self {
            Self::AllBut(_) => true,
            Self::Only(namespaces) => !namespaces.is_empty(),
        }
    }
}

/// Where a sink is in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which file.
    pub file: String,
    /// The part of it.
    pub section: String,
}

impl Place {
    /// Whether the sink is in these files, as it shall be.
    #[must_use]
    pub fn is_in(&self, files: &Files) -> bool {
        let text = files.get(&self.file);
        text.is_some_and(|text| memchr::memmem::find(text, self.section.as_bytes()).is_some())
    }
}
