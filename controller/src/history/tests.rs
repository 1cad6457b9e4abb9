use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

use super::risk::MAX_LOST;
use super::*;
use crate::fleet::{Absent, Fleet, Obstacle, OutOfReach};
use crate::plan::Plan;
use crate::settings::{Settings, Size};
use crate::snapshot::{ObjectName, Snapshot, Stored, Version};

/// The time between two rounds of the controller.
const ROUND: SignedDuration = SignedDuration::from_secs(20);

/// A cluster in virtual time.
struct World {
    snapshot: Snapshot,
    settings: Settings,
    now: Timestamp,
    nodes: BTreeMap<String, Node>,
    /// Agents crash if a namespace's file, or the name of their image, contains this
    /// text.
    poison: &'static str,
    /// The revision of newly created pods.
    template: String,
    /// The image of each revision.
    images: BTreeMap<String, String>,
    /// Whether no pods can be created.
    creates_no_pods: bool,
    /// The nodes without a pod, and since when.
    absent: Absent,
    /// The revisions of created agents, in order.
    deployed: Vec<String>,
    /// Whether deleted pods do not terminate.
    is_stuck: bool,
    /// The nodes whose pod is terminating, and since when.
    terminating: BTreeMap<String, Timestamp>,
    /// The end of the last outage of the API server, if there was one.
    observed_since: Option<Timestamp>,
}

#[derive(Clone, Default)]
struct Node {
    agent: Option<Agent>,
    kind: Kind,
}

/// The behavior of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Kind {
    #[default]
    Healthy,
    /// The kubelet does not respond: pods stay as they are, even pods that are being
    /// deleted.
    Dead,
    /// Every agent crashes on this node.
    Crashing,
    /// Agents crash on this node if [`World::poison`] matches.
    Susceptible,
    /// No pod starts on this node.
    Full,
    /// The kubelet rejects every pod on this node.
    Rejecting,
    /// No pod is created for this node.
    Omitted,
    /// Agents on this node alternate between ready and not ready.
    Flapping,
}

impl World {
    /// Creates a cluster with this many nodes, all of which are susceptible.
    fn with_nodes(nodes: usize, poison: &'static str) -> Self {
        let node = |number| {
            let kind = Kind::Susceptible;
            (format!("node-{number}"), Node { agent: None, kind })
        };
        Self {
            snapshot: Snapshot::default(),
            settings: Settings::default(),
            now: Timestamp::from_second(1_772_366_400).unwrap(),
            nodes: (0..nodes).map(node).collect(),
            poison,
            template: String::new(),
            images: BTreeMap::new(),
            creates_no_pods: false,
            absent: Absent::new(),
            deployed: Vec::new(),
            is_stuck: false,
            terminating: BTreeMap::new(),
            observed_since: None,
        }
    }

    /// Creates a cluster like [`World::with_nodes`], whose agents are healthy without any sink.
    fn settled(nodes: usize, poison: &'static str) -> Self {
        let mut world = Self::with_nodes(nodes, poison);
        world.settle();
        world
    }

    fn put(&mut self, namespace: &str, host: &str) {
        let spec = serde_json::json!({"host": host, "transport": "tcp"});
        let spec = serde_json::from_value(spec).unwrap();
        let name = ObjectName::new(namespace, "sink");
        let version = Version {
            uid: format!("uid-of-{namespace}"),
            generation: None,
            created: None,
        };
        self.snapshot.versions.insert(name.clone().into(), version);
        let stored = Stored::Spec(Box::new(spec));
        self.snapshot.log_sinks.insert(name, stored);
    }

    fn set(&mut self, node: usize, kind: Kind) {
        let node = self.nodes.get_mut(&format!("node-{node}")).unwrap();
        node.kind = kind;
    }

    fn add_node(&mut self) {
        let name = format!("node-{}", self.nodes.len());
        self.nodes.insert(name, Node::default());
        self.create_agents();
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.snapshot, &self.settings)
    }

    fn history(&self) -> &History {
        &self.snapshot.history
    }

    fn fleet(&mut self) -> Fleet {
        let mut fleet = Fleet {
            wanted_nodes: (!self.template.is_empty()).then_some(self.nodes.len()),
            observed_since: self.observed_since,
            ..Fleet::default()
        };
        let patience = self.settings.timing.canary_timeout;
        for (name, Node { agent, kind }) in &self.nodes {
            if let Some(since) = self.terminating.get(name) {
                if lasts(*since, self.now) < Duration::from_secs(90) {
                    fleet.ending.push(name.clone());
                } else {
                    let out = OutOfReach {
                        obstacle: Obstacle::NotEnding,
                        agent: None,
                    };
                    fleet.out_of_reach.insert(name.clone(), out);
                }
                continue;
            }
            let since = self.absent.get(name).copied().unwrap_or(self.now);
            let obstacle = match agent {
                _ if *kind == Kind::Dead => Some(Obstacle::NodeNotReady("dead".to_owned())),
                Some(agent) if agent.failed.is_some() => {
                    Some(Obstacle::Failed("refused".to_owned()))
                }
                Some(agent) if !agent.has_begun && agent.is_late(patience, self.now) => {
                    Some(Obstacle::NotBegun("Unschedulable".to_owned()))
                }
                None if lasts(since, self.now) >= patience => Some(Obstacle::NoPod),
                _ => None,
            };
            if agent.is_none() {
                fleet.absent.insert(name.clone(), since);
            }
            match (obstacle, agent) {
                (Some(obstacle), agent) => {
                    let agent = agent.clone();
                    let out = OutOfReach { obstacle, agent };
                    fleet.out_of_reach.insert(name.clone(), out);
                }
                (None, Some(agent)) => {
                    let mut agent = agent.clone();
                    agent.observed_since = self.observed_since;
                    if *kind == Kind::Flapping {
                        agent.ready_since = Some(self.now - SignedDuration::from_secs(3));
                    }
                    fleet.agents.push(agent);
                }
                (None, None) => {}
            }
        }
        self.absent.clone_from(&fleet.absent);
        fleet
    }

    /// Does the work of the `DaemonSet` controller and the kubelets.
    fn create_agents(&mut self) {
        let files = self.snapshot.revisions.get(&self.template);
        let has_poison = !self.poison.is_empty()
            && (self
                .images
                .get(&self.template)
                .is_some_and(|image| image == self.poison)
                || files.is_some_and(|files| {
                    let mut texts = files.files.values();
                    texts.any(|text| String::from_utf8_lossy(text).contains(self.poison))
                }));
        for (name, Node { agent, kind }) in &mut self.nodes {
            let is_terminating = self.terminating.contains_key(name);
            let is_out = matches!(kind, Kind::Dead | Kind::Omitted) || is_terminating;
            if is_out || self.template.is_empty() || self.creates_no_pods {
                continue;
            }
            if let Some(agent) = agent {
                if !agent.has_begun && !matches!(kind, Kind::Full | Kind::Rejecting) {
                    agent.has_begun = true;
                    agent.has_run = true;
                    agent.ready_since = Some(self.now);
                    agent.failed = None;
                }
                continue;
            }
            let crashes = *kind == Kind::Crashing || (*kind == Kind::Susceptible && has_poison);
            let starts = !matches!(kind, Kind::Full | Kind::Rejecting);
            if self.deployed.last() != Some(&self.template) {
                self.deployed.push(self.template.clone());
            }
            *agent = Some(Agent {
                pod: format!("agent-{name}"),
                node: name.clone(),
                revision: self.template.clone(),
                created: Some(self.now),
                has_begun: starts,
                has_run: starts,
                failed: (*kind == Kind::Rejecting).then(|| "refused".to_owned()),
                ready_since: (starts && !crashes).then_some(self.now),
                restarts: if crashes { 2 } else { 0 },
                problem: match (starts, crashes) {
                    (false, _) => Some("Unschedulable".to_owned()),
                    (true, true) => Some("the container exited with code 1".to_owned()),
                    (true, false) => None,
                },
                ..Agent::default()
            });
        }
    }

    /// Runs rounds of the controller, the `DaemonSet` controller and the agents until
    /// the template is stable. Returns the number of pods that are replaced.
    fn round(&mut self) -> usize {
        self.now += ROUND;
        for _ in 0..3 {
            if let Some(replaced) = self.reconcile() {
                return replaced;
            }
        }
        panic!("the template never becomes stable")
    }

    /// Runs one round. Returns `None` if the template has changed, and no pod is
    /// replaced yet.
    fn reconcile(&mut self) -> Option<usize> {
        let plan = self.plan();
        self.snapshot.fleet = self.fleet();
        self.snapshot.now = self.now;
        let situation = Situation::new(&plan, &self.snapshot, &self.settings);
        let (history, step) = self.snapshot.history.clone().next(&situation);
        self.snapshot.history = history;
        let image = &self.settings.agent.image;
        self.images.insert(plan.revision.clone(), image.clone());
        let of_plan = self.snapshot.revisions.entry(plan.revision);
        of_plan.or_insert(Arc::new(plan.configuration));
        let is_known = self.template == step.revision;
        self.template = step.revision;
        if !is_known {
            self.create_agents();
            return None;
        }
        for (name, Node { agent, kind }) in &mut self.nodes {
            let is_replaced = |agent: &mut Agent| step.replace.contains(&agent.pod);
            assert!(*kind != Kind::Dead || !agent.as_mut().is_some_and(is_replaced));
            if agent.take_if(is_replaced).is_some() && self.is_stuck {
                self.terminating.insert(name.clone(), self.now);
            }
        }
        self.create_agents();
        Some(step.replace.len())
    }

    fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.round();
        }
    }

    /// Runs rounds until nothing changes any longer.
    fn settle(&mut self) {
        for _ in 0..300 {
            let before = self.history().clone();
            let replaced = self.round();
            let is_open = self.history().trial.is_some() || self.history().roll.is_some();
            if replaced == 0 && !is_open && *self.history() == before {
                return;
            }
        }
        panic!("the cluster never settles: {:?}", self.snapshot.history);
    }

    fn has(&self, namespace: &str, host: &str) -> bool {
        let agents = self.nodes.values().filter_map(|node| node.agent.as_ref());
        let mut revisions: Vec<&String> = agents.map(|agent| &agent.revision).collect();
        revisions.dedup();
        let [revision] = *revisions else {
            panic!("agents have {revisions:?}")
        };
        let file = self.snapshot.revisions[revision]
            .files
            .get(&format!("ns-{namespace}.yaml"));
        file.is_some_and(|text| String::from_utf8_lossy(text).contains(host))
    }

    /// Returns the number of agents with a revision.
    fn agents_with(&self, revision: &str) -> usize {
        let agents = self.nodes.values().filter_map(|node| node.agent.as_ref());
        agents.filter(|agent| agent.revision == revision).count()
    }

    /// Ends an outage: the containers of all agents start.
    fn start_containers(&mut self) {
        for node in self.nodes.values_mut() {
            let agent = node.agent.as_mut().unwrap();
            agent.problem = None;
            agent.has_run = true;
            agent.ready_since = agent.ready_since.or(Some(self.now));
        }
    }

    /// Lets time pass during which the API server does not answer.
    fn lose_api_server(&mut self, minutes: i64) {
        self.now += SignedDuration::from_mins(minutes);
        self.observed_since = Some(self.now);
        self.absent.clear();
    }

    /// Returns the number of nodes with an agent's pod.
    fn pods(&self) -> usize {
        let nodes = self.nodes.values();
        nodes.filter(|node| node.agent.is_some()).count()
    }

    /// Returns the number of ready agents.
    fn ready(&self) -> usize {
        let agents = self.nodes.values().filter_map(|node| node.agent.as_ref());
        agents.filter(|agent| agent.ready_since.is_some()).count()
    }

    fn good(&self) -> Option<String> {
        let good = self.history().good.as_ref();
        good.map(|good| good.revision.clone())
    }
}

mod api_server;
mod holding;
mod nodes;
mod outages;
mod rollout;
