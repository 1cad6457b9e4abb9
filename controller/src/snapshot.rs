//! What is known of the cluster, as one value.

use std::collections::BTreeMap;
use std::fmt;

use crate::plan::Lanes;
use crate::resources::{ClusterLogSinkSpec, LogSinkSpec};

/// Everything that a plan depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The sinks of namespaces.
    pub log_sinks: BTreeMap<ObjectName, Stored<LogSinkSpec>>,
    /// The sinks of operators, by name.
    pub cluster_log_sinks: BTreeMap<String, Stored<ClusterLogSinkSpec>>,
    /// The labels of each namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The Secrets that sinks name.
    pub secrets: BTreeMap<ObjectName, Data>,
    /// The `ConfigMap`s that sinks name.
    pub config_maps: BTreeMap<ObjectName, Data>,
    /// The inputs' namespaces so far.
    pub lanes: Lanes,
}

/// The keys of a Secret or `ConfigMap`.
pub type Data = BTreeMap<String, Vec<u8>>;

/// A spec, or why the stored object has none.
#[derive(Clone, Debug)]
pub enum Stored<T> {
    /// What the user wrote.
    Spec(Box<T>),
    /// An object that an older schema let in.
    Invalid(String),
}

/// An object in a namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ObjectName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// The object of this name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A sink of either kind.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SinkId {
    /// A `LogSink`.
    Namespaced(ObjectName),
    /// A `ClusterLogSink`.
    Cluster(String),
}
