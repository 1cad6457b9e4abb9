//! Accepted sinks, by tenant.

use std::collections::BTreeSet;

use api::{EventFormat, EventSelection};

use crate::configuration::Files;
use crate::value::Value;

/// The plugin's keys of an output, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputKeys(Vec<(&'static str, Value)>);

impl OutputKeys {
    pub(crate) fn push(&mut self, key: &'static str, value: Value) {
        self.0.push((key, value));
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let mut keys = self.iter();
        keys.find_map(|(name, value)| (name == key).then_some(value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

/// An accepted sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) keys: OutputKeys,
    /// Certificates and keys, by file name.
    pub(crate) files: Files,
    /// The maximum size of its queue on a node's disk, in bytes.
    pub(crate) buffer_limit: u64,
    /// The selection and format of its events, if it gets any.
    pub(crate) events: Option<(EventSelection, EventFormat)>,
}

/// The namespaces that a cluster sink reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// All namespaces except these.
    AllBut(BTreeSet<String>),
    /// Only these namespaces.
    Only(BTreeSet<String>),
}

impl Reads {
    /// Returns whether a namespace is read.
    pub(crate) fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::AllBut(namespaces) => !namespaces.contains(namespace),
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}
