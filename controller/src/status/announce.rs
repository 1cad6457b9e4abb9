//! Kubernetes Events on sinks: for conditions that turn bad, and good again.

use api::{ClusterLogSink, ConditionStatus, ConditionType, LogSink, Reason, SinkStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::names::MANAGER;
use crate::snapshot::{ObjectName, SinkId, Version};

/// Writes Events.
pub(super) struct Announcer(Recorder);

impl Announcer {
    pub(super) fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter::from(MANAGER)))
    }

    /// Writes Events about the changes of a status.
    pub(super) async fn announce(
        &self,
        id: &SinkId,
        version: &Version,
        before: &SinkStatus,
        now: &SinkStatus,
    ) {
        let has_failed = before.last_error.is_some();
        for condition in &now.conditions {
            let mut conditions = before.conditions.iter();
            let before = conditions.find(|before| before.type_ == condition.type_);
            let Some(event) = announcement(before, condition, has_failed) else {
                continue;
            };
            let about = reference(id, version);
            if let Err(error) = self.0.publish(&event, &about).await {
                tracing::warn!(sink = %id, %error, "cannot write an event");
            }
        }
    }
}

/// Returns the object that an Event is about.
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

/// Returns the Event for a changed condition, if it needs one. `has_failed` is set if the
/// sink has ever failed to deliver.
pub(super) fn announcement(
    before: Option<&Condition>,
    now: &Condition,
    has_failed: bool,
) -> Option<Event> {
    let is_same =
        |before: &Condition| (&before.status, &before.reason) == (&now.status, &now.reason);
    if before.is_some_and(is_same) {
        return None;
    }
    let turned_good = ConditionStatus::of(now) == ConditionStatus::True;
    let turned_bad = ConditionStatus::of(now) == ConditionStatus::False;
    let was_bad = before.map(ConditionStatus::of) == Some(ConditionStatus::False);
    let (is_bad, is_better) = match ConditionType::from_name(&now.type_)? {
        ConditionType::Accepted => (turned_bad, turned_good && was_bad),
        // A roll under way is not bad.
        ConditionType::Configured => (now.reason == Reason::RolledBack.as_str(), false),
        ConditionType::Delivering => (
            turned_bad && now.reason != Reason::NotAccepted.as_str(),
            // Right after their start, agents have not connected and have not failed.
            turned_good && has_failed,
        ),
        // They repeat the other conditions.
        ConditionType::Ready | ConditionType::Stalled => return None,
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
