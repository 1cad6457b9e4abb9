//! What the API server says, kept up to date, as a [`Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::core::object::HasSpec;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::plan::{Lanes, Settings};
use crate::resources::{ClusterLogSink, LogSink, LogSinkSpec};
use crate::snapshot::{Data, ObjectName, Snapshot, Stored};

/// The `ConfigMap` that remembers the lanes, and its key.
pub(crate) const LANES: &str = "syslog-sink-lanes";
pub(crate) const LANES_KEY: &str = "lanes.json";

/// Reflections of everything that is watched. What sinks only name (Secrets,
/// `ConfigMap`s) is asked for when a snapshot is made: to watch it would need
/// the right to read every Secret of the cluster at once, and their memory.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Watched {
    client: Client,
    log_sinks: Store<DeserializeGuard<LogSink>>,
    cluster_log_sinks: Store<DeserializeGuard<ClusterLogSink>>,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    changed: Arc<Notify>,
}

impl Watched {
    /// Begins to watch, and waits until everything is there once.
    ///
    /// # Errors
    ///
    /// Where a watch ended before.
    pub async fn start(client: Client) -> Result<Self, reflector::store::WriterDropped> {
        let changed = Arc::new(Notify::new());
        let config = watcher::Config::default;
        let watched = Self {
            log_sinks: reflect(
                watcher(Api::all(client.clone()), config()),
                Arc::clone(&changed),
            ),
            cluster_log_sinks: reflect(
                watcher(Api::all(client.clone()), config()),
                Arc::clone(&changed),
            ),
            namespaces: reflect(
                watcher(Api::all(client.clone()), config()),
                Arc::clone(&changed),
            ),
            client,
            changed,
        };
        watched.log_sinks.wait_until_ready().await?;
        watched.cluster_log_sinks.wait_until_ready().await?;
        watched.namespaces.wait_until_ready().await?;
        Ok(watched)
    }

    /// Waits until something is different.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The sinks of namespaces, as they are stored.
    #[must_use]
    pub fn log_sinks(&self) -> Vec<Arc<DeserializeGuard<LogSink>>> {
        self.log_sinks.state()
    }

    /// The sinks of operators, as they are stored.
    #[must_use]
    pub fn cluster_log_sinks(&self) -> Vec<Arc<DeserializeGuard<ClusterLogSink>>> {
        self.cluster_log_sinks.state()
    }

    /// Everything that is known now.
    ///
    /// # Errors
    ///
    /// Where an object that a sink names cannot be asked for.
    pub async fn snapshot(&self, settings: &Settings) -> kube::Result<Snapshot> {
        let mut snapshot = Snapshot {
            lanes: self.lanes(&settings.namespace).await?,
            ..Snapshot::default()
        };
        for stored in self.log_sinks() {
            let name = ObjectName::new(&stored.namespace().unwrap_or_default(), &stored.name_any());
            snapshot.log_sinks.insert(name, spec_of(&stored));
        }
        for stored in self.cluster_log_sinks() {
            let spec = spec_of(&stored);
            snapshot.cluster_log_sinks.insert(stored.name_any(), spec);
        }
        for namespace in self.namespaces.state() {
            let labels = namespace.labels().clone();
            snapshot.namespaces.insert(namespace.name_any(), labels);
        }
        self.add_named(&mut snapshot, &settings.namespace).await?;
        Ok(snapshot)
    }

    async fn lanes(&self, namespace: &str) -> kube::Result<Lanes> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let stored = api.get_opt(LANES).await?.and_then(|map| map.data);
        let text = stored.as_ref().and_then(|data| data.get(LANES_KEY));
        // One that somebody broke is as good as none: files are read again.
        Ok(text
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default())
    }

    /// Adds the objects that sinks name.
    async fn add_named(&self, snapshot: &mut Snapshot, own: &str) -> kube::Result<()> {
        let (mut secrets, mut config_maps) = (BTreeSet::new(), BTreeSet::new());
        let mut note = |spec: &LogSinkSpec, namespace: &str| {
            let Some(tls) = &spec.tls else {
                return;
            };
            let ca = tls.ca.as_ref();
            let of_secret = ca
                .and_then(|ca| ca.secret.as_ref())
                .map(|secret| &secret.name);
            let client = tls.client_certificate_secret.as_ref();
            secrets.extend(
                of_secret
                    .into_iter()
                    .chain(client)
                    .map(|name| ObjectName::new(namespace, name)),
            );
            let of_map = ca.and_then(|ca| ca.config_map.as_ref());
            config_maps.extend(of_map.map(|map| ObjectName::new(namespace, &map.name)));
        };
        for (name, stored) in &snapshot.log_sinks {
            if let Stored::Spec(spec) = stored {
                note(spec, &name.namespace);
            }
        }
        for stored in snapshot.cluster_log_sinks.values() {
            if let Stored::Spec(spec) = stored {
                note(&spec.sink, own);
            }
        }
        for name in secrets {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &name.namespace);
            if let Some(secret) = get(&api, &name.name).await? {
                let data = secret.data.unwrap_or_default();
                let data: Data = data
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect();
                snapshot.secrets.insert(name, data);
            }
        }
        for name in config_maps {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &name.namespace);
            if let Some(map) = get(&api, &name.name).await? {
                let data: BTreeMap<String, String> = map.data.unwrap_or_default();
                let data: Data = data
                    .into_iter()
                    .map(|(key, value)| (key, value.into_bytes()))
                    .collect();
                snapshot.config_maps.insert(name, data);
            }
        }
        Ok(())
    }
}

fn spec_of<K>(stored: &DeserializeGuard<K>) -> Stored<K::Spec>
where
    K: HasSpec,
    K::Spec: Clone,
{
    match &stored.0 {
        Ok(sink) => Stored::Spec(Box::new(sink.spec().clone())),
        Err(invalid) => Stored::Invalid(invalid.error.clone()),
    }
}

/// An object, unless there is none of this name; one whose name is not a name
/// is none either.
async fn get<K>(api: &Api<K>, name: &str) -> kube::Result<Option<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    match api.get_opt(name).await {
        Err(kube::Error::Api(status))
            if (400..500).contains(&status.code) && status.code != 429 =>
        {
            Ok(None)
        }
        other => other,
    }
}

/// Keeps a store up to date in the background, for as long as the process.
fn reflect<K>(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    changed: Arc<Notify>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let stream = stream.default_backoff().reflect(writer).touched_objects();
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(touched) = stream.next().await {
            match touched {
                Ok(_) => changed.notify_one(),
                Err(error) => tracing::warn!(%error, "a watch was interrupted"),
            }
        }
    });
    reader
}
