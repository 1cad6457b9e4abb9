//! The status of each sink.
//!
//! ```text
//! verdict (plan), agents, their metrics -> conditions -> written if they changed
//!                                                     -> an Event if somebody should notice
//! ```

mod announce;
mod conditions;
mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use api::{ClusterLogSink, LogSink, SinkStatus};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use self::announce::Announcer;
use self::conditions::Facts;
use self::numbers::{count, counts, last_error};
use crate::delivery::Observations;
use crate::history::{History, Revisions};
use crate::lenient::Lenient;
use crate::monitor::{Monitor, SinkCounts};
use crate::names::MANAGER;
use crate::plan::Plan;
use crate::render::alias_of;
use crate::settings::Timing;
use crate::snapshot::{ObjectName, SinkId, Version};
use crate::watch::{StoredSink, Watched};

/// The maximum number of statuses written at the same time.
const MAX_CONCURRENT: usize = 8;
/// The maximum number of statuses written in a round if only their numbers changed: with
/// hundreds of sinks, a rollout over many nodes must not cause a storm of writes.
const NUMBERS: usize = 20;

/// The latest decisions of the controller.
#[derive(Debug)]
pub struct Decided {
    /// The plan.
    pub plan: Plan,
    /// The versions of the sinks that the plan is about.
    pub versions: BTreeMap<SinkId, Version>,
    /// The state of the rollout.
    pub history: History,
    /// The configurations of the revisions that agents may have.
    pub revisions: Revisions,
}

/// Writes statuses.
#[allow(missing_debug_implementations, reason = "a client has none")]
pub struct StatusWriter<'a> {
    client: Client,
    watched: &'a Watched,
    monitor: &'a Monitor,
    timing: Timing,
    announcer: Announcer,
    written: Mutex<BTreeMap<SinkId, Written>>,
}

/// The result of the last write.
#[derive(Clone, Debug)]
enum Written {
    At(Instant),
    /// The API server rejected it, and will reject it again.
    Rejected(Version),
}

/// A sink, and its last status.
struct Subject {
    id: SinkId,
    version: Version,
    before: SinkStatus,
}

impl<'a> StatusWriter<'a> {
    /// Creates a writer that has written no status yet.
    #[must_use]
    pub fn new(client: Client, watched: &'a Watched, monitor: &'a Monitor, timing: Timing) -> Self {
        Self {
            announcer: Announcer::new(client.clone()),
            client,
            watched,
            monitor,
            timing,
            written: Mutex::default(),
        }
    }

    /// Writes the statuses that have changed. One that cannot be written does not delay the
    /// others.
    pub async fn write_all(&self, decided: &Decided, observations: &Mutex<Observations>) {
        let deliveries = observations.lock().deliveries(self.timing.behind);
        let fleet = self.watched.fleet(self.timing);
        self.monitor.fleet(&fleet);

        let mut counts = SinkCounts::default();
        let (mut news, mut numbers) = (Vec::new(), Vec::new());
        let subjects = subjects(self.watched);
        self.forget_others(&subjects);
        for subject in subjects {
            // A sink that changed after the plan waits for the next plan.
            if decided.versions.get(&subject.id) != Some(&subject.version) {
                continue;
            }
            let Some(verdict) = decided.plan.verdicts.get(&subject.id) else {
                continue;
            };
            let facts = Facts {
                verdict,
                decided,
                fleet: &fleet,
                delivery: deliveries.get(alias_of(&subject.id).as_str()),
                patience: self.timing.canary_timeout,
            };
            let status = self.status(&subject, &facts);
            count(&mut counts, &status);
            if status == subject.before || self.was_rejected(&subject) {
                continue;
            }
            if is_news(&subject.before, &status) {
                news.push((subject, status));
            } else {
                numbers.push((subject, status));
            }
        }
        self.monitor.sinks(counts);
        // Those that waited longest.
        numbers.sort_by_cached_key(|(subject, _)| self.written_at(&subject.id));
        numbers.truncate(NUMBERS);
        news.append(&mut numbers);
        futures::stream::iter(news)
            .map(|(subject, status)| self.write(subject, status))
            .buffer_unordered(MAX_CONCURRENT)
            .collect::<()>()
            .await;
    }

    fn forget_others(&self, subjects: &[Subject]) {
        let there: BTreeSet<&SinkId> = subjects.iter().map(|subject| &subject.id).collect();
        self.written.lock().retain(|id, _| there.contains(id));
    }

    fn was_rejected(&self, subject: &Subject) -> bool {
        let written = self.written.lock();
        matches!(written.get(&subject.id), Some(Written::Rejected(version)) if *version == subject.version)
    }

    fn written_at(&self, id: &SinkId) -> Option<Instant> {
        match self.written.lock().get(id) {
            Some(Written::At(at)) => Some(*at),
            _ => None,
        }
    }

    fn status(&self, subject: &Subject, facts: &Facts<'_>) -> SinkStatus {
        let Subject {
            version, before, ..
        } = subject;
        let now = self.watched.now();
        let conditions = conditions::all(&before.conditions, version.generation, facts, now);
        let is_news = have_changed(&before.conditions, &conditions);
        SinkStatus {
            observed_generation: version.generation,
            conditions,
            counts: match facts.delivery {
                Some(delivery) => {
                    let before = before.counts.as_ref();
                    Some(counts(
                        before,
                        delivery,
                        is_news,
                        self.timing.status_interval,
                        now,
                    ))
                }
                None => before.counts.clone(),
            },
            last_error: last_error(before.last_error.as_ref(), facts.delivery, now),
        }
    }

    async fn write(&self, subject: Subject, status: SinkStatus) {
        let result = self.patch(&subject.id, &status).await;
        self.monitor.wrote_status(result.is_ok());
        match result {
            Ok(()) => {
                let now = Written::At(Instant::now());
                self.written.lock().insert(subject.id.clone(), now);
                self.announcer
                    .announce(&subject.id, &subject.version, &subject.before, &status)
                    .await;
            }
            // The stored object does not match the current schema.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 400 | 422) => {
                tracing::warn!(sink = %subject.id, error = %refusal, "the API server rejected a status");
                let rejected = Written::Rejected(subject.version);
                self.written.lock().insert(subject.id, rejected);
            }
            Err(error) => {
                tracing::warn!(sink = %subject.id, %error, "cannot write a status");
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
                let api: Api<StoredSink<LogSink>> = Api::namespaced(client, namespace);
                api.patch_status(name, &parameters, &patch).await.map(drop)
            }
            SinkId::Cluster(name) => {
                let api: Api<StoredSink<ClusterLogSink>> = Api::all(client);
                api.patch_status(name, &parameters, &patch).await.map(drop)
            }
        };
        match patched {
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other,
        }
    }
}

fn subjects(watched: &Watched) -> Vec<Subject> {
    let log_sinks = watched
        .log_sinks()
        .into_iter()
        .map(|stored| Subject::new(SinkId::Namespaced(ObjectName::of(&*stored)), &stored));
    let cluster_log_sinks = watched.cluster_log_sinks().into_iter();
    let cluster_log_sinks =
        cluster_log_sinks.map(|stored| Subject::new(SinkId::Cluster(stored.name_any()), &stored));
    log_sinks.chain(cluster_log_sinks).collect()
}

impl Subject {
    fn new<K>(id: SinkId, Lenient(stored): &StoredSink<K>) -> Self
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

/// Returns whether a status differs in more than its numbers.
fn is_news(before: &SinkStatus, now: &SinkStatus) -> bool {
    before.observed_generation != now.observed_generation
        || before.last_error != now.last_error
        || have_changed(&before.conditions, &now.conditions)
}

fn have_changed(before: &[Condition], now: &[Condition]) -> bool {
    fn gist(condition: &Condition) -> (&str, &str, &str, Option<i64>) {
        let Condition {
            type_,
            status,
            reason,
            observed_generation,
            ..
        } = condition;
        (type_, status, reason, *observed_generation)
    }
    !before.iter().map(gist).eq(now.iter().map(gist))
}

#[cfg(test)]
mod tests;
