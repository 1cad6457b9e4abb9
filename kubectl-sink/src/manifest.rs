//! Sinks as they are applied.

use api::LogSink;
use kube::Resource;
use serde_json::{Map, Value};

/// A sink; one of the cluster is in no namespace.
pub(crate) fn manifest(
    name: &str,
    namespace: Option<&str>,
    is_the_clusters: bool,
    spec: Map<String, Value>,
) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), name.into());
    let namespace = namespace.filter(|_| !is_the_clusters);
    add(&mut metadata, "namespace", namespace);
    let kind = if is_the_clusters {
        "ClusterLogSink"
    } else {
        "LogSink"
    };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), LogSink::api_version(&()).into());
    object.insert("kind".to_owned(), kind.into());
    object.insert("metadata".to_owned(), metadata.into());
    object.insert("spec".to_owned(), spec.into());
    Value::Object(object)
}

/// Adds a field that has a value.
pub(crate) fn add(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}
