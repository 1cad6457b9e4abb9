//! The Secrets and `ConfigMap`s that sinks refer to. They are read one by one: watching
//! them would need the right to list all Secrets of the cluster.
//!
//! While the API server is unhealthy, the known objects stay in use. If a Secret is missing,
//! only the sinks that name it are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use api::LogSinkSpec;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource};
use tokio::time::Instant;

use crate::lenient::{Lenient, ReadLeniently};
use crate::snapshot::{Data, Lookup, ObjectName, is_object_name};

/// The maximum number of objects read at the same time.
const AT_ONCE: usize = 8;

/// The objects that were read, and when.
#[derive(Debug, Default)]
pub(crate) struct References {
    secrets: Found,
    config_maps: Found,
}

type Found = BTreeMap<ObjectName, (Lookup, Instant)>;

/// The names of the objects that specs refer to.
#[derive(Debug, Default)]
pub struct ObjectNames {
    secrets: BTreeSet<ObjectName>,
    config_maps: BTreeSet<ObjectName>,
}

impl ObjectNames {
    /// Returns the names of the Secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|object| object.name.as_str())
    }

    /// Returns the names of the `ConfigMap`s.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        self.config_maps.iter().map(|object| object.name.as_str())
    }

    /// Adds the names in the spec of a sink whose objects are in this namespace.
    pub(crate) fn add(&mut self, spec: &LogSinkSpec, namespace: &str) {
        let Some(tls) = &spec.tls else {
            return;
        };
        let ca = tls.ca.as_ref();
        let of_ca = ca.and_then(|ca| ca.secret.as_ref());
        let of_ca = of_ca.map(|reference| &reference.name);
        let of_secrets = of_ca.into_iter().chain(&tls.client_certificate_secret);
        self.secrets.extend(objects(of_secrets, namespace));
        let of_map = ca.and_then(|ca| ca.config_map.as_ref());
        let of_map = of_map.map(|reference| &reference.name);
        self.config_maps.extend(objects(of_map, namespace));
    }
}

/// Returns the valid names. An invalid one could be a path to another object.
fn objects<'n>(
    names: impl IntoIterator<Item = &'n String>,
    namespace: &str,
) -> impl Iterator<Item = ObjectName> {
    let names = names.into_iter().filter(|name| is_object_name(name));
    names.map(|name| ObjectName::new(namespace, name))
}

/// The objects of both kinds, by name.
pub(crate) type Objects = (BTreeMap<ObjectName, Lookup>, BTreeMap<ObjectName, Lookup>);

impl References {
    /// Reads objects. One that was read less than `fresh` ago is not read again.
    pub(crate) async fn look_up(
        &mut self,
        client: &Client,
        names: ObjectNames,
        fresh: Duration,
    ) -> Objects {
        let of_secret = |secret: Secret| {
            let data = secret.data.unwrap_or_default().into_iter();
            data.map(|(key, value)| (key, value.0)).collect()
        };
        let of_map = |map: ConfigMap| {
            let data = map.data.unwrap_or_default().into_iter();
            data.map(|(key, value)| (key, value.into_bytes())).collect()
        };
        refresh(&mut self.secrets, client, names.secrets, fresh, of_secret).await;
        refresh(
            &mut self.config_maps,
            client,
            names.config_maps,
            fresh,
            of_map,
        )
        .await;
        let all = |found: &Found| {
            let found = found.iter();
            found
                .map(|(name, (lookup, _))| (name.clone(), lookup.clone()))
                .collect()
        };
        (all(&self.secrets), all(&self.config_maps))
    }
}

async fn refresh<K>(
    found: &mut Found,
    client: &Client,
    names: BTreeSet<ObjectName>,
    fresh: Duration,
    data: impl Fn(K) -> Data,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + ReadLeniently,
{
    found.retain(|name, _| names.contains(name));
    let is_fresh = |(lookup, at): &(Lookup, Instant)| {
        matches!(lookup, Lookup::Found(_)) && at.elapsed() < fresh
    };
    let mut stale: Vec<ObjectName> = names.into_iter().collect();
    stale.retain(|name| !found.get(name).is_some_and(is_fresh));
    let asked = stale.into_iter().map(|name| ask::<K>(client.clone(), name));
    let answers: Vec<_> = futures::stream::iter(asked)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for (name, answer) in answers {
        let lookup = match answer {
            Ok(Some(object)) => Lookup::Found(data(object)),
            Ok(None) => Lookup::Missing,
            // A name that is none, or no right to read it.
            Err(kube::Error::Api(status))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                Lookup::Unreadable(status.message.clone())
            }
            // The known content stays in force while the API server does not answer.
            Err(error) => match found.get(&name) {
                Some((Lookup::Unknown(_), _)) | None => Lookup::Unknown(error.to_string()),
                Some(_) => continue,
            },
        };
        found.insert(name, (lookup, Instant::now()));
    }
}

async fn ask<K>(client: Client, name: ObjectName) -> (ObjectName, kube::Result<Option<K>>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + ReadLeniently,
{
    let api: Api<Lenient<K>> = Api::namespaced(client, &name.namespace);
    let answer = api.get_opt(&name.name).await;
    (
        name,
        answer.map(|found| found.map(|Lenient(object)| object)),
    )
}
