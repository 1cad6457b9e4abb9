//! The known state of the cluster, as one value.

use std::collections::BTreeMap;
use std::fmt;

use api::{ClusterLogSinkSpec, LogSinkSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::configuration::Configuration;
use crate::fleet::Fleet;
use crate::history::{History, Revisions};

/// The state that a plan depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The `LogSink`s.
    pub log_sinks: BTreeMap<ObjectName, Stored<LogSinkSpec>>,
    /// The `ClusterLogSink`s, by name.
    pub cluster_log_sinks: BTreeMap<String, Stored<ClusterLogSinkSpec>>,
    /// The versions of the sinks.
    pub versions: BTreeMap<SinkId, Version>,
    /// The labels of each namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The Secrets that sinks refer to.
    pub secrets: BTreeMap<ObjectName, Lookup>,
    /// The `ConfigMap`s that sinks refer to.
    pub config_maps: BTreeMap<ObjectName, Lookup>,
    /// The state of the rollout.
    pub history: History,
    /// The version of the `ConfigMap` with this state, if it exists.
    pub state_version: Option<String>,
    /// The configurations of the revisions that agents have, and of the last good one.
    pub revisions: Revisions,
    /// The revision of each stored Secret, by the Secret's name.
    pub stored: BTreeMap<String, String>,
    /// The agents.
    pub fleet: Fleet,
    /// The API server's time at which the snapshot was taken.
    pub now: Timestamp,
}

impl Snapshot {
    /// Returns the configuration of the last good revision.
    #[must_use]
    pub fn good(&self) -> Option<&Configuration> {
        let configuration = self.revisions.get(&self.history.good.as_ref()?.revision)?;
        Some(configuration)
    }

    /// Returns the configuration that agents are getting, or else the last good one.
    #[must_use]
    pub fn current(&self) -> Option<&Configuration> {
        let History { trial, roll, .. } = &self.history;
        let attempt = trial.as_ref().or(roll.as_ref());
        let current = attempt.and_then(|attempt| self.revisions.get(&attempt.revision));
        current.map(AsRef::as_ref).or_else(|| self.good())
    }
}

/// The data of a Secret or `ConfigMap`.
pub type Data = BTreeMap<String, Vec<u8>>;

/// The result of reading an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The object exists.
    Found(Data),
    /// The object does not exist.
    Missing,
    /// The API server refuses to return the object, for this reason.
    Unreadable(String),
    /// The API server has not answered yet; this is its last error.
    Unknown(String),
}

/// A stored sink.
#[derive(Clone, Debug)]
pub enum Stored<T> {
    /// A valid spec.
    Spec(Box<T>),
    /// An object that does not match the schema, for this reason; an older schema accepted
    /// it.
    Invalid(String),
}

/// The version of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// The UID. An object that is deleted and created again has a new one.
    pub uid: String,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The time of creation.
    pub created: Option<Timestamp>,
}

impl Version {
    /// Returns the version of an object.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }
}

/// The name of an object, with its namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ObjectName {
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// Returns the name of an object.
    #[must_use]
    pub fn of(object: &impl Resource) -> Self {
        Self::new(&object.namespace().unwrap_or_default(), &object.name_any())
    }

    /// Creates a name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Returns whether the name is valid for an object (an RFC 1123 subdomain).
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let mut bytes = name.bytes();
    name.len() <= 253
        && bytes.clone().all(allowed)
        && ends(bytes.clone().next_back())
        && ends(bytes.next())
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The identity of a sink of either kind.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SinkId {
    /// A `LogSink`.
    Namespaced(ObjectName),
    /// A `ClusterLogSink`.
    Cluster(String),
}

impl From<ObjectName> for SinkId {
    fn from(name: ObjectName) -> Self {
        Self::Namespaced(name)
    }
}

impl From<String> for SinkId {
    fn from(name: String) -> Self {
        Self::Cluster(name)
    }
}

impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaced(name) => name.fmt(f),
            Self::Cluster(name) => f.write_str(name),
        }
    }
}
