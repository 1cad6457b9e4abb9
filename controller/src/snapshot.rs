//! What is known of the cluster, as one value.

use std::collections::BTreeMap;
use std::fmt;

use api::{ClusterLogSinkSpec, LogSinkSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::configuration::Configuration;
use crate::fleet::Fleet;
use crate::history::{History, Revisions};
use crate::lanes::Lanes;

/// Everything that a plan depends on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The sinks of namespaces.
    pub log_sinks: BTreeMap<ObjectName, Stored<LogSinkSpec>>,
    /// The sinks of operators, by name.
    pub cluster_log_sinks: BTreeMap<String, Stored<ClusterLogSinkSpec>>,
    /// Which versions of them these are.
    pub versions: BTreeMap<SinkId, Version>,
    /// The labels of each namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The Secrets that sinks name.
    pub secrets: BTreeMap<ObjectName, Lookup>,
    /// The `ConfigMap`s that sinks name.
    pub config_maps: BTreeMap<ObjectName, Lookup>,
    /// The inputs' namespaces so far.
    pub lanes: Lanes,
    /// What became of revisions so far.
    pub history: History,
    /// The version of the object that has both of them, if there is one.
    pub state_version: Option<String>,
    /// The configurations of the revisions that agents have, and of the last good one.
    pub revisions: Revisions,
    /// The revision of each Secret that has files of one, by the Secret's name.
    pub stored: BTreeMap<String, String>,
    /// The agents.
    pub fleet: Fleet,
    /// The time of the API server at which this was known.
    pub now: Timestamp,
}

impl Snapshot {
    /// The configuration of the last good revision.
    #[must_use]
    pub fn good(&self) -> Option<&Configuration> {
        let configuration = self.revisions.get(&self.history.good.as_ref()?.revision)?;
        Some(configuration)
    }

    /// The UID of a sink: another one of the same name has another.
    #[must_use]
    pub fn uid(&self, id: &SinkId) -> Option<&str> {
        Some(&self.versions.get(id)?.uid)
    }
}

/// The keys of a Secret or `ConfigMap`.
pub type Data = BTreeMap<String, Vec<u8>>;

/// What came of asking for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is there.
    Found(Data),
    /// There is none of this name.
    Missing,
    /// The API server does not give it, and says why.
    Unreadable(String),
    /// The API server has never answered for it, and this is its last error.
    Unknown(String),
}

/// A spec, or why the stored object has none.
#[derive(Clone, Debug)]
pub enum Stored<T> {
    /// What the user wrote.
    Spec(Box<T>),
    /// An object that an older schema let in.
    Invalid(String),
}

/// A version of an object: its identity, and how often its spec was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// The identity.
    pub uid: String,
    /// The number of the spec.
    pub generation: Option<i64>,
    /// When the object was made.
    pub created: Option<Timestamp>,
}

impl Version {
    /// That of an object.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }
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
    /// That of an object; one of the cluster is in no namespace.
    #[must_use]
    pub fn of(object: &impl Resource) -> Self {
        Self::new(&object.namespace().unwrap_or_default(), &object.name_any())
    }

    /// The object of this name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Whether an object can have this name (an RFC 1123 subdomain).
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

/// A sink of either kind.
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
