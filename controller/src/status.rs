//! What each sink is told of itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::apply::{MANAGER, Rollout};
use crate::plan::{Plan, Refusal};
use crate::resources::{ClusterLogSink, LogSink, SinkStatus};
use crate::snapshot::{ObjectName, SinkId};
use crate::watch::Watched;

const ACCEPTED: &str = "Accepted";
const CONFIGURED: &str = "Configured";

/// Writes the status of each sink whose status is another one now. One that
/// cannot be written does not keep the others from theirs.
///
/// # Errors
///
/// The first error, after all were tried.
pub async fn write(
    client: &Client,
    watched: &Watched,
    plan: &Plan,
    rollout: Rollout,
) -> kube::Result<()> {
    let mut result = Ok(());
    for Told {
        id,
        generation,
        before,
    } in told(watched)
    {
        // One that came after the plan is the next one's.
        let Some(verdict) = plan.verdicts.get(&id) else {
            continue;
        };
        let status = SinkStatus {
            observed_generation: generation,
            conditions: conditions(
                &before.conditions,
                generation,
                verdict,
                rollout,
                Timestamp::now(),
            ),
        };
        if status != before {
            result = result.and(patch(client, &id, &status).await);
        }
    }
    result
}

/// A sink, and what it was told last.
struct Told {
    id: SinkId,
    generation: Option<i64>,
    before: SinkStatus,
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
            generation: stored.meta().generation,
            before: status.cloned().unwrap_or_default(),
        }
    }
}

async fn patch(client: &Client, id: &SinkId, status: &SinkStatus) -> kube::Result<()> {
    let patch = Patch::Merge(json!({"status": status}));
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    // An object that is none of ours any more is told so as well.
    let patched = match id {
        SinkId::Namespaced(ObjectName { namespace, name }) => {
            let api: Api<DeserializeGuard<LogSink>> = Api::namespaced(client.clone(), namespace);
            api.patch_status(name, &parameters, &patch).await.map(drop)
        }
        SinkId::Cluster(name) => {
            let api: Api<DeserializeGuard<ClusterLogSink>> = Api::all(client.clone());
            api.patch_status(name, &parameters, &patch).await.map(drop)
        }
    };
    match patched {
        // It was deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

/// The conditions, each with the time since when it is so.
fn conditions(
    before: &[Condition],
    generation: Option<i64>,
    verdict: &Result<(), Refusal>,
    rollout: Rollout,
    now: Timestamp,
) -> Vec<Condition> {
    let accepted = match verdict {
        Ok(()) => (
            ACCEPTED,
            true,
            "Accepted",
            "the sink can be configured".to_owned(),
        ),
        Err(refusal) => (
            ACCEPTED,
            false,
            refusal.reason.as_str(),
            refusal.message.clone(),
        ),
    };
    let Rollout {
        ready,
        nodes,
        complete,
    } = rollout;
    let configured = match verdict {
        Err(_) => (
            CONFIGURED,
            false,
            "NotAccepted",
            "no node has the sink".to_owned(),
        ),
        Ok(()) if complete => (
            CONFIGURED,
            true,
            "Complete",
            format!("{ready} of {nodes} nodes have the sink"),
        ),
        Ok(()) => (
            CONFIGURED,
            false,
            "RollingOut",
            format!("{ready} of {nodes} nodes have the sink"),
        ),
    };
    [accepted, configured]
        .into_iter()
        .map(|(type_, is_true, reason, message)| {
            let status = if is_true { "True" } else { "False" };
            let since = before
                .iter()
                .find(|condition| condition.type_ == type_ && condition.status == status)
                .map_or(Time(now), |condition| {
                    condition.last_transition_time.clone()
                });
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let under_way = Rollout {
            ready: 1,
            nodes: 3,
            complete: false,
        };
        let done = Rollout {
            ready: 3,
            nodes: 3,
            complete: true,
        };
        let first = conditions(&[], Some(1), &Ok(()), under_way, at(10));
        let said = |condition: &Condition| {
            let Time(since) = condition.last_transition_time;
            (condition.status.clone(), condition.message.clone(), since)
        };
        let configured = said(&first[1]);
        assert_eq!(
            configured,
            (
                "False".to_owned(),
                "1 of 3 nodes have the sink".to_owned(),
                at(10)
            )
        );
        let second = conditions(&first, Some(1), &Ok(()), done, at(20));
        assert_eq!(said(&second[0]).2, at(10));
        assert_eq!(
            said(&second[1]),
            (
                "True".to_owned(),
                "3 of 3 nodes have the sink".to_owned(),
                at(20)
            )
        );
        let refused = Err(Refusal::new(
            "SecretNotFound",
            "the Secret a/b does not exist",
        ));
        let third = conditions(&second, Some(2), &refused, done, at(30));
        assert_eq!(third[0].reason, "SecretNotFound");
        assert_eq!(said(&third[1]).0, "False");
        assert_eq!(third[1].observed_generation, Some(2));
    }
}
