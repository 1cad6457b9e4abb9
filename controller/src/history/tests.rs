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
        self.snapshot.lanes = plan.lanes.clone();
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

#[test]
fn a_change_is_tried_on_one_node_first() {
    let mut world = World::settled(40, "");
    assert_eq!(world.good(), Some(world.plan().revision));
    let before = world.plan().revision;
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    assert_eq!(world.round(), 1);
    assert_eq!(world.agents_with(&revision), 1);
    // Not ready for long enough.
    for node in world.nodes.values_mut() {
        let agent = node.agent.as_mut().unwrap();
        if agent.revision == revision {
            agent.ready_since = Some(world.now + SignedDuration::from_secs(15));
        }
    }
    assert_eq!(world.round(), 0);
    // A node that joins during the trial gets the good revision.
    world.add_node();
    assert_eq!(
        (world.agents_with(&revision), world.agents_with(&before)),
        (1, 40)
    );
    // 5 percent of 41.
    assert_eq!(world.round(), 3);
    // A node that joins during the roll gets the new revision.
    world.add_node();
    assert_eq!(world.agents_with(&revision), 5);
    world.settle();
    assert_eq!(world.agents_with(&revision), 42);
    assert_eq!(world.good(), Some(revision));
}

#[test]
fn only_the_file_that_breaks_agents_is_held() {
    let mut world = World::settled(1, "bad.example.com");
    world.put("shop", "old.example.com");
    world.settle();
    // One sink that changes and many new ones, all at the same time.
    world.put("shop", "bad.example.com");
    for number in 0..8 {
        world.put(&format!("team-{number}"), "good.example.com");
    }
    world.settle();
    for number in 0..8 {
        assert!(world.has(&format!("team-{number}"), "good.example.com"));
    }
    assert!(world.has("shop", "old.example.com"));
    let plan = world.plan();
    let held: Vec<_> = plan.held.iter().collect();
    let (file, HoldReason { why, is_suspect }) = held[0];
    assert_eq!((held.len(), file.as_str()), (1, "ns-shop.yaml"));
    assert!(!is_suspect);
    assert!(
        why.contains("node-0") && why.contains("exited with code 1"),
        "{why}"
    );
    // Bisection of nine: bounded by the logarithm, and each half was tried once.
    let tried = world.deployed.len();
    assert!(tried <= 20, "{tried} revisions");

    // Changes of other namespaces continue.
    world.put("later", "good.example.com");
    world.settle();
    assert!(world.has("later", "good.example.com") && !world.has("shop", "bad.example.com"));
    // The failed file is tried again once it changes.
    world.put("shop", "new.example.com");
    world.settle();
    assert!(world.has("shop", "new.example.com"));
    assert!(world.plan().held.is_empty());
}

#[test]
fn a_new_sink_that_breaks_agents_is_left_out() {
    let mut world = World::settled(1, "bad.example.com");
    world.put("shop", "bad.example.com");
    world.settle();
    assert!(!world.has("shop", "bad.example.com"));
    let plan = world.plan();
    assert_eq!(plan.held.len(), 1);
    // Without an output, its input is not rendered either.
    assert!(!plan.configuration.files.contains_key("lane-0.yaml"));
}

#[test]
fn a_broken_image_is_rolled_back() {
    let mut world = World::settled(5, "broken-image");
    world.put("shop", "a.example.com");
    world.settle();
    let before = world.good().unwrap();
    world.settings.agent.image = "broken-image".to_owned();
    world.round();
    let broken = world.plan().revision;
    assert_eq!(world.agents_with(&broken), 1);
    world.settle();
    assert_eq!(world.agents_with(&before), 5);
    assert!(world.plan().held.is_empty());
    assert_eq!(world.history().failed.as_ref().unwrap().revision, broken);

    world.settings.agent.image = "fixed-image".to_owned();
    world.settle();
    assert_eq!(world.good(), Some(world.plan().revision));
}

#[test]
fn the_first_revision_cannot_be_rolled_back() {
    let mut world = World::with_nodes(3, "syslog-sink-agent");
    for _ in 0..30 {
        assert_eq!(world.round(), 0);
    }
    assert_eq!(world.deployed, [world.plan().revision]);
    assert_eq!(world.history().failed, None);
}

#[test]
fn a_cluster_without_nodes_fails_nothing() {
    let mut world = World::with_nodes(0, "");
    world.put("shop", "a.example.com");
    world.rounds(1000);
    assert_eq!(world.history().failed, None);
    world.add_node();
    world.settle();
    assert!(world.has("shop", "a.example.com"));
}

#[test]
fn a_revision_that_never_becomes_ready_is_rolled_back() {
    let mut world = World::settled(3, "");
    let before = world.good().unwrap();
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.round();
    for node in world.nodes.values_mut() {
        let agent = node.agent.as_mut().unwrap();
        if agent.revision == revision {
            agent.ready_since = None;
            agent.problem = Some("the container does not start (ErrImagePull)".to_owned());
        }
    }
    world.rounds(8);
    assert_eq!(world.agents_with(&revision), 1);
    world.rounds(2);
    assert_eq!(world.agents_with(&before), 3);
    let failed = world.history().failed.as_ref().unwrap();
    assert!(failed.setback.why.contains("ErrImagePull"));
}

#[test]
fn continuous_changes_still_reach_all_nodes() {
    let mut world = World::settled(2, "");
    let mut seen = BTreeSet::new();
    for number in 0..40 {
        world.put("shop", &format!("{number}.example.com"));
        world.round();
        seen.extend(world.good());
    }
    assert!(
        seen.len() >= 5,
        "{} of 40 changes were rolled out",
        seen.len()
    );
}

#[test]
fn a_running_roll_is_finished_first() {
    let mut world = World::settled(5, "");
    world.put("shop", "a.example.com");
    let first = world.plan().revision;
    world.rounds(2);
    assert_eq!(world.agents_with(&first), 2);
    // Another change, while nodes still have the previous revision.
    world.put("shop", "b.example.com");
    let second = world.plan().revision;
    world.rounds(3);
    assert_eq!(world.agents_with(&first), 5);
    world.round();
    assert_eq!(
        (world.agents_with(&first), world.agents_with(&second)),
        (4, 1)
    );
}

/// The agent does not become ready, and is not unhealthy either.
#[test]
fn a_roll_that_times_out_lets_the_next_trial_start() {
    let mut world = World::settled(5, "");
    world.put("shop", "a.example.com");
    let first = world.plan().revision;
    world.rounds(2);
    let slow = |world: &mut World| {
        let now = world.now;
        for agent in world
            .nodes
            .values_mut()
            .filter_map(|node| node.agent.as_mut())
        {
            if agent.revision == first && agent.created == Some(now) {
                agent.ready_since = None;
            }
        }
    };
    slow(&mut world);
    world.put("shop", "b.example.com");
    let second = world.plan().revision;
    world.rounds(5);
    assert_eq!(
        (world.agents_with(&first), world.agents_with(&second)),
        (2, 0)
    );
    world.rounds(1);
    assert_eq!(world.agents_with(&second), 1);
}

#[test]
fn without_a_history_the_revision_of_healthy_agents_is_good() {
    let mut world = World::settled(2, "bad.example.com");
    world.put("shop", "a.example.com");
    world.settle();
    let before = world.good().unwrap();
    // Somebody deletes the ConfigMap.
    world.snapshot.history = History::default();
    world.put("shop", "bad.example.com");
    world.settle();
    assert_eq!(world.good(), Some(before));
}

#[test]
fn the_first_sinks_do_not_wait_for_the_empty_revision() {
    let mut world = World::with_nodes(2, "");
    world.round();
    // The agents of the revision without sinks became ready a moment ago.
    world.put("shop", "a.example.com");
    let first = world.plan().revision;
    world.round();
    assert_eq!(world.agents_with(&first), 1);
}

#[test]
fn only_the_first_sink_that_breaks_agents_is_held() {
    let mut world = World::with_nodes(3, "bad.example.com");
    world.round();
    world.put("shop", "bad.example.com");
    world.put("bank", "good.example.com");
    world.settle();
    assert!(world.has("bank", "good.example.com") && !world.has("shop", "bad.example.com"));
}

#[test]
fn a_deleted_sink_does_not_come_back() {
    let mut world = World::settled(1, "bad.example.com");
    world.put("shop", "bad.example.com");
    world.round();
    let gone = world.good().unwrap();
    world.snapshot.revisions.remove(&gone);
    world.rounds(10);
    assert_eq!(world.agents_with(&world.plan().revision), 1);
}

#[test]
fn dead_nodes_do_not_block_a_roll() {
    // As many as are replaced at a time, and more.
    for dead in [1, 3] {
        let mut world = World::settled(4, "");
        (0..dead).for_each(|node| world.set(node, Kind::Dead));
        for host in ["a.example.com", "b.example.com"] {
            world.put("shop", host);
            let revision = world.plan().revision;
            world.rounds(10);
            assert_eq!(world.agents_with(&revision), 4 - dead, "{dead} are dead");
        }
        // The nodes come back with the revision that they had.
        (0..dead).for_each(|node| world.set(node, Kind::Healthy));
        world.settle();
        assert!(world.has("shop", "b.example.com"));
    }
}

#[test]
fn a_canary_node_that_dies_fails_no_revision() {
    let mut world = World::settled(4, "");
    world.put("shop", "a.example.com");
    world.round();
    let tried = world.history().trial.as_ref().unwrap().node.clone();
    let (tried, _) = tried.unwrap();
    let node = world.nodes.get_mut(&tried).unwrap();
    node.kind = Kind::Dead;
    node.agent.as_mut().unwrap().ready_since = None;
    let revision = world.plan().revision;
    world.rounds(20);
    assert_eq!(world.agents_with(&revision), 4);
    assert_eq!(world.history().failed, None);
}

#[test]
fn a_node_that_was_unhealthy_before_fails_no_revision() {
    let mut world = World::settled(4, "");
    world.set(2, Kind::Crashing);
    let node = world.nodes.get_mut("node-2").unwrap();
    node.agent = None;
    world.create_agents();
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(20);
    assert_eq!(world.agents_with(&revision), 4);
    assert_eq!(world.history().failed, None);
    // The node does not keep the roll open either.
    assert_eq!(world.good(), Some(revision));
}

#[test]
fn a_node_that_becomes_unhealthy_during_the_roll_is_detected() {
    let mut world = World::settled(4, "");
    world.put("shop", "a.example.com");
    world.put("bank", "b.example.com");
    world.rounds(2);
    assert!(world.history().roll.is_some());
    let before = world.good().unwrap();
    let mut nodes = world.nodes.values_mut();
    // The next agent of this node will crash.
    let last = nodes.rfind(|node| node.agent.as_ref().unwrap().revision == before);
    last.unwrap().kind = Kind::Crashing;
    world.rounds(60);
    assert!(world.plan().held.is_empty());
    let revision = world.plan().revision;
    assert_eq!(world.agents_with(&revision), 4, "{:?}", world.history());
}

/// A name whose hash is the previous one, after `helm rollback` for example.
#[test]
fn a_previous_revision_is_rolled_out_gradually() {
    let mut world = World::settled(40, "");
    world.put("shop", "a.example.com");
    world.settle();
    let before = world.good().unwrap();
    world.put("shop", "b.example.com");
    let new = world.plan().revision;
    world.rounds(6);
    assert!(world.agents_with(&new) > 5 && world.agents_with(&before) > 5);
    world.put("shop", "a.example.com");
    for _ in 0..10 {
        let replaced = world.round();
        assert!(replaced <= 2, "{replaced} at once");
        assert_eq!(world.good().as_ref(), Some(&before));
    }
    world.settle();
    assert_eq!(world.agents_with(&before), 40);
}

/// An image that cannot be pulled, while tenants change their sinks all the time.
#[test]
fn a_trial_that_does_not_finish_costs_one_node() {
    let mut world = World::settled(10, "");
    for number in 0..60 {
        world.put("shop", &format!("{number}.example.com"));
        world.round();
        let good = world.good().unwrap();
        let mut unhealthy = 0;
        for agent in world
            .nodes
            .values_mut()
            .filter_map(|node| node.agent.as_mut())
        {
            if agent.revision != good {
                agent.ready_since = None;
                unhealthy += 1;
            }
        }
        assert!(unhealthy <= 1, "{unhealthy} agents");
    }
}

/// Changes arrive faster than any pod is replaced.
#[test]
fn changes_every_few_seconds_still_reach_all_nodes() {
    let mut world = World::settled(3, "");
    let mut seen = BTreeSet::new();
    for number in 0..400 {
        world.put("shop", &format!("{number}.example.com"));
        world.now += SignedDuration::from_secs(3);
        world.reconcile();
        seen.extend(world.good());
    }
    assert!(seen.len() >= 3, "{} were rolled out", seen.len());
}

/// Because of a quota or an admission webhook, for example.
#[test]
fn pods_that_are_not_created_cost_one_node() {
    let mut world = World::settled(10, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.creates_no_pods = true;
    for _ in 0..20 {
        world.round();
        assert!(world.pods() >= 9);
    }
    let failed = world.history().failed.clone().unwrap();
    assert!(
        failed.setback.why.contains("the pod is not created"),
        "{}",
        failed.setback.why
    );
    assert!(world.plan().held.is_empty());
    world.creates_no_pods = false;
    world.rounds(120);
    assert_eq!(world.agents_with(&revision), 10);
}

#[test]
fn nodes_that_were_full_before_fail_no_revision() {
    let mut world = World::settled(10, "");
    for number in 0..4 {
        world.set(number, Kind::Full);
        world
            .nodes
            .get_mut(&format!("node-{number}"))
            .unwrap()
            .agent = None;
    }
    world.rounds(12);
    assert_eq!(world.fleet().not_started().count(), 4);
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(60);
    assert_eq!(world.history().failed, None);
    assert_eq!(world.good(), Some(revision.clone()));
    assert_eq!(world.agents_with(&revision), 10);
}

/// Because of a different CPU architecture, for example.
#[test]
fn a_revision_that_breaks_some_nodes_is_rolled_back_on_all() {
    let mut world = World::settled(40, "bad.example.com");
    for number in 0..40 {
        let is_other = number >= 30;
        world.set(
            number,
            if is_other {
                Kind::Susceptible
            } else {
                Kind::Healthy
            },
        );
    }
    let before = world.good().unwrap();
    world.put("shop", "bad.example.com");
    let revision = world.plan().revision;
    let mut most = 0;
    for round in 0..120 {
        if round == 8 {
            // The change of another namespace does not make the revision good.
            world.put("bank", "good.example.com");
        }
        world.round();
        let unhealthy = world.nodes.values().filter_map(|node| node.agent.as_ref());
        let unhealthy = unhealthy
            .filter(|agent| agent.ready_since.is_none())
            .count();
        most = most.max(unhealthy);
    }
    assert!(
        (1..=2).contains(&most),
        "{most} agents crashed at the same time"
    );
    assert_eq!(
        (world.agents_with(&revision), world.agents_with(&before)),
        (0, 0)
    );
    let plan = world.plan();
    assert_eq!(plan.held.keys().collect::<Vec<_>>(), ["ns-shop.yaml"]);
    assert_eq!(world.agents_with(&plan.revision), 40);
    assert!(world.has("bank", "good.example.com"));
    // The revision is retried much later: the nodes may have been the reason.
    world.rounds(20 * 60);
    assert!(world.history().held["ns-shop.yaml"].setback.times > 1);
}

/// Everything that is remembered is stored in one object.
#[test]
fn a_failure_with_thousands_of_changes_is_stored_without_names() {
    let mut world = World::settled(2, "bad.example.com");
    world.settings.max_lanes = 1;
    for number in 0..=MAX_HELD {
        world.put(&format!("team-{number}"), "bad.example.com");
    }
    let revision = world.plan().revision;
    world.rounds(5);
    let history = world.history();
    assert_eq!(history.failed.as_ref().unwrap().revision, revision);
    assert!(serde_json::to_string(history).unwrap().len() < 10_000);
    assert_eq!(world.agents_with(&revision), 0);
}

#[test]
fn a_pod_that_does_not_start_lets_another_node_be_tried() {
    let mut world = World::settled(4, "");
    world.set(0, Kind::Full);
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(30);
    assert_eq!(world.agents_with(&revision), 4);
    assert_eq!(world.history().failed, None);
}

#[test]
fn pods_that_start_nowhere_are_rolled_back_and_hold_no_sink() {
    let mut world = World::settled(10, "");
    (0..10).for_each(|node| world.set(node, Kind::Full));
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    let mut most = 0;
    for _ in 0..60 {
        world.round();
        most = most.max(world.agents_with(&revision));
    }
    assert_eq!(most, MAX_LOST);
    let failed = world.history().failed.clone().unwrap();
    assert!(
        failed.setback.why.contains("Unschedulable"),
        "{}",
        failed.setback.why
    );
    assert!(world.plan().held.is_empty());
    // The nodes have room later.
    (0..10).for_each(|node| world.set(node, Kind::Healthy));
    world.rounds(120);
    assert_eq!(world.agents_with(&revision), 10);
}

/// An image that cannot be pulled, for example: tenants' files are not the reason.
#[test]
fn a_failed_template_is_not_retried_with_every_change() {
    let mut world = World::settled(5, "broken-image");
    world.settings.agent.image = "broken-image".to_owned();
    world.settle();
    let tried = world.deployed.len();
    for number in 0..10 {
        world.put("shop", &format!("{number}.example.com"));
        world.round();
    }
    assert_eq!(world.deployed.len(), tried);
    assert!(world.plan().held.is_empty());
    // With a new template, the changes made meanwhile follow.
    world.settings.agent.image = "fixed-image".to_owned();
    world.settle();
    assert!(world.has("shop", "9.example.com"));
}

#[test]
fn a_held_file_does_not_block_a_template() {
    let mut world = World::settled(5, "bad.example.com");
    world.put("shop", "bad.example.com");
    world.settle();
    assert_eq!(world.plan().held.len(), 1);
    world.settings.agent.image = "new-image".to_owned();
    // The new template may be what makes agents accept the file.
    world.settle();
    let good = world.history().good.clone().unwrap();
    assert_eq!(good.template, world.plan().template);
    assert_eq!(world.plan().held.len(), 1);

    world.settings.agent.image = "newer-image".to_owned();
    world.poison = "";
    world.settle();
    assert!(world.has("shop", "bad.example.com"));
}

#[test]
fn a_failed_file_is_retried_with_backoff() {
    let mut world = World::settled(1, "bad.example.com");
    world.put("shop", "bad.example.com");
    let mut tried = Vec::new();
    while tried.len() < 6 {
        let before = world.history().failed.clone();
        world.round();
        if world.history().failed != before {
            tried.push(world.now);
        }
    }
    let waits = tried.windows(2).map(|pair| lasts(pair[0], pair[1]));
    let minutes: Vec<u64> = waits.map(|wait| wait.as_secs() / 300 * 5).collect();
    assert_eq!(minutes, [15, 60, 240, 360, 360]);
}

/// The node's clock is minutes behind.
#[test]
fn an_agent_is_ready_no_longer_than_it_exists() {
    let mut world = World::settled(3, "");
    world.put("shop", "a.example.com");
    world.round();
    let revision = world.plan().revision;
    for _ in 0..3 {
        for node in world.nodes.values_mut() {
            let agent = node.agent.as_mut().unwrap();
            agent.ready_since = agent.created.map(|at| at - SignedDuration::from_mins(5));
        }
        world.now += SignedDuration::from_secs(1);
        world.reconcile();
        assert_eq!(world.agents_with(&revision), 1);
    }
}

/// All agents are unhealthy with the good revision, after an upgrade of the nodes for
/// example, and the operator's first attempt to fix that fails.
#[test]
fn when_all_agents_are_unhealthy_each_fix_is_tried() {
    let mut world = World::settled(3, "broken");
    for node in world.nodes.values_mut() {
        node.kind = Kind::Crashing;
        node.agent = None;
    }
    world.create_agents();
    world.settings.agent.image = "still-broken".to_owned();
    world.rounds(30);
    (0..3).for_each(|node| world.set(node, Kind::Healthy));
    world.settings.agent.image = "fixed".to_owned();
    let fixed = world.plan().revision;
    world.rounds(30);
    assert_eq!(world.agents_with(&fixed), 3, "{:?}", world.history());
}

#[test]
fn a_node_with_an_unhealthy_agent_is_no_canary() {
    let mut world = World::settled(4, "");
    world.set(0, Kind::Crashing);
    world.nodes.get_mut("node-0").unwrap().agent = None;
    world.create_agents();
    world.put("shop", "a.example.com");
    // The agent is unhealthy in the first round, and happens to be ready in the second
    // one.
    let (plan, unhealthy) = (world.plan(), "node-0".to_owned());
    world.reconcile();
    let agent = world.nodes.get_mut("node-0").unwrap().agent.as_mut();
    agent.unwrap().ready_since = Some(world.now);
    world.reconcile();
    let trial = world.history().trial.as_ref().unwrap();
    assert!(
        world.history().unhealthy.contains(&unhealthy)
            && trial.node.as_ref().unwrap().0 != unhealthy
    );
    world.rounds(20);
    assert_eq!(world.agents_with(&plan.revision), 4);
}

#[test]
fn a_canary_that_does_not_stay_ready_fails_the_trial() {
    let mut world = World::settled(4, "");
    (0..4).for_each(|node| world.set(node, Kind::Flapping));
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(26);
    assert_eq!(world.agents_with(&revision), 1);
    world.rounds(4);
    assert_eq!(world.agents_with(&revision), 0);
    let why = world.history().held["ns-shop.yaml"].setback.why.clone();
    assert!(why.contains("does not stay ready"), "{why}");
}

/// Tenants keep changing their sinks meanwhile.
#[test]
fn while_no_pod_can_be_created_no_change_costs_another_agent() {
    let mut world = World::settled(10, "");
    world.creates_no_pods = true;
    for number in 0..1000 {
        world.put("shop", &format!("{number}.example.com"));
        world.round();
    }
    assert!(world.pods() >= 9);
    world.creates_no_pods = false;
    world.rounds(100);
    assert!(world.has("shop", "999.example.com"));
}

/// Because an admission webhook does not respond, for example.
#[test]
fn a_roll_stops_when_pods_are_no_longer_created() {
    let mut world = World::settled(100, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    while world.agents_with(&revision) < 20 {
        world.round();
    }
    world.creates_no_pods = true;
    world.rounds(300);
    let lost = 100 - world.pods();
    assert!((1..=5).contains(&lost), "{lost} agents are lost");
    assert_ne!(world.good(), Some(revision.clone()));
    let why = &world.history().failed.as_ref().unwrap().setback.why;
    assert!(why.contains("the pod is not created"), "{why}");
    world.creates_no_pods = false;
    world.rounds(300);
    assert_eq!(world.agents_with(&revision), 100);
}

/// The node has been full for weeks, and for a moment no pod can be created at all.
#[test]
fn a_node_that_was_full_before_does_not_block_the_others() {
    let mut world = World::settled(10, "");
    world.set(5, Kind::Full);
    world.nodes.get_mut("node-5").unwrap().agent = None;
    world.rounds(20);
    world.creates_no_pods = true;
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(12);
    assert!(world.history().failed.is_some());
    world.creates_no_pods = false;
    world.rounds(100);
    assert_eq!(world.agents_with(&revision), 10);
}

#[test]
fn without_any_agent_the_wanted_revision_is_tried() {
    let mut world = World::settled(1, "");
    world.set(0, Kind::Full);
    world.nodes.get_mut("node-0").unwrap().agent = None;
    world.rounds(20);
    world.settings.agent.image = "smaller".to_owned();
    let revision = world.plan().revision;
    world.rounds(20);
    assert_eq!(world.agents_with(&revision), 1);
    world.set(0, Kind::Healthy);
    world.settle();
    assert_eq!(world.good(), Some(revision));
}

/// A change that arrives while a broken one is rolled out.
#[test]
fn the_next_trial_excludes_the_failed_change() {
    let mut world = World::settled(40, "bad.example.com");
    let is_early = |node: &usize| *node == 0;
    (0..40)
        .filter(is_early)
        .for_each(|node| world.set(node, Kind::Healthy));
    world.put("shop", "bad.example.com");
    world.rounds(2);
    assert!(world.history().roll.is_some());
    world.put("bank", "good.example.com");
    world.settle();
    assert!(world.has("bank", "good.example.com"));
    assert_eq!(
        world.plan().held.keys().collect::<Vec<_>>(),
        ["ns-shop.yaml"]
    );
    let has = |revision: &String, host: &str| {
        let mut texts = world.snapshot.revisions[revision].files.values();
        texts.any(|text| String::from_utf8_lossy(text).contains(host))
    };
    let has_both =
        |revision: &&String| has(revision, "bad.example.com") && has(revision, "good.example.com");
    assert_eq!(world.deployed.iter().find(has_both), None);
}

/// The owner has fixed the sink, but now an image is broken.
#[test]
fn a_sink_that_waits_for_a_template_is_not_reported_as_failed() {
    let mut world = World::settled(5, "bad.example.com");
    world.put("shop", "bad.example.com");
    world.put("bank", "bad.example.com");
    world.settle();
    world.put("shop", "good.example.com");
    world.settle();
    assert!(!world.history().held.contains_key("ns-shop.yaml"));
    world.settings.agent.image = "another".to_owned();
    world.put("bank", "good.example.com");
    let held = &world.plan().held["ns-bank.yaml"];
    assert!(held.is_suspect);
}

/// A good revision has nothing to wait for.
#[test]
fn a_failed_template_blocks_nothing_once_it_is_replaced() {
    let mut world = World::settled(10, "");
    let before = world.snapshot.log_sinks.clone();
    world.creates_no_pods = true;
    world.put("shop", "a.example.com");
    world.rounds(12);
    let blocks = |world: &World| {
        let Plan {
            revision, template, ..
        } = world.plan();
        world.history().blocks(&revision, &template).is_some()
    };
    assert!(blocks(&world));
    world.snapshot.log_sinks = before;
    world.creates_no_pods = false;
    world.settle();
    assert!(!blocks(&world));
}

/// The scheduler is down, for example.
#[test]
fn while_no_pod_starts_no_change_costs_more_than_a_few_agents() {
    for kind in [Kind::Full, Kind::Rejecting] {
        let mut world = World::settled(20, "");
        (0..20).for_each(|node| world.set(node, kind));
        for number in 0..1000 {
            world.put("shop", &format!("{number}.example.com"));
            world.round();
        }
        let ready = world.ready();
        assert!(
            ready >= 20 - MAX_LOST,
            "{ready} {kind:?} {:?}",
            world.history()
        );
        assert!(world.plan().held.is_empty());
        (0..20).for_each(|node| world.set(node, Kind::Healthy));
        world.rounds(120);
        assert!(world.has("shop", "999.example.com"));
    }
}

/// The new pods do not fit on the nodes any longer.
#[test]
fn pods_that_kubelets_reject_stop_the_roll() {
    let mut world = World::settled(200, "");
    (100..140).for_each(|node| world.set(node, Kind::Rejecting));
    world.settings.agent.priority_class_name = Some("other".to_owned());
    world.settle();
    let lost = 200 - world.ready();
    assert!((MAX_LOST..=10).contains(&lost), "{lost} agents are lost");
    let failed = world.history().failed.as_ref().unwrap();
    assert!(failed.setback.why.contains("the pod failed"));
}

/// A new version of the controller renders the same sinks with different text.
#[test]
fn a_held_file_that_is_rendered_differently_does_not_block_a_template() {
    let mut world = World::settled(5, "bad.example.com");
    world.put("shop", "bad.example.com");
    world.settle();
    world.settings.agent.image = "new-image".to_owned();
    world.settings.queues.max_per_node = Size(30_000_000_000);
    world.settle();
    let good = world.history().good.clone().unwrap();
    assert_eq!(good.template, world.plan().template);
}

#[test]
fn changes_of_others_do_not_shorten_the_backoff() {
    let mut world = World::settled(1, "bad.example.com");
    world.put("shop", "bad.example.com");
    let mut tried = BTreeSet::new();
    for number in 0..(8 * 180) {
        if number % 6 == 0 {
            world.put("bank", &format!("{number}.example.com"));
        }
        world.round();
        let held = world.history().held.get("ns-shop.yaml");
        tried.extend(held.map(|held| held.setback.since));
    }
    // After 15 minutes, and after 1, 4 and 6 hours.
    assert!((2..=5).contains(&tried.len()), "{tried:?}");
}

/// An autoscaler has removed nodes meanwhile.
#[test]
fn the_last_agents_of_a_roll_are_watched_too() {
    let mut world = World::settled(40, "bad.example.com");
    let is_last = |node: &usize| (7..10).contains(node);
    (0..40)
        .filter(|node| !is_last(node))
        .for_each(|node| world.set(node, Kind::Healthy));
    world.put("shop", "bad.example.com");
    let revision = world.plan().revision;
    while world.agents_with(&revision) < 36 {
        world.round();
    }
    (10..30).for_each(|node| {
        world.nodes.remove(&format!("node-{node}"));
    });
    // The agents crash only a minute after they became ready.
    let mut is_rolled_back = false;
    for _ in 0..20 {
        let ready = world.now;
        world.round();
        let now = world.now;
        for node in world.nodes.values_mut() {
            let agent = node.agent.as_mut().unwrap();
            if node.kind == Kind::Susceptible && agent.revision == revision {
                let is_early = lasts(agent.created.unwrap(), now) < Duration::from_secs(60);
                agent.ready_since = is_early.then_some(ready);
                agent.restarts = if is_early { 0 } else { 2 };
            }
        }
        is_rolled_back |= world.history().failed.is_some();
    }
    assert!(is_rolled_back);
}

/// Because of a quota that is too small by one pod, for example.
#[test]
fn a_node_without_a_pod_does_not_keep_a_roll_open() {
    let mut world = World::settled(20, "");
    world.set(7, Kind::Dead);
    world.nodes.get_mut("node-7").unwrap().agent = None;
    world.rounds(12);
    // The kubelet is healthy, but the pod is not created.
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(60);
    assert_eq!(
        (world.agents_with(&revision), world.good()),
        (19, Some(revision))
    );
}

/// The Secrets of the good revision were deleted, so there is nothing to roll back to.
#[test]
fn a_failing_revision_stops_even_without_a_rollback_target() {
    let mut world = World::settled(40, "bad.example.com");
    let good = world.good().unwrap();
    world.put("shop", "bad.example.com");
    let revision = world.plan().revision;
    world.round();
    world.snapshot.revisions.remove(&good);
    world.rounds(60);
    let lost = world.agents_with(&revision);
    assert!((1..=3).contains(&lost), "{lost} agents");
}

/// The agent of the canary is evicted long after the trial, for example.
#[test]
fn the_canary_is_an_ordinary_node_during_the_roll() {
    let mut world = World::settled(40, "");
    world.put("shop", "a.example.com");
    world.rounds(2);
    let revision = world.plan().revision;
    assert!(world.history().roll.is_some());
    let node = |world: &World| {
        let mut nodes = world.nodes.iter();
        let has_it = |agent: &Agent| agent.revision == revision;
        let found = nodes.find(|(_, node)| node.agent.as_ref().is_some_and(has_it));
        found.unwrap().0.clone()
    };
    let name = node(&world);
    world.rounds(10);
    world.creates_no_pods = true;
    world.nodes.get_mut(&name).unwrap().agent = None;
    world.reconcile();
    world.creates_no_pods = false;
    world.settle();
    assert_eq!(
        (world.history().failed.clone(), world.good()),
        (None, Some(revision))
    );
}

mod api_server;
mod outages;
