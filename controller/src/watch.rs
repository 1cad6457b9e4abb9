//! What the API server says, kept up to date, as a [`Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::ListParams;
use kube::core::object::HasSpec;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, Notify};

use crate::agent;
use crate::fleet::Agent;
use crate::history::Revisions;
use crate::lenient::Lenient;
use crate::names::{AGENT, HISTORY, LABEL, LANES, REVISION, STATE, selector};
use crate::references::{Names, References};
use crate::resources::{ClusterLogSink, LogSink};
use crate::settings::Settings;
use crate::snapshot::{ObjectName, SinkId, Snapshot, Stored, Version};

/// Reflections of everything that is watched.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Watched {
    client: Client,
    log_sinks: Store<StoredSink<LogSink>>,
    cluster_log_sinks: Store<StoredSink<ClusterLogSink>>,
    namespaces: Store<Lenient<PartialObjectMeta<Namespace>>>,
    pods: Store<Pod>,
    daemon_sets: Store<DaemonSet>,
    changed: Arc<Notify>,
    asked: Mutex<Asked>,
}

/// A sink, or why the stored object is none.
pub(crate) type StoredSink<K> = Lenient<DeserializeGuard<K>>;

/// What is asked for, and remembered.
#[derive(Default)]
struct Asked {
    references: References,
    revisions: Revisions,
}

impl Watched {
    /// Begins to watch, and waits until everything is there once.
    ///
    /// # Errors
    ///
    /// Where a watch ended before.
    pub async fn start(
        client: Client,
        settings: &Settings,
    ) -> Result<Self, reflector::store::WriterDropped> {
        let changed = Arc::new(Notify::new());
        let own = settings.namespace.as_str();
        let agents = watcher::Config::default().labels(&selector(LABEL));
        let daemon_set = watcher::Config::default().fields(&format!("metadata.name={AGENT}"));
        let everything = watcher::Config::default;
        let watched = Self {
            // What we say of a sink is no news.
            log_sinks: reflect(Api::all(client.clone()), everything(), &changed, generation),
            cluster_log_sinks: reflect(
                Api::all(client.clone()),
                everything(),
                &changed,
                generation,
            ),
            namespaces: reflect(
                Api::all(client.clone()),
                everything(),
                &changed,
                |namespace| hash(namespace.labels()),
            ),
            pods: reflect(
                Api::namespaced(client.clone(), own),
                agents,
                &changed,
                |pod| hash(&Agent::new(pod)),
            ),
            daemon_sets: reflect(
                Api::namespaced(client.clone(), own),
                daemon_set,
                &changed,
                |daemon_set| hash(&(generation(daemon_set), nodes(daemon_set))),
            ),
            client,
            changed,
            asked: Mutex::default(),
        };
        watched.log_sinks.wait_until_ready().await?;
        watched.cluster_log_sinks.wait_until_ready().await?;
        watched.namespaces.wait_until_ready().await?;
        watched.pods.wait_until_ready().await?;
        watched.daemon_sets.wait_until_ready().await?;
        Ok(watched)
    }

    /// Waits until something is different.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The sinks of namespaces, as they are stored.
    #[must_use]
    pub(crate) fn log_sinks(&self) -> Vec<Arc<StoredSink<LogSink>>> {
        self.log_sinks.state()
    }

    /// The sinks of operators, as they are stored.
    #[must_use]
    pub(crate) fn cluster_log_sinks(&self) -> Vec<Arc<StoredSink<ClusterLogSink>>> {
        self.cluster_log_sinks.state()
    }

    /// The agents, in the order of their nodes.
    #[must_use]
    pub fn agents(&self) -> Vec<Agent> {
        let pods = self.pods.state();
        let mut agents: Vec<Agent> = pods.iter().filter_map(|pod| Agent::new(pod)).collect();
        agents.sort_by(|a, b| a.node.cmp(&b.node));
        agents
    }

    /// How many nodes shall have an agent, once that is known.
    #[must_use]
    pub fn nodes(&self) -> Option<usize> {
        let daemon_sets = self.daemon_sets.state();
        daemon_sets.first().and_then(|daemon_set| nodes(daemon_set))
    }

    /// Everything that is known now.
    ///
    /// # Errors
    ///
    /// Where the API server cannot be asked for what is not watched.
    pub async fn snapshot(&self, settings: &Settings) -> kube::Result<Snapshot> {
        let mut snapshot = Snapshot {
            agents: self.agents(),
            nodes: self.nodes().unwrap_or(0),
            ..Snapshot::default()
        };
        let mut names = Names::default();
        for stored in self.log_sinks() {
            let name = ObjectName::of(&*stored);
            let spec = spec_of(&stored);
            if let Stored::Spec(spec) = &spec {
                names.add(spec, &name.namespace);
            }
            let id = SinkId::Namespaced(name.clone());
            snapshot.versions.insert(id, Version::of(stored.meta()));
            snapshot.log_sinks.insert(name, spec);
        }
        for stored in self.cluster_log_sinks() {
            let spec = spec_of(&stored);
            if let Stored::Spec(spec) = &spec {
                names.add(&spec.sink, &settings.namespace);
            }
            let id = SinkId::Cluster(stored.name_any());
            snapshot.versions.insert(id, Version::of(stored.meta()));
            snapshot.cluster_log_sinks.insert(stored.name_any(), spec);
        }
        for namespace in self.namespaces.state() {
            let labels = namespace.labels().clone();
            snapshot.namespaces.insert(namespace.name_any(), labels);
        }
        self.add_state(&mut snapshot, settings).await?;

        let mut asked = self.asked.lock().await;
        let Asked {
            references,
            revisions,
        } = &mut *asked;
        let fresh = settings.pace.resync;
        (snapshot.secrets, snapshot.config_maps) =
            references.look_up(&self.client, names, fresh).await?;
        self.add_revisions(&mut snapshot, revisions, settings)
            .await?;
        Ok(snapshot)
    }

    /// Adds what the controller remembers. What somebody broke is as good as
    /// none: files are read again, and the agents' revision is tried anew.
    async fn add_state(&self, snapshot: &mut Snapshot, settings: &Settings) -> kube::Result<()> {
        fn read<T: DeserializeOwned + Default>(data: &BTreeMap<String, String>, key: &str) -> T {
            let text = data.get(key).map_or("null", String::as_str);
            serde_json::from_str(text).unwrap_or_default()
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &settings.namespace);
        let stored = api.get_opt(STATE).await?;
        let data = stored.and_then(|map| map.data).unwrap_or_default();
        snapshot.lanes = read(&data, LANES);
        snapshot.history = read(&data, HISTORY);
        Ok(())
    }

    /// Adds the files of the revisions that agents have, or shall have again.
    async fn add_revisions(
        &self,
        snapshot: &mut Snapshot,
        known: &mut Revisions,
        settings: &Settings,
    ) -> kube::Result<()> {
        let of_agents = snapshot.agents.iter().map(|agent| &agent.revision);
        let good = snapshot.history.good.as_ref().map(|good| &good.revision);
        let wanted: BTreeSet<&String> = of_agents.chain(good).collect();
        known.retain(|revision, _| wanted.contains(revision));
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &settings.namespace);
        for revision in wanted {
            if known.contains_key(revision) {
                continue;
            }
            let labelled = ListParams::default().labels(&format!("{REVISION}={revision}"));
            let (files, _) = agent::from_secrets(api.list(&labelled).await?.items);
            if !files.is_empty() {
                known.insert(revision.clone(), Arc::new(files));
            }
        }
        snapshot.revisions = known.clone();
        Ok(())
    }
}

fn spec_of<K>(Lenient(stored): &StoredSink<K>) -> Stored<K::Spec>
where
    K: HasSpec,
    K::Spec: Clone,
{
    match &stored.0 {
        Ok(sink) => Stored::Spec(Box::new(sink.spec().clone())),
        Err(invalid) => Stored::Invalid(invalid.error.clone()),
    }
}

fn nodes(daemon_set: &DaemonSet) -> Option<usize> {
    let status = daemon_set.status.as_ref()?;
    // Its own controller has to have looked at it.
    status.observed_generation?;
    Some(status.desired_number_scheduled.max(0) as usize)
}

fn generation<K: Resource>(object: &K) -> u64 {
    object.meta().generation.unwrap_or(0) as u64
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Keeps a store up to date in the background, for as long as the process.
/// `aspect` is what has to be another for an object to be a changed one.
fn reflect<K>(
    api: Api<K>,
    config: watcher::Config,
    changed: &Arc<Notify>,
    aspect: impl Fn(&K) -> u64 + Send + 'static,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let changed = Arc::clone(changed);
    let stream = watcher(api, config)
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer);
    tokio::spawn(async move {
        let mut seen = BTreeMap::new();
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            let is_news = match event {
                Ok(Event::Apply(object)) => {
                    let (name, aspect) = (ObjectName::of(&object), aspect(&object));
                    seen.insert(name, aspect) != Some(aspect)
                }
                Ok(Event::Delete(object)) => {
                    seen.remove(&ObjectName::of(&object));
                    true
                }
                // After a relist anything may be different.
                Ok(Event::Init) => {
                    seen.clear();
                    false
                }
                Ok(Event::InitApply(object)) => {
                    seen.insert(ObjectName::of(&object), aspect(&object));
                    false
                }
                Ok(Event::InitDone) => true,
                Err(error) => {
                    tracing::warn!(%error, "a watch was interrupted");
                    false
                }
            };
            if is_news {
                changed.notify_one();
            }
        }
    });
    reader
}
