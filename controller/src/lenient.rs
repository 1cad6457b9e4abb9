//! Lenient deserialisation of tenants' objects.
//!
//! The API server accepts times that the client library cannot represent, such as the last
//! hours of the year 9999. A tenant can write one into an Event, or into an object's
//! `managedFields`, where a check of the object's own fields does not help. With strict
//! parsing, a single such object would make every list that contains it unreadable.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret};
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object without its `managedFields`.
#[derive(Clone, Debug)]
pub struct Lenient<K>(pub K);

/// A kind of object that can be read leniently.
pub trait ReadLeniently: DeserializeOwned {
    /// The keys that are removed if the object cannot be read with them.
    const KEYS: &'static [&'static str] = &[];
}

impl ReadLeniently for Secret {}
impl ReadLeniently for ConfigMap {}
impl ReadLeniently for PartialObjectMeta<Namespace> {}
impl<K: DeserializeOwned + Resource> ReadLeniently for DeserializeGuard<K> {}
impl ReadLeniently for Event {
    const KEYS: &'static [&'static str] =
        &["eventTime", "firstTimestamp", "lastTimestamp", "series"];
}

impl<'de, K: ReadLeniently> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        let read = K::deserialize(&object).or_else(|error| match &mut object {
            Value::Object(fields) if !K::KEYS.is_empty() => {
                fields.retain(|key, _| !K::KEYS.contains(&key.as_str()));
                K::deserialize(&object)
            }
            _ => Err(error),
        });
        read.map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FAR: &str = "9999-12-31T23:59:59Z";

    #[test]
    fn an_unsupported_time_does_not_invalidate_its_object() {
        let managed = json!([{"manager": "evil", "operation": "Apply", "time": FAR}]);
        let secret = json!({"metadata": {"name": "ca", "managedFields": managed}});
        assert!(serde_json::from_value::<Secret>(secret.clone()).is_err());
        let Lenient(secret): Lenient<Secret> = serde_json::from_value(secret).unwrap();
        assert_eq!(secret.metadata.name.as_deref(), Some("ca"));

        let event = json!({
            "metadata": {"name": "web.1", "managedFields": managed},
            "involvedObject": {"name": "web"},
            "lastTimestamp": FAR,
            "count": 3,
        });
        let Lenient(event): Lenient<Event> = serde_json::from_value(event).unwrap();
        assert_eq!((event.count, event.last_timestamp), (Some(3), None));
    }
}
