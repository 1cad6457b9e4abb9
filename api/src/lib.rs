//! The custom resources of `syslogsink.io/v1alpha1`: their fields, from which the CRDs
//! are generated, and the conditions and reasons of their status.
//!
//! The controller writes what `kubectl sink` reads by the same types.
#![forbid(unsafe_code)]

mod condition;
mod events;
mod reason;
mod spec;
mod status;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use self::condition::{ConditionStatus, ConditionType};
pub use self::events::{EventExclusion, EventFormat, EventSelection, EventType};
pub use self::reason::Reason;
pub use self::spec::{
    CaSource, ClusterLogSink, ClusterLogSinkSpec, Exclusion, Format, KeyReference, LogSink,
    LogSinkSpec, Selection, Server, Sharing, SinkType, Stream, TlsSpec, TlsVersion, Transport,
};
pub use self::status::{Counts, EventCounts, LastError, SinkStatus};

/// Returns both CRDs, in the order in which they are documented.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    [LogSink::crd(), ClusterLogSink::crd()]
}

/// Returns a CRD in YAML, as `kubectl apply` accepts it.
#[must_use]
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(crd).expect("a CRD has only maps with text keys")
}
