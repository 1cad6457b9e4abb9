//! What each sink is told of itself.
//!
//! ```text
//! verdict (plan), agents, their metrics -> conditions -> written where they are others
//!                                                     -> an Event where people must see it
//! ```

mod conditions;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use self::conditions::{CONFIGURED, DELIVERING, Facts, ROLLED_BACK};
use crate::apply::MANAGER;
use crate::delivery::{Delivery, Observations};
use crate::history::{History, Revisions};
use crate::monitor::{Monitor, SinkCounts};
use crate::plan::Plan;
use crate::resources::{ClusterLogSink, Counts, LastError, LogSink, SinkStatus};
use crate::settings::Pace;
use crate::snapshot::{ObjectName, SinkId, Version};
use crate::watch::Watched;

/// How many statuses are written at the same time.
const AT_ONCE: usize = 8;

/// What was decided last.
#[derive(Debug)]
pub struct Decided {
    /// The plan.
    pub plan: Plan,
    /// Which sinks it is about, as they were.
    pub versions: BTreeMap<SinkId, Version>,
    /// What became of revisions.
    pub history: History,
    /// The files of the revisions that agents may have.
    pub revisions: Revisions,
}

/// Tells sinks.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct Teller<'a> {
    client: Client,
    watched: &'a Watched,
    monitor: &'a Monitor,
    pace: Pace,
    recorder: Recorder,
    /// What the API server did not take: it will not take it again either.
    refused: Mutex<BTreeMap<SinkId, SinkStatus>>,
}

/// A sink, and what it was told last.
struct Told {
    id: SinkId,
    version: Version,
    before: SinkStatus,
}

impl<'a> Teller<'a> {
    /// One that has told nobody yet.
    #[must_use]
    pub fn new(client: Client, watched: &'a Watched, monitor: &'a Monitor, pace: Pace) -> Self {
        let reporter = Reporter::from(MANAGER);
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            watched,
            monitor,
            pace,
            refused: Mutex::default(),
        }
    }

    /// Writes the status of each sink whose status is another one now. One that
    /// cannot be written does not keep the others from theirs.
    pub async fn tell(&self, decided: &Decided, observations: &Mutex<Observations>) {
        let deliveries = observations.lock().deliveries();
        let agents = self.watched.agents();
        let nodes = self.watched.nodes();
        let ready = agents.iter().filter(|agent| agent.ready_since.is_some());
        let ready: Vec<&str> = ready.map(|agent| agent.revision.as_str()).collect();
        self.monitor.agents(ready.len(), nodes.unwrap_or(0));

        let mut counts = SinkCounts::default();
        let mut changed = Vec::new();
        for told in told(self.watched) {
            // One that came after the plan is the next one's.
            if decided.versions.get(&told.id) != Some(&told.version) {
                continue;
            }
            let Some(verdict) = decided.plan.verdicts.get(&told.id) else {
                continue;
            };
            let facts = Facts {
                verdict,
                decided,
                ready: &ready,
                agents: &agents,
                nodes,
                delivery: deliveries.get(alias(&told.id).as_str()),
            };
            let status = self.status(&told, &facts);
            count(&mut counts, &status);
            if status != told.before && self.refused.lock().get(&told.id) != Some(&status) {
                changed.push((told, status));
            }
        }
        self.monitor.sinks(counts);
        futures::stream::iter(changed)
            .map(|(told, status)| self.write(told, status))
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    fn status(&self, told: &Told, facts: &Facts<'_>) -> SinkStatus {
        let Told {
            version, before, ..
        } = told;
        let now = Timestamp::now();
        let conditions = conditions::all(&before.conditions, version.generation, facts, now);
        let is_news = conditions != before.conditions;
        SinkStatus {
            observed_generation: version.generation,
            conditions,
            counts: match facts.delivery {
                Some(delivery) => {
                    let before = before.counts.as_ref();
                    Some(counts(before, delivery, is_news, self.pace.count, now))
                }
                None => before.counts.clone(),
            },
            last_error: last_error(before.last_error.as_ref(), facts.delivery, now),
        }
    }

    async fn write(&self, told: Told, status: SinkStatus) {
        let result = self.patch(&told.id, &status).await;
        self.monitor.wrote_status(result.is_ok());
        match result {
            Ok(()) => {
                self.refused.lock().remove(&told.id);
                self.announce(&told, &status).await;
            }
            // An object that is none of ours any more cannot be told so.
            Err(kube::Error::Api(refusal)) if (400..500).contains(&refusal.code) => {
                tracing::warn!(sink = %told.id, error = %refusal, "a status was refused");
                self.refused.lock().insert(told.id, status);
            }
            Err(error) => {
                tracing::warn!(sink = %told.id, %error, "a status could not be written");
            }
        }
    }

    async fn patch(&self, id: &SinkId, status: &SinkStatus) -> kube::Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let client = self.client.clone();
        let patched = match id {
            SinkId::Namespaced(ObjectName { namespace, name }) => {
                let api: Api<DeserializeGuard<LogSink>> = Api::namespaced(client, namespace);
                api.patch_status(name, &parameters, &patch).await.map(drop)
            }
            SinkId::Cluster(name) => {
                let api: Api<DeserializeGuard<ClusterLogSink>> = Api::all(client);
                api.patch_status(name, &parameters, &patch).await.map(drop)
            }
        };
        match patched {
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other,
        }
    }

    /// Events for what people must see: what turned bad, and what turned good
    /// again.
    async fn announce(&self, told: &Told, status: &SinkStatus) {
        for condition in &status.conditions {
            let before = told.before.conditions.iter();
            let before = before
                .clone()
                .find(|before| before.type_ == condition.type_);
            let has_failed = told.before.last_error.is_some();
            let Some(event) = announcement(before, condition, has_failed) else {
                continue;
            };
            let about = reference(&told.id, &told.version);
            if let Err(error) = self.recorder.publish(&event, &about).await {
                tracing::warn!(sink = %told.id, %error, "an Event could not be written");
            }
        }
    }
}

fn told(watched: &Watched) -> Vec<Told> {
    let log_sinks = watched.log_sinks().into_iter().map(|stored| {
        let namespace = stored.namespace().unwrap_or_default();
        let name = ObjectName::new(&namespace, &stored.name_any());
        Told::new(SinkId::Namespaced(name), &stored)
    });
    let cluster_log_sinks = watched.cluster_log_sinks().into_iter();
    let cluster_log_sinks =
        cluster_log_sinks.map(|stored| Told::new(SinkId::Cluster(stored.name_any()), &stored));
    log_sinks.chain(cluster_log_sinks).collect()
}

impl Told {
    fn new<K>(id: SinkId, stored: &DeserializeGuard<K>) -> Self
    where
        K: Resource + HasStatus<Status = SinkStatus>,
    {
        let status = stored.0.as_ref().ok().and_then(HasStatus::status);
        Self {
            id,
            version: Version::of(stored.meta()),
            before: status.cloned().unwrap_or_default(),
        }
    }
}

/// What an Event is about.
fn reference(id: &SinkId, version: &Version) -> ObjectReference {
    fn kind<K: Resource<DynamicType = ()>>() -> ObjectReference {
        ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            ..ObjectReference::default()
        }
    }
    let (kind, namespace, name) = match id {
        SinkId::Namespaced(ObjectName { namespace, name }) => {
            (kind::<LogSink>(), Some(namespace.clone()), name)
        }
        SinkId::Cluster(name) => (kind::<ClusterLogSink>(), None, name),
    };
    ObjectReference {
        namespace,
        name: Some(name.clone()),
        uid: Some(version.uid.clone()),
        ..kind
    }
}

/// What the sink's output is called.
fn alias(id: &SinkId) -> String {
    match id {
        SinkId::Namespaced(ObjectName { namespace, name }) => crate::render::alias(namespace, name),
        SinkId::Cluster(name) => crate::render::cluster_alias(name),
    }
}

/// What the agents have counted, as it was written last where nothing else is
/// new.
fn counts(
    before: Option<&Counts>,
    delivery: &Delivery,
    is_news: bool,
    every: Duration,
    now: Timestamp,
) -> Counts {
    if let Some(before) = before {
        let is_the_same =
            before.acknowledged == delivery.acknowledged && before.dropped == delivery.dropped;
        let is_recent = now.duration_since(before.observed_time.0).unsigned_abs() < every;
        if is_the_same || (is_recent && !is_news) {
            return before.clone();
        }
    }
    let is_more = before.map_or(0, |before| before.acknowledged) < delivery.acknowledged;
    Counts {
        acknowledged: delivery.acknowledged,
        dropped: delivery.dropped,
        observed_time: Time(now),
        last_acknowledged_time: if is_more {
            Some(Time(now))
        } else {
            before.and_then(|before| before.last_acknowledged_time.clone())
        },
    }
}

fn last_error(
    before: Option<&LastError>,
    delivery: Option<&Delivery>,
    now: Timestamp,
) -> Option<LastError> {
    let Some(failure) = delivery.and_then(Delivery::failure) else {
        return before.cloned();
    };
    let reason = conditions::reason(failure.kind);
    match before {
        Some(before) if before.reason == reason && before.node == failure.node => {
            Some(before.clone())
        }
        _ => Some(LastError {
            reason: reason.to_owned(),
            node: failure.node.clone(),
            time: Time(now),
        }),
    }
}

/// What people are told of a condition of a sink that has failed to deliver
/// before, or has not.
fn announcement(before: Option<&Condition>, now: &Condition, has_failed: bool) -> Option<Event> {
    let is_same =
        |before: &Condition| (&before.status, &before.reason) == (&now.status, &now.reason);
    if before.is_some_and(is_same) {
        return None;
    }
    let was_bad = before.is_some_and(|before| before.status == "False");
    let is_bad = match (now.type_.as_str(), now.status.as_str()) {
        // On its way is not bad.
        (CONFIGURED, "False") => now.reason == ROLLED_BACK,
        (_, status) => status == "False" && now.reason != conditions::NOT_ACCEPTED,
    };
    let is_better = now.status == "True"
        && match now.type_.as_str() {
            CONFIGURED => false,
            // Agents that begin anew know of nothing for a moment.
            DELIVERING => has_failed,
            _ => was_bad,
        };
    (is_bad || is_better).then(|| Event {
        type_: if is_bad {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: now.reason.clone(),
        // An Event takes 1 KiB.
        note: Some(now.message.chars().take(250).collect()),
        action: now.type_.clone(),
        secondary: None,
    })
}

fn count(counts: &mut SinkCounts, status: &SinkStatus) {
    let is = |type_: &str, value: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == type_ && condition.status == value)
    };
    if is(conditions::ACCEPTED, "False") {
        counts.refused += 1;
        return;
    }
    if is(CONFIGURED, "True") {
        counts.configured += 1;
    } else {
        counts.rolling_out += 1;
    }
    if is(DELIVERING, "False") {
        counts.failing += 1;
    }
}

#[cfg(test)]
mod tests;
