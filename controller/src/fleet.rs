//! The agents by the status of their pods, and the nodes that are out of reach.
//!
//! ```text
//! node that shall have no agent     ──> its agent, if it has one, is left alone
//! node that is not ready           ─┐
//! pod that is not created, does not ├─> out of reach: excluded, with the reason
//! start or terminate, or was refused┘
//! any other node's pod              ──> an agent, or one that is ending
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Node, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::names::{AGENT, REVISION};
use crate::placement::{Placement, placement};

/// The number of exits of its container after which an agent is unhealthy. A single one can
/// be an accident.
const CRASHES: i32 = 2;
/// The maximum length, in characters, of a kubelet's message in a status.
const MAX_MESSAGE: usize = 200;
/// The time for which a pod may exist after the end of its grace period.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// All agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// The number of nodes that should have an agent, if the `DaemonSet` exists.
    pub wanted_nodes: Option<usize>,
    /// The agents of nodes that should have one, ordered by node.
    pub agents: Vec<Agent>,
    /// The nodes whose agent is terminating.
    pub ending: Vec<String>,
    /// The nodes without a pod, and since when.
    pub absent: Absent,
    /// The nodes on which agents cannot be replaced or judged at present.
    pub out_of_reach: BTreeMap<String, OutOfReach>,
    /// The agents of nodes that should no longer have one. They may stay, and are not
    /// created again.
    pub leaving: Vec<Agent>,
    /// The number of nodes that have had no working agent for longer than is normal.
    pub missing: usize,
    /// The end of the last outage of the API server, if there was one.
    pub observed_since: Option<Timestamp>,
}

/// The nodes without a pod, and since when that is known.
pub type Absent = BTreeMap<String, Timestamp>;

/// The context in which pods and nodes are judged.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The template of the `DaemonSet`, if there is one.
    pub template: Option<&'a PodSpec>,
    /// The nodes that had no pod at the last evaluation.
    pub absent: &'a Absent,
    /// The end of the last outage of the API server, if there was one. Nothing is late because
    /// of it.
    pub observed_since: Option<Timestamp>,
    /// The time in which a pod must be created and taken by a kubelet.
    pub patience: Duration,
    /// The current time.
    pub now: Timestamp,
}

/// A node that should have an agent, and is excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// The reason.
    pub obstacle: Obstacle,
    /// The node's agent, unless it is terminating.
    pub agent: Option<Agent>,
}

/// The reason why a node is out of reach.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum Obstacle {
    /// The node is not ready, with its condition's reason and message.
    NodeNotReady(String),
    /// The pod is not scheduled, or the kubelet does not take it.
    NotBegun(String),
    /// No pod is created, for example because of a quota or an admission webhook.
    NoPod,
    /// The pod should have terminated.
    NotEnding,
    /// The kubelet has evicted the pod, or does not admit it.
    Failed(String),
}

/// An agent.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Agent {
    /// The pod's name.
    pub pod: String,
    /// The node's name.
    pub node: String,
    /// The agent's revision.
    pub revision: String,
    /// The time at which the pod was created.
    pub created: Option<Timestamp>,
    /// Whether the kubelet has taken the pod.
    pub has_begun: bool,
    /// The reason why the kubelet has failed the pod, if it has.
    pub failed: Option<String>,
    /// The time since which the agent is ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// The time since which the agent is not ready, if its kubelet reports that.
    pub not_ready_since: Option<Timestamp>,
    /// The time since which its node is ready, or the end of the last outage of the API server.
    pub observed_since: Option<Timestamp>,
    /// The pod's address, once it has one.
    pub address: Option<String>,
    /// The number of times that its container has exited.
    pub restarts: i32,
    /// Whether its container has ever run.
    pub has_run: bool,
    /// The problem that keeps it from being ready.
    pub problem: Option<String>,
}

impl Fleet {
    /// Returns the fleet that these pods and nodes make up.
    pub fn new<'a>(
        pods: impl Iterator<Item = &'a Pod>,
        nodes: impl Iterator<Item = &'a Node>,
        view: View<'_>,
    ) -> Self {
        let View {
            template,
            absent,
            observed_since,
            patience,
            now,
        } = view;
        let nodes: BTreeMap<String, &Node> = nodes.map(|node| (node.name_any(), node)).collect();
        let is_wanted = |node: &&Node| {
            template.is_none_or(|template| placement(node, template) == Placement::Wanted)
        };
        let mut fleet = Self {
            observed_since,
            ..Self::default()
        };
        if template.is_some() {
            let wanted = nodes.iter().filter(|(_, node)| is_wanted(node));
            let since = |name: &String| {
                let since = absent.get(name).copied().unwrap_or(now);
                observed_since.map_or(since, |observed| since.max(observed))
            };
            fleet.absent = wanted
                .map(|(name, _)| (name.clone(), since(name)))
                .collect();
            fleet.wanted_nodes = Some(fleet.absent.len());
        }
        for pod in pods.filter(|pod| is_made_by_daemon_set(pod)) {
            // The pod of a node that is gone goes soon.
            if let Some(name) = node_of(pod)
                && let Some(node) = nodes.get(&name)
            {
                if is_wanted(node) {
                    fleet.absent.remove(&name);
                    fleet.add(pod, name, node, view);
                } else {
                    fleet.leaving.extend(Agent::new(pod));
                }
            }
        }
        for (name, since) in &fleet.absent {
            let is_long = lasts(*since, now) >= patience;
            let obstacle = readiness(nodes[name]).err();
            if let Some(obstacle) = obstacle.or(is_long.then_some(Obstacle::NoPod)) {
                let agent = None;
                let out = OutOfReach { obstacle, agent };
                fleet.out_of_reach.insert(name.clone(), out);
            }
        }
        fleet.agents.sort_by(|a, b| a.node.cmp(&b.node));
        fleet.forget_replaced();
        let agents = fleet.agents.iter();
        let unhealthy = agents.filter(|agent| agent.is_unhealthy(patience, now));
        fleet.missing = fleet.out_of_reach.len() + unhealthy.count();
        fleet
    }

    /// Adds the pod of a node that should have one.
    fn add(&mut self, pod: &Pod, name: String, node: &Node, view: View<'_>) {
        let ready = readiness(node);
        let mut agent = Agent::new(pod);
        if let (Some(agent), Ok(since)) = (&mut agent, &ready) {
            agent.observed_since = view.observed_since.max(*since);
        }
        let of_pod = match &agent {
            Some(agent) => agent.not_started(view.patience, view.now),
            None => not_ending(pod, view),
        };
        match (ready.err().or(of_pod), agent) {
            (Some(obstacle), agent) => {
                let out = OutOfReach { obstacle, agent };
                self.out_of_reach.insert(name, out);
            }
            (None, Some(agent)) => self.agents.push(agent),
            (None, None) => self.ending.push(name),
        }
    }

    /// Removes pods that do not terminate from nodes that already have the next one.
    fn forget_replaced(&mut self) {
        let agents = self.agents.iter().map(|agent| agent.node.as_str());
        let with_agent: BTreeSet<&str> = agents.collect();
        self.ending
            .retain(|node| !with_agent.contains(node.as_str()));
        self.out_of_reach.retain(|node, out| {
            out.obstacle != Obstacle::NotEnding || !with_agent.contains(node.as_str())
        });
    }

    /// Returns the number of nodes that can have an agent, once that is known.
    #[must_use]
    pub fn within_reach(&self) -> Option<usize> {
        Some(self.wanted_nodes?.saturating_sub(self.out_of_reach.len()))
    }

    /// Returns the agents that are ready.
    pub fn ready(&self) -> impl Iterator<Item = &Agent> {
        let agents = self.agents.iter();
        agents.filter(|agent| agent.ready_since.is_some())
    }

    /// Returns the agents whose pods do not start or were rejected.
    pub fn not_started(&self) -> impl Iterator<Item = &Agent> {
        let without = self.without_agent();
        without.filter_map(|(_, out)| out.agent.as_ref())
    }

    /// Returns the nodes without an agent, except those that are not ready or whose
    /// previous agent is terminating.
    pub fn without_agent(&self) -> impl Iterator<Item = (&String, &OutOfReach)> {
        let out = self.out_of_reach.iter();
        out.filter(|(_, OutOfReach { obstacle, .. })| match obstacle {
            Obstacle::NotBegun(_) | Obstacle::Failed(_) | Obstacle::NoPod => true,
            Obstacle::NodeNotReady(_) | Obstacle::NotEnding => false,
        })
    }

    /// Returns the revisions of all pods.
    pub fn revisions(&self) -> impl Iterator<Item = &String> {
        let others = self.out_of_reach.values();
        let others = others.filter_map(|out| out.agent.as_ref());
        let agents = self.agents.iter().chain(others).chain(&self.leaving);
        agents.map(|agent| &agent.revision)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeNotReady(why) => write!(f, "the node is not ready ({why})"),
            Self::NotBegun(why) => write!(f, "the pod does not start ({why})"),
            Self::NoPod => f.write_str("the pod is not created"),
            Self::NotEnding => f.write_str("the pod does not terminate"),
            Self::Failed(why) => write!(f, "the pod failed ({why})"),
        }
    }
}

/// Returns since when a node is ready, or why it is not.
pub(crate) fn readiness(node: &Node) -> Result<Option<Timestamp>, Obstacle> {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    match conditions.find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => {
            Ok(ready.last_transition_time.as_ref().map(|time| time.0))
        }
        Some(ready) => {
            let (reason, message) = (ready.reason.as_deref(), ready.message.as_deref());
            Err(Obstacle::NodeNotReady(why(reason, message)))
        }
        None => {
            let why = "never reported by the kubelet";
            Err(Obstacle::NodeNotReady(why.to_owned()))
        }
    }
}

/// Returns whether a pod belongs to the `DaemonSet`, and does not merely have its label.
fn is_made_by_daemon_set(pod: &Pod) -> bool {
    let mut owners = pod.owner_references().iter();
    owners.any(|owner| owner.kind == "DaemonSet" && owner.name == AGENT)
}

/// Returns the node of a pod. A pod of a `DaemonSet` that is not scheduled yet names the
/// only node that it can be scheduled to.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.node_name.is_some() {
        return spec.node_name.clone();
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| &term.match_fields);
    let mut names = fields
        .flatten()
        .filter(|field| field.key == "metadata.name" && field.operator == "In");
    names.next()?.values.as_ref()?.first().cloned()
}

/// Returns an obstacle if a pod should have terminated.
fn not_ending(pod: &Pod, view: View<'_>) -> Option<Obstacle> {
    let end = pod.metadata.deletion_timestamp.as_ref()?.0;
    let since = view.observed_since.map_or(end, |since| since.max(end));
    (lasts(since, view.now) >= END_PATIENCE).then_some(Obstacle::NotEnding)
}

/// Returns the time since `since`.
pub(crate) fn lasts(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).try_into().unwrap_or_default()
}

impl Agent {
    /// Returns the agent of a pod that is not terminating.
    #[must_use]
    pub fn new(pod: &Pod) -> Option<Self> {
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let status = pod.status.as_ref();
        let failed = status
            .filter(|status| status.phase.as_deref() == Some("Failed"))
            .map(|status| why(status.reason.as_deref(), status.message.as_deref()));
        let condition = |type_: &str| {
            let conditions = status.and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.find(|condition| condition.type_ == type_)
        };
        let ready = condition("Ready");
        let since = |status: &str| {
            let ready = ready.filter(|ready| ready.status == status)?;
            Some(ready.last_transition_time.as_ref()?.0)
        };
        let container = status
            .and_then(|status| status.container_statuses.as_ref())
            .and_then(|containers| containers.first());
        let not_scheduled = condition("PodScheduled")
            .filter(|scheduled| scheduled.status == "False")
            .map(|scheduled| why(scheduled.reason.as_deref(), scheduled.message.as_deref()));
        Some(Self {
            pod: pod.name_any(),
            node: node_of(pod)?,
            revision: pod.annotations().get(REVISION).cloned().unwrap_or_default(),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            // A refused pod has a start time as well, but no statuses of containers.
            has_begun: status.is_some_and(|status| status.start_time.is_some())
                && (failed.is_none() || container.is_some()),
            failed,
            ready_since: since("True"),
            not_ready_since: since("False"),
            observed_since: None,
            address: status.and_then(|status| status.pod_ip.clone()),
            restarts: container.map_or(0, |container| container.restart_count),
            has_run: container.is_some_and(has_run),
            problem: container.and_then(problem).or(not_scheduled),
        })
    }

    /// Returns whether its container keeps exiting.
    #[must_use]
    pub const fn is_crashing(&self) -> bool {
        self.ready_since.is_none() && self.restarts >= CRASHES
    }

    /// Returns whether it has not been ready for this time.
    #[must_use]
    pub fn is_late(&self, patience: Duration, now: Timestamp) -> bool {
        let is_long = |since| lasts(since, now) >= patience;
        // A node's clock may be ahead, by seconds or by years.
        let is_plausible = |since: &Timestamp| lasts(now, *since) <= patience;
        let since = self.not_ready_since.filter(is_plausible);
        let observed_since = self.observed_since.filter(is_plausible);
        let since = since.max(observed_since).max(self.created);
        self.ready_since.is_none() && since.is_some_and(is_long)
    }

    /// Returns whether it will not become ready.
    #[must_use]
    pub fn is_unhealthy(&self, patience: Duration, now: Timestamp) -> bool {
        self.is_crashing() || self.is_late(patience, now)
    }

    fn not_started(&self, patience: Duration, now: Timestamp) -> Option<Obstacle> {
        let failed = self.failed.clone().map(Obstacle::Failed);
        let not_begun = || {
            let why = self.problem.as_deref();
            let why = why.unwrap_or("not taken by the kubelet");
            (!self.has_begun && self.is_late(patience, now))
                .then(|| Obstacle::NotBegun(why.to_owned()))
        };
        failed.or_else(not_begun)
    }
}

/// Formats a reason and its message, which may be long.
fn why(reason: Option<&str>, message: Option<&str>) -> String {
    let reason = reason.unwrap_or_default();
    match message {
        Some(message) => {
            let message: String = message.trim().chars().take(MAX_MESSAGE).collect();
            format!("{reason}: {message}")
        }
        None => reason.to_owned(),
    }
}

fn has_run(container: &ContainerStatus) -> bool {
    let states = container.state.iter().chain(&container.last_state);
    let mut states = states.map(|state| state.running.is_some() || state.terminated.is_some());
    states.any(|has_run| has_run)
}

fn problem(container: &ContainerStatus) -> Option<String> {
    let last = container.last_state.as_ref();
    let ended = last.and_then(|state| state.terminated.as_ref());
    let waiting = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref());
    match (ended, waiting) {
        (Some(ended), _) => Some(format!(
            "the container exited with code {} ({})",
            ended.exit_code,
            why(ended.reason.as_deref(), ended.message.as_deref())
        )),
        (None, Some(waiting)) if !is_usual(waiting) => Some(format!(
            "the container does not start ({})",
            why(waiting.reason.as_deref(), waiting.message.as_deref())
        )),
        (None, _) => None,
    }
}

/// Returns whether a container waits for a usual reason, such as its creation.
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
    fn an_agent_has_the_state_of_its_pod() {
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
        assert_eq!((ready.problem, ready.restarts), (None, 0));
    }

    #[test]
    fn an_agent_that_cannot_become_ready_has_a_problem() {
        let waiting =
            |reason: &str| json!({"waiting": {"reason": reason, "message": "m".repeat(1000)}});
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        let creating = agent(&container(&waiting("ContainerCreating"), &json!({}), 0)).unwrap();
        assert_eq!(creating.problem, None);
        let pulling = agent(&container(&waiting("ErrImagePull"), &json!({}), 0)).unwrap();
        let problem = pulling.problem.clone().unwrap();
        assert!(
            problem.starts_with("the container does not start (ErrImagePull: mmm"),
            "{problem}"
        );
        assert!(problem.len() < 300 && !pulling.is_crashing());
        let crashing = agent(&container(&waiting("CrashLoopBackOff"), &ended, 2)).unwrap();
        let problem = crashing.problem.as_deref();
        assert_eq!(problem, Some("the container exited with code 1 (Error)"));
        assert!(crashing.is_crashing());
    }

    #[test]
    fn a_pod_without_a_node_is_not_an_agent() {
        let pod =
            json!({"metadata": {"annotations": {REVISION: "r1"}}, "spec": {"containers": []}});
        assert_eq!(Agent::new(&serde_json::from_value(pod).unwrap()), None);
    }

    const PATIENCE: Duration = Duration::from_secs(180);

    fn fleet(pods: &[serde_json::Value], nodes: &[serde_json::Value], now: &str) -> Fleet {
        let pod = |pod: &serde_json::Value| serde_json::from_value(pod.clone()).unwrap();
        let node = |node: &serde_json::Value| serde_json::from_value(node.clone()).unwrap();
        let pods: Vec<Pod> = pods.iter().map(pod).collect();
        let nodes: Vec<Node> = nodes.iter().map(node).collect();
        let (template, absent) = (PodSpec::default(), Absent::new());
        let view = View {
            template: Some(&template),
            absent: &absent,
            observed_since: None,
            patience: PATIENCE,
            now: now.parse().unwrap(),
        };
        Fleet::new(pods.iter(), nodes.iter(), view)
    }

    fn node(name: &str, ready: &str) -> serde_json::Value {
        json!({"metadata": {"name": name}, "status": {"conditions": [{
            "type": "Ready", "status": ready, "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
        }]}})
    }

    fn pod(node: &str) -> serde_json::Value {
        json!({
            "metadata": {
                "name": format!("agent-{node}"),
                "creationTimestamp": "2026-03-01T12:00:00Z",
                "annotations": {REVISION: "r1"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": AGENT, "uid": "1"},
                ],
            },
            "spec": {"nodeName": node, "containers": []},
            "status": {"startTime": "2026-03-01T12:00:01Z"},
        })
    }

    fn nodes_with_agents(fleet: &Fleet) -> Vec<&str> {
        let agents = fleet.agents.iter();
        agents.map(|agent| agent.node.as_str()).collect()
    }

    #[test]
    fn only_pods_of_the_daemon_set_count() {
        let mut other = pod("a");
        other["metadata"]["ownerReferences"] = json!([]);
        let mut unknown = pod("b");
        unknown["metadata"]["annotations"] = json!({});
        let mut evicted = pod("c");
        evicted["status"] = json!({
            "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource.",
        });
        let nodes = ["a", "b", "c"].map(|name| node(name, "True"));
        // The node "d" is gone.
        let pods = [other, unknown, evicted, pod("d")];
        let fleet = fleet(&pods, &nodes, "2026-03-01T12:00:10Z");
        assert_eq!(nodes_with_agents(&fleet), ["b"]);
        let obstacle = fleet.out_of_reach["c"].obstacle.to_string();
        assert_eq!(
            obstacle,
            "the pod failed (Evicted: The node was low on resource.)"
        );
    }

    #[test]
    fn nodes_that_should_have_no_agent_are_not_counted() {
        let mut drained = node("b", "True");
        drained["spec"] = json!({"taints": [{"key": "drained", "effect": "NoSchedule"}]});
        let nodes = [node("a", "True"), drained];
        let fleet = fleet(&["a", "b"].map(pod), &nodes, "2026-03-01T12:00:10Z");
        assert_eq!(nodes_with_agents(&fleet), ["a"]);
        assert_eq!((fleet.wanted_nodes, fleet.leaving.len()), (Some(1), 1));
        // Its files are needed for as long as it is there.
        assert_eq!(fleet.revisions().count(), 2);
    }

    #[test]
    fn a_node_without_a_pod_is_excluded_after_the_timeout() {
        let nodes = ["a", "b"].map(|name| node(name, "True"));
        let nodes = nodes.map(|node| serde_json::from_value(node).unwrap());
        let pod = serde_json::from_value(pod("a")).unwrap();
        let template = PodSpec::default();
        let mut absent = Absent::new();
        let mut at = |now: &str| {
            let view = View {
                template: Some(&template),
                absent: &absent,
                observed_since: None,
                patience: PATIENCE,
                now: now.parse().unwrap(),
            };
            let fleet = Fleet::new([&pod].into_iter(), nodes.iter(), view);
            absent.clone_from(&fleet.absent);
            fleet
        };
        let first = at("2026-03-01T12:10:00Z");
        assert_eq!((first.absent.len(), first.within_reach()), (1, Some(2)));
        assert_eq!(at("2026-03-01T12:12:59Z").within_reach(), Some(2));
        let late = at("2026-03-01T12:13:00Z");
        assert_eq!(late.within_reach(), Some(1));
        assert_eq!(late.out_of_reach["b"].obstacle, Obstacle::NoPod);
    }

    #[test]
    fn an_agent_that_was_not_ready_for_the_timeout_is_late() {
        let at = |now: &str, node_ready: Option<&str>| {
            let mut pod = pod("a");
            pod["status"]["conditions"] = json!([{
                "type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T13:00:00Z",
            }]);
            let mut node = node("a", "True");
            node["status"]["conditions"][0]["lastTransitionTime"] = json!(node_ready);
            let fleet = fleet(&[pod], &[node], now);
            fleet.agents[0].is_late(PATIENCE, now.parse().unwrap())
        };
        // It was ready for an hour.
        assert!(!at("2026-03-01T13:02:59Z", None) && at("2026-03-01T13:03:00Z", None));
        // Its node was not ready until now.
        let node_ready = Some("2026-03-01T14:00:00Z");
        assert!(!at("2026-03-01T14:02:59Z", node_ready) && at("2026-03-01T14:03:00Z", node_ready));
    }

    #[test]
    fn a_node_that_is_not_ready_is_out_of_reach() {
        let nodes = [
            node("a", "True"),
            node("b", "Unknown"),
            json!({
                "metadata": {"name": "c"}, "status": {},
            }),
        ];
        let pods = ["a", "b", "c"].map(pod);
        let fleet = fleet(&pods, &nodes, "2026-03-01T12:00:10Z");
        assert_eq!(nodes_with_agents(&fleet), ["a"]);
        let out = &fleet.out_of_reach["b"];
        assert_eq!(out.agent.as_ref().unwrap().revision, "r1");
        assert_eq!(
            out.obstacle.to_string(),
            "the node is not ready (NodeStatusUnknown: Kubelet stopped posting node status.)"
        );
        assert!(fleet.out_of_reach.contains_key("c"));
        assert_eq!(fleet.within_reach(), Some(1));
    }

    #[test]
    fn a_pod_that_does_not_terminate_in_time_is_excluded() {
        let mut ending = pod("a");
        // The end of its grace period.
        ending["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:10:30Z");
        let at = |now| fleet(&[ending.clone()], &[node("a", "True")], now);
        let in_time = at("2026-03-01T12:11:00Z");
        assert_eq!((in_time.ending.len(), in_time.within_reach()), (1, Some(1)));
        let late = at("2026-03-01T12:11:30Z");
        assert_eq!((late.ending.len(), late.within_reach()), (0, Some(0)));
        assert_eq!(late.out_of_reach["a"].obstacle, Obstacle::NotEnding);
    }

    #[test]
    fn a_pod_that_does_not_start_in_time_is_excluded() {
        let mut waiting = pod("a");
        waiting["spec"] = json!({
            "containers": [],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["a"]},
                ]}],
            }}},
        });
        waiting["status"] = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/4 nodes are available: 1 Insufficient memory.",
        }]});
        let at = |now| fleet(&[waiting.clone()], &[node("a", "True")], now);
        assert_eq!(at("2026-03-01T12:02:59Z").agents.len(), 1);
        let late = at("2026-03-01T12:03:00Z");
        assert_eq!(late.agents, []);
        assert_eq!(
            late.out_of_reach["a"].obstacle.to_string(),
            "the pod does not start (Unschedulable: 0/4 nodes are available: 1 Insufficient \
             memory.)"
        );
    }

    /// A finalizer keeps a terminated pod, and the next one runs already.
    #[test]
    fn a_terminating_pod_beside_its_successor_does_not_count() {
        let mut old = pod("a");
        old["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:00Z");
        let mut new = pod("a");
        new["metadata"]["name"] = json!("agent-a-2");
        let nodes = ["a", "b"].map(|name| node(name, "True"));
        for pods in [[old.clone(), new.clone()], [new, old]] {
            let fleet = fleet(&pods, &nodes, "2026-03-01T12:02:00Z");
            assert_eq!(nodes_with_agents(&fleet), ["a"]);
            assert_eq!(
                (fleet.within_reach(), fleet.out_of_reach.len()),
                (Some(2), 0)
            );
        }
    }

    /// An agent that has run for hours is not ready for a moment.
    #[test]
    fn a_node_clock_that_is_seconds_ahead_makes_no_agent_late() {
        let mut pod = pod("a");
        pod["status"]["conditions"] = json!([{
            "type": "Ready", "status": "False", "lastTransitionTime": "2026-03-01T16:00:05Z",
        }]);
        let at = |now: &str| {
            let fleet = fleet(&[pod.clone()], &[node("a", "True")], now);
            fleet.agents[0].is_late(PATIENCE, now.parse().unwrap())
        };
        assert!(!at("2026-03-01T16:00:00Z") && at("2026-03-01T16:03:05Z"));
    }

    /// Meanwhile no controller makes pods, and no kubelet reports.
    #[test]
    fn nothing_is_late_because_of_an_outage_of_the_api_server() {
        let mut ending = pod("b");
        ending["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:30Z");
        let pods: [Pod; 2] = [pod("a"), ending].map(|pod| serde_json::from_value(pod).unwrap());
        let nodes = ["a", "b", "c"].map(|name| node(name, "True"));
        let nodes = nodes.map(|node| serde_json::from_value(node).unwrap());
        let template = PodSpec::default();
        let absent = Absent::from([("c".to_owned(), "2026-03-01T12:00:00Z".parse().unwrap())]);
        let late = |now: &str| {
            let view = View {
                template: Some(&template),
                absent: &absent,
                observed_since: Some("2026-03-01T12:20:00Z".parse().unwrap()),
                patience: PATIENCE,
                now: now.parse().unwrap(),
            };
            let fleet = Fleet::new(pods.iter(), nodes.iter(), view);
            let late = fleet.out_of_reach.keys().cloned();
            let unhealthy = fleet.agents.iter();
            let unhealthy = unhealthy.filter(|agent| agent.is_late(PATIENCE, view.now));
            let unhealthy = unhealthy.map(|agent| agent.node.clone());
            late.chain(unhealthy).collect::<Vec<_>>()
        };
        assert_eq!(late("2026-03-01T12:20:59Z"), [""; 0]);
        assert_eq!(late("2026-03-01T12:22:59Z"), ["b"]);
        assert_eq!(late("2026-03-01T12:23:00Z"), ["b", "c", "a"]);
    }

    #[test]
    fn an_agent_is_late_even_if_its_node_clock_is_ahead() {
        let mut pod = pod("a");
        pod["status"]["conditions"] = json!([{
            "type": "Ready", "status": "False", "lastTransitionTime": "2026-03-02T13:00:00Z",
        }]);
        let now = "2026-03-01T16:00:00Z";
        let fleet = fleet(&[pod], &[node("a", "True")], now);
        assert!(fleet.agents[0].is_late(PATIENCE, now.parse().unwrap()));
    }
}
