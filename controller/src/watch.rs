//! The watched state of the cluster, from which a [`Snapshot`] is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use api::{ClusterLogSink, LogSink};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, NodeSpec, NodeStatus, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
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
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::fleet::{Absent, Agent, Fleet, View, readiness};
use crate::lenient::Lenient;
use crate::monitor::{Monitor, Vital};
use crate::names::{AGENT, HISTORY, LABEL, MANAGED_BY, REVISION, STATE, selector};
use crate::references::{ObjectNames, References};
use crate::settings::{Settings, Timing};
use crate::snapshot::{ObjectName, SinkId, Snapshot, Stored, Version};

/// The number of seconds without a message after which a watch is restarted. Silence of a
/// dead API server must not be mistaken for late agents.
const SILENCE: u32 = 60;

/// Local copies of all watched objects.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Watched {
    client: Client,
    clock: Clock,
    log_sinks: Store<StoredSink<LogSink>>,
    cluster_log_sinks: Store<StoredSink<ClusterLogSink>>,
    namespaces: Store<Lenient<PartialObjectMeta<Namespace>>>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    daemon_sets: Store<DaemonSet>,
    observed: parking_lot::Mutex<Observed>,
    changed: Arc<Notify>,
    asked: Mutex<Asked>,
}

/// The observations that are compared with later ones.
#[derive(Default)]
struct Observed {
    /// Whether it is unknown what happened before the next snapshot.
    is_interrupted: bool,
    /// The end of the last interruption, if there was one.
    since: Option<Timestamp>,
    /// The nodes that had no pod at the last evaluation.
    absent: Absent,
}

/// The receivers of a reflector's changes, and of its end.
struct Watchers {
    changed: Arc<Notify>,
    vital: Vital,
}

/// A stored sink, or the reason why it cannot be read.
pub(crate) type StoredSink<K> = Lenient<DeserializeGuard<K>>;

/// Cached reads of objects that are not watched.
#[derive(Default)]
struct Asked {
    references: References,
    revisions: BTreeMap<String, Known>,
}

/// The configuration of a revision, and the number of Secrets with it.
#[derive(Clone)]
struct Known {
    configuration: Arc<Configuration>,
    secrets: usize,
}

impl Watched {
    /// Starts all watches, and waits until each has been listed once.
    ///
    /// # Errors
    ///
    /// Returns an error if a watch ended before.
    pub async fn start(
        client: Client,
        settings: &Settings,
        monitor: &Monitor,
    ) -> Result<Self, reflector::store::WriterDropped> {
        let changed = Arc::new(Notify::new());
        let watchers = || Watchers {
            changed: Arc::clone(&changed),
            vital: monitor.vital(),
        };
        let own = settings.namespace.as_str();
        let everything = || watcher::Config::default().timeout(SILENCE);
        let agents = everything().labels(&selector(LABEL));
        let daemon_set = everything().fields(&format!("metadata.name={AGENT}"));
        let watched = Self {
            // Status writes do not change the generation, so they wake nobody.
            log_sinks: reflect(
                Api::all(client.clone()),
                everything(),
                watchers(),
                generation,
            ),
            cluster_log_sinks: reflect(
                Api::all(client.clone()),
                everything(),
                watchers(),
                generation,
            ),
            namespaces: reflect(
                Api::all(client.clone()),
                everything(),
                watchers(),
                |namespace| hash(namespace.labels()),
            ),
            pods: reflect(
                Api::namespaced(client.clone(), own),
                agents,
                watchers(),
                |pod| hash(&Agent::new(pod)),
            ),
            nodes: reflect_part(
                Api::all(client.clone()),
                everything(),
                watchers(),
                only_decisive,
                decisive,
            ),
            daemon_sets: reflect(
                Api::namespaced(client.clone(), own),
                daemon_set,
                watchers(),
                |daemon_set| hash(&(generation(daemon_set), observed_generation(daemon_set))),
            ),
            client,
            clock: Clock::default(),
            observed: parking_lot::Mutex::default(),
            changed,
            asked: Mutex::default(),
        };
        watched.log_sinks.wait_until_ready().await?;
        watched.cluster_log_sinks.wait_until_ready().await?;
        watched.namespaces.wait_until_ready().await?;
        watched.pods.wait_until_ready().await?;
        watched.nodes.wait_until_ready().await?;
        watched.daemon_sets.wait_until_ready().await?;
        Ok(watched)
    }

    /// Waits for a change.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns the API server's time.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the stored `LogSink`s.
    #[must_use]
    pub(crate) fn log_sinks(&self) -> Vec<Arc<StoredSink<LogSink>>> {
        self.log_sinks.state()
    }

    /// Returns the stored `ClusterLogSink`s.
    #[must_use]
    pub(crate) fn cluster_log_sinks(&self) -> Vec<Arc<StoredSink<ClusterLogSink>>> {
        self.cluster_log_sinks.state()
    }

    /// Starts to observe. After an interruption, because the API server did not answer or no
    /// controller led, the time until now makes nothing late.
    pub(crate) fn start_observing(&self, is_interrupted: bool) {
        *self.observed.lock() = Observed {
            is_interrupted,
            ..Observed::default()
        };
    }

    /// Ends an interruption, now that the API server answers.
    fn end_interruption(&self) {
        let mut observed = self.observed.lock();
        if std::mem::take(&mut observed.is_interrupted) {
            observed.since = Some(self.now());
        }
    }

    /// Returns the agents, ordered by node.
    #[must_use]
    pub fn agents(&self) -> Vec<Agent> {
        let pods = self.pods.state();
        let mut agents: Vec<Agent> = pods.iter().filter_map(|pod| Agent::new(pod)).collect();
        agents.retain(|agent| agent.failed.is_none());
        agents.sort_by(|a, b| a.node.cmp(&b.node));
        agents
    }

    /// Returns the agents, and the nodes that are out of reach.
    #[must_use]
    pub fn fleet(&self, timing: Timing) -> Fleet {
        let (pods, nodes) = (self.pods.state(), self.nodes.state());
        let (pods, nodes) = (
            pods.iter().map(|pod| &**pod),
            nodes.iter().map(|node| &**node),
        );
        let daemon_sets = self.daemon_sets.state();
        let spec = daemon_sets.first().and_then(|found| found.spec.as_ref());
        let mut observed = self.observed.lock();
        let view = View {
            template: spec.and_then(|spec| spec.template.spec.as_ref()),
            absent: &observed.absent,
            observed_since: observed.since,
            patience: timing.canary_timeout,
            now: self.now(),
        };
        let fleet = Fleet::new(pods, nodes, view);
        observed.absent.clone_from(&fleet.absent);
        fleet
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    ///
    /// Returns an error if the controller's own objects cannot be read. A Secret or `ConfigMap` of
    /// a sink that cannot be read is part of the snapshot, as such.
    pub async fn snapshot(&self, settings: &Settings) -> kube::Result<Snapshot> {
        self.clock.set(&self.client).await?;
        self.end_interruption();
        let mut snapshot = Snapshot {
            now: self.now(),
            fleet: self.fleet(settings.timing),
            ..Snapshot::default()
        };
        let mut names = ObjectNames::default();
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
        let fresh = settings.timing.resync;
        (snapshot.secrets, snapshot.config_maps) =
            references.look_up(&self.client, names, fresh).await;
        self.add_revisions(&mut snapshot, revisions, settings)
            .await?;
        Ok(snapshot)
    }

    /// Adds the controller's stored state. Invalid state counts as missing: the agents'
    /// revision is then tried again. Other keys, which earlier versions stored, are ignored.
    async fn add_state(&self, snapshot: &mut Snapshot, settings: &Settings) -> kube::Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &settings.namespace);
        let stored = api.get_opt(STATE).await?;
        snapshot.state_version = stored.as_ref().and_then(ResourceExt::resource_version);
        let data = stored.and_then(|map| map.data).unwrap_or_default();
        let history = data.get(HISTORY).map_or("null", String::as_str);
        snapshot.history = serde_json::from_str(history).unwrap_or_default();
        Ok(())
    }

    /// Adds the configurations of the revisions that agents or the history have.
    async fn add_revisions(
        &self,
        snapshot: &mut Snapshot,
        known: &mut BTreeMap<String, Known>,
        settings: &Settings,
    ) -> kube::Result<()> {
        let Snapshot {
            fleet,
            history,
            stored,
            ..
        } = snapshot;
        let wanted: BTreeSet<&String> = fleet.revisions().chain(history.revisions()).collect();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &settings.namespace);
        *stored = stored_revisions(&self.client, settings).await?;
        // Somebody may have deleted them.
        let count =
            |revision: &String| stored.values().filter(|stored| *stored == revision).count();
        known.retain(|revision, known| {
            wanted.contains(revision) && count(revision) == known.secrets
        });
        for revision in wanted {
            if known.contains_key(revision) {
                continue;
            }
            let labelled = ListParams::default().labels(&format!("{REVISION}={revision}"));
            let secrets = api.list(&labelled).await?.items;
            let count = secrets.len();
            let (configuration, daemon_set) = agent::from_secrets(secrets);
            // One that was killed while it wrote them may have left some of them.
            if daemon_set.is_some_and(|daemon_set| agent::secret_count(&daemon_set) == count) {
                let known_now = Known {
                    configuration: Arc::new(configuration),
                    secrets: count,
                };
                known.insert(revision.clone(), known_now);
            }
        }
        let known = known.iter();
        snapshot.revisions = known
            .map(|(revision, known)| (revision.clone(), Arc::clone(&known.configuration)))
            .collect();
        Ok(())
    }
}

/// Returns the revision of each stored Secret, by the Secret's name.
///
/// # Errors
///
/// Returns an error if the API server cannot be reached.
pub async fn stored_revisions(
    client: &Client,
    settings: &Settings,
) -> kube::Result<BTreeMap<String, String>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &settings.namespace);
    let ours = format!("{REVISION},{}", selector(MANAGED_BY));
    let labelled = ListParams::default().labels(&ours);
    let secrets = api.list_metadata(&labelled).await?.items.into_iter();
    let revision = |secret: &PartialObjectMeta<Secret>| secret.labels().get(REVISION).cloned();
    Ok(secrets
        .filter_map(|secret| Some((secret.name_any(), revision(&secret)?)))
        .collect())
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

/// Returns the generation that the `DaemonSet`'s controller has observed.
fn observed_generation(daemon_set: &DaemonSet) -> Option<i64> {
    daemon_set.status.as_ref()?.observed_generation
}

fn generation<K: Resource>(object: &K) -> u64 {
    object.meta().generation.unwrap_or(0) as u64
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Reduces a node to the fields that decide about its agent: nodes are large, and there may
/// be thousands.
fn only_decisive(node: &mut Node) {
    node.metadata.annotations = None;
    node.spec = node.spec.take().map(|spec| NodeSpec {
        taints: spec.taints,
        ..NodeSpec::default()
    });
    node.status = node.status.take().map(|status| NodeStatus {
        conditions: status.conditions,
        ..NodeStatus::default()
    });
}

/// Returns a hash of the fields that decide about a node's agent.
fn decisive(node: &Node) -> u64 {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let taints = taints.into_iter().flatten();
    let taints: Vec<_> = taints.map(|it| (&it.key, &it.value, &it.effect)).collect();
    hash(&(readiness(node), node.labels(), taints))
}

/// Keeps a store up to date in the background, for as long as the process. An object counts
/// as changed if the value of `aspect` changes.
fn reflect<K>(
    api: Api<K>,
    config: watcher::Config,
    watchers: Watchers,
    aspect: impl Fn(&K) -> u64 + Send + 'static,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    reflect_part(api, config, watchers, |_| (), aspect)
}

/// Keeps a store of reduced objects up to date: see [`reflect`].
fn reflect_part<K>(
    api: Api<K>,
    config: watcher::Config,
    watchers: Watchers,
    reduce: fn(&mut K),
    aspect: impl Fn(&K) -> u64 + Send + 'static,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let stream = watcher(api, config)
        .default_backoff()
        .modify(move |object| {
            object.meta_mut().managed_fields = None;
            reduce(object);
        })
        .reflect(writer);
    tokio::spawn(async move {
        let Watchers {
            changed,
            vital: _vital,
        } = watchers;
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
