//! The agents, as their pods' status has them.

use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::names::REVISION;

/// After so many ends of its container an agent is ill. One can be an accident.
const CRASHES: i32 = 2;
/// The most characters of what a kubelet says, which goes into statuses.
const LONGEST: usize = 200;

/// One agent.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Agent {
    /// The pod's name.
    pub pod: String,
    /// Its node.
    pub node: String,
    /// The revision that it has.
    pub revision: String,
    /// Since when it is ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// How often its container has ended.
    pub restarts: i32,
    /// What keeps it from being ready.
    pub trouble: Option<String>,
}

impl Agent {
    /// The agent of a pod that shall stay.
    #[must_use]
    pub fn new(pod: &Pod) -> Option<Self> {
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let ready = conditions.into_iter().flatten().find(|condition| {
            let condition = (condition.type_.as_str(), condition.status.as_str());
            condition == ("Ready", "True")
        });
        let container = status
            .and_then(|status| status.container_statuses.as_ref())
            .and_then(|containers| containers.first());
        Some(Self {
            pod: pod.name_any(),
            node: pod.spec.as_ref()?.node_name.clone()?,
            revision: pod.annotations().get(REVISION)?.clone(),
            ready_since: ready.and_then(|ready| Some(ready.last_transition_time.as_ref()?.0)),
            address: status.and_then(|status| status.pod_ip.clone()),
            restarts: container.map_or(0, |container| container.restart_count),
            trouble: container.and_then(trouble),
        })
    }

    /// Whether it ends again and again.
    #[must_use]
    pub fn is_crashing(&self) -> bool {
        self.ready_since.is_none() && self.restarts >= CRASHES
    }
}

fn trouble(container: &ContainerStatus) -> Option<String> {
    let last = container.last_state.as_ref();
    let ended = last.and_then(|state| state.terminated.as_ref());
    let waiting = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref());
    let why = |reason: &Option<String>, message: &Option<String>| {
        let reason = reason.clone().unwrap_or_default();
        match message {
            Some(message) => {
                let message: String = message.trim().chars().take(LONGEST).collect();
                format!("{reason}: {message}")
            }
            None => reason,
        }
    };
    match (ended, waiting) {
        (Some(ended), _) => Some(format!(
            "its container ended with exit code {} ({})",
            ended.exit_code,
            why(&ended.reason, &ended.message)
        )),
        (None, Some(waiting)) if !is_usual(waiting) => Some(format!(
            "its container does not start ({})",
            why(&waiting.reason, &waiting.message)
        )),
        (None, _) => None,
    }
}

/// What every container waits for once.
fn is_usual(waiting: &ContainerStateWaiting) -> bool {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    matches!(reason, "ContainerCreating" | "PodInitializing")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(status: &serde_json::Value) -> Option<Agent> {
        let pod = json!({
            "metadata": {"name": "agent", "annotations": {REVISION: "r1"}},
            "spec": {"nodeName": "node-a", "containers": []},
            "status": status,
        });
        Agent::new(&serde_json::from_value(pod).unwrap())
    }

    fn container(
        state: &serde_json::Value,
        last: &serde_json::Value,
        restarts: i32,
    ) -> serde_json::Value {
        json!({"containerStatuses": [{
            "name": "fluent-bit", "image": "", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn an_agent_is_what_its_pod_says() {
        let ready = agent(&json!({
            "podIP": "10.0.0.7",
            "conditions": [{
                "type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z",
            }],
        }))
        .unwrap();
        assert_eq!(
            ready.ready_since,
            Some("2026-03-01T12:00:00Z".parse().unwrap())
        );
        assert_eq!(ready.address.as_deref(), Some("10.0.0.7"));
        assert_eq!((ready.trouble, ready.restarts), (None, 0));
    }

    #[test]
    fn what_keeps_one_from_being_ready_is_said() {
        let waiting =
            |reason: &str| json!({"waiting": {"reason": reason, "message": "m".repeat(1000)}});
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        let creating = agent(&container(&waiting("ContainerCreating"), &json!({}), 0)).unwrap();
        assert_eq!(creating.trouble, None);
        let pulling = agent(&container(&waiting("ErrImagePull"), &json!({}), 0)).unwrap();
        let trouble = pulling.trouble.clone().unwrap();
        assert!(
            trouble.starts_with("its container does not start (ErrImagePull: mmm"),
            "{trouble}"
        );
        assert!(trouble.len() < 300 && !pulling.is_crashing());
        let crashing = agent(&container(&waiting("CrashLoopBackOff"), &ended, 2)).unwrap();
        let trouble = crashing.trouble.as_deref();
        assert_eq!(
            trouble,
            Some("its container ended with exit code 1 (Error)")
        );
        assert!(crashing.is_crashing());
    }

    #[test]
    fn one_that_is_not_on_a_node_is_none() {
        let pod =
            json!({"metadata": {"annotations": {REVISION: "r1"}}, "spec": {"containers": []}});
        assert_eq!(Agent::new(&serde_json::from_value(pod).unwrap()), None);
    }
}
