use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::snapshot::{ObjectName, Snapshot, Stored};

/// A cluster whose agents end where a namespace's file has these words.
struct World {
    snapshot: Snapshot,
    settings: Settings,
    poison: &'static str,
    now: Timestamp,
    /// Each revision that an agent was given, in turn.
    given: Vec<String>,
}

impl World {
    fn new(poison: &'static str) -> Self {
        let mut world = Self {
            snapshot: Snapshot {
                nodes: 1,
                ..Snapshot::default()
            },
            settings: Settings::default(),
            poison,
            now: Timestamp::from_second(1_772_366_400).unwrap(),
            given: Vec::new(),
        };
        world.settle();
        world
    }

    fn put(&mut self, namespace: &str, host: &str) {
        let spec = serde_json::json!({"host": host, "transport": "tcp"});
        let spec = serde_json::from_value(spec).unwrap();
        let name = ObjectName::new(namespace, "sink");
        let stored = Stored::Spec(Box::new(spec));
        self.snapshot.log_sinks.insert(name, stored);
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.snapshot, &self.settings)
    }

    /// One round of the controller and of the agents.
    fn round(&mut self) -> Step {
        let plan = self.plan();
        self.now += SignedDuration::from_secs(20);
        let history = self.snapshot.history.clone();
        let (history, step) = history.next(
            &plan.revision,
            &plan.template,
            &self.snapshot.revisions,
            &self.snapshot.agents,
            self.settings.pace,
            self.now,
        );
        self.snapshot.history = history;
        self.snapshot.lanes = plan.lanes.clone();
        let revision = step.revision.clone();
        let revisions = &mut self.snapshot.revisions;
        revisions
            .entry(plan.revision)
            .or_insert(Arc::new(plan.files));
        let files = &revisions[&revision];
        let is_ill = !self.poison.is_empty()
            && (self.settings.agent.image == self.poison
                || files
                    .values()
                    .any(|text| String::from_utf8_lossy(text).contains(self.poison)));
        if self.given.last() != Some(&revision) {
            self.given.push(revision.clone());
        }
        let before = self.snapshot.agents.first();
        let before = before.filter(|agent| agent.revision == revision);
        let ready_since = before.map_or(Some(self.now), |agent| agent.ready_since);
        self.snapshot.agents = vec![Agent {
            pod: "agent".to_owned(),
            node: "node-a".to_owned(),
            revision,
            ready_since: ready_since.filter(|_| !is_ill),
            address: None,
            restarts: if is_ill { 2 } else { 0 },
            trouble: is_ill.then(|| "its container ended with exit code 1".to_owned()),
        }];
        step
    }

    /// Rounds until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..100 {
            let (before, given) = (self.snapshot.history.clone(), self.given.len());
            let step = self.round();
            let is_quiet = self.snapshot.history == before && self.given.len() == given;
            if is_quiet && step.reach == Reach::All {
                return;
            }
        }
        panic!("it never ends: {:?}", self.snapshot.history);
    }

    fn has(&self, namespace: &str, host: &str) -> bool {
        let files = &self.snapshot.revisions[&self.snapshot.agents[0].revision];
        let file = files.get(&format!("ns-{namespace}.yaml"));
        file.is_some_and(|text| String::from_utf8_lossy(text).contains(host))
    }
}

fn good(world: &World) -> Option<String> {
    let good = world.snapshot.history.good.clone();
    good.map(|good| good.revision)
}

fn one(revision: &str) -> Step {
    Step::new(revision, Reach::One)
}

fn all(revision: &str) -> Step {
    Step::new(revision, Reach::All)
}

#[test]
fn a_revision_is_good_once_an_agent_is_ready_for_a_while() {
    let mut world = World::new("");
    assert_eq!(good(&world), Some(world.plan().revision));
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    assert_eq!(world.round(), one(&revision));
    // It is ready, but only since a moment ago.
    let agents = &mut world.snapshot.agents;
    agents[0].ready_since = Some(world.now + SignedDuration::from_secs(15));
    assert_eq!(world.round(), one(&revision));
    assert_eq!(world.round(), all(&revision));
    assert_eq!(good(&world), Some(revision));
    assert_eq!(world.snapshot.history.trial, None);
}

#[test]
fn what_breaks_agents_is_held_alone() {
    let mut world = World::new("bad.example.com");
    world.put("shop", "old.example.com");
    world.settle();
    // One that changes, and many that are new: all at the same time.
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
    let held: Vec<(&String, &String)> = plan.held.iter().collect();
    let (file, why) = held[0];
    assert_eq!((held.len(), file.as_str()), (1, "ns-shop.yaml"));
    assert!(
        why.contains("node-a") && why.contains("exit code 1"),
        "{why}"
    );
    // Halves of nine: bounded by the logarithm, and each was tried once.
    let tried = world.given.len();
    assert!(tried <= 16, "{tried} revisions");

    // What others do goes on.
    world.put("later", "good.example.com");
    world.settle();
    assert!(world.has("later", "good.example.com") && !world.has("shop", "bad.example.com"));
    // And what was wrong is tried again once it is another.
    world.put("shop", "new.example.com");
    world.settle();
    assert!(world.has("shop", "new.example.com"));
    assert!(world.plan().held.is_empty());
}

#[test]
fn a_sink_that_is_new_and_breaks_agents_is_left_out() {
    let mut world = World::new("bad.example.com");
    world.put("shop", "bad.example.com");
    world.settle();
    assert!(!world.has("shop", "bad.example.com"));
    let plan = world.plan();
    assert_eq!(plan.held.len(), 1);
    // Nothing reads what nothing sends.
    assert!(plan.lanes.by_lane().is_empty());
}

#[test]
fn agents_that_are_broken_themselves_come_back_as_they_were() {
    let mut world = World::new("broken-image");
    world.put("shop", "a.example.com");
    world.settle();
    let before = good(&world).unwrap();
    world.settings.agent.image = "broken-image".to_owned();
    for _ in 0..2 {
        world.round();
    }
    let given = world.given.len();
    assert_eq!(world.round(), all(&before));
    assert_eq!(world.round(), all(&before));
    assert_eq!(world.given.len(), given);
    assert!(world.plan().held.is_empty());
    let failed = world.snapshot.history.failed.clone().unwrap();
    assert_eq!(failed.revision, world.plan().revision);

    world.poison = "";
    world.settings.agent.image = "mended-image".to_owned();
    world.settle();
    assert_eq!(good(&world), Some(world.plan().revision));
}

#[test]
fn the_first_revision_has_nothing_to_come_back_to() {
    let mut world = World {
        settings: Settings::default(),
        poison: "syslog-sink-agent",
        snapshot: Snapshot::default(),
        now: Timestamp::from_second(1_772_366_400).unwrap(),
        given: Vec::new(),
    };
    for _ in 0..30 {
        assert_eq!(world.round(), one(&world.plan().revision));
    }
    assert_eq!(world.given.len(), 1);
}

#[test]
fn without_a_node_nothing_fails() {
    let mut world = World::new("");
    world.put("shop", "a.example.com");
    world.snapshot.agents.clear();
    let (plan, pace) = (world.plan(), world.settings.pace);
    let next = |history: History, now| {
        history.next(
            &plan.revision,
            &plan.template,
            &world.snapshot.revisions,
            &[],
            pace,
            now,
        )
    };
    let (history, _) = next(world.snapshot.history.clone(), world.now);
    let (history, step) = next(history, world.now + SignedDuration::from_hours(24));
    assert_eq!((step, history.failed), (one(&plan.revision), None));
}

#[test]
fn a_revision_that_is_never_ready_is_taken_back() {
    let mut world = World::new("");
    let before = good(&world).unwrap();
    world.put("shop", "a.example.com");
    world.round();
    let agent = &mut world.snapshot.agents[0];
    agent.ready_since = None;
    agent.trouble = Some("its container does not start (ErrImagePull)".to_owned());
    let (plan, pace) = (world.plan(), world.settings.pace);
    let next = |seconds| {
        let now = world.now + SignedDuration::from_secs(seconds);
        let Snapshot {
            history,
            revisions,
            agents,
            ..
        } = &world.snapshot;
        history
            .clone()
            .next(&plan.revision, &plan.template, revisions, agents, pace, now)
    };
    assert_eq!(next(100).1, one(&plan.revision));
    let (after, step) = next(200);
    assert_eq!(step, all(&before));
    assert!(after.failed.unwrap().why.contains("ErrImagePull"));
}

#[test]
fn changes_that_never_end_starve_nobody() {
    let mut world = World::new("");
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..20 {
        world.put("shop", &format!("{number}.example.com"));
        world.round();
        seen.extend(good(&world));
    }
    assert!(
        seen.len() >= 10,
        "{} of 20 changes were seen through",
        seen.len()
    );
}

#[test]
fn a_roll_under_way_is_finished_first() {
    let mut world = World::new("");
    let mut slow = world.snapshot.agents[0].clone();
    slow.node = "node-b".to_owned();
    world.put("shop", "a.example.com");
    let first = world.plan().revision;
    assert_eq!(world.round(), one(&first));
    let round = |world: &mut World| {
        world.snapshot.agents.push(slow.clone());
        world.round()
    };
    assert_eq!(round(&mut world), all(&first));
    // Another change, while a node still has the revision before.
    world.put("shop", "b.example.com");
    let second = world.plan().revision;
    assert_eq!(round(&mut world), all(&first));
    // All have it now.
    assert_eq!(world.round(), one(&second));
}

#[test]
fn what_agents_are_well_with_is_good_where_nothing_is_known() {
    let mut world = World::new("bad.example.com");
    world.put("shop", "a.example.com");
    world.settle();
    let before = good(&world).unwrap();
    // Somebody deleted the ConfigMap.
    world.snapshot.history = History::default();
    world.put("shop", "bad.example.com");
    world.settle();
    assert_eq!(good(&world), Some(before));
}

#[test]
fn the_first_sinks_wait_for_no_trial() {
    let mut world = World {
        settings: Settings::default(),
        poison: "",
        snapshot: Snapshot::default(),
        now: Timestamp::from_second(1_772_366_400).unwrap(),
        given: Vec::new(),
    };
    let empty = world.plan().revision;
    assert_eq!(world.round(), one(&empty));
    // The agents of the revision without sinks are ready, since a moment ago.
    world.snapshot.agents[0].ready_since = Some(world.now + SignedDuration::from_secs(19));
    world.put("shop", "a.example.com");
    let first = world.plan().revision;
    assert_eq!(world.round(), one(&first));
}

#[test]
fn what_is_gone_does_not_come_back() {
    let mut world = World::new("bad.example.com");
    world.put("shop", "bad.example.com");
    world.round();
    let gone = good(&world).unwrap();
    world.snapshot.revisions.remove(&gone);
    for _ in 0..10 {
        assert_eq!(world.round().revision, world.plan().revision);
    }
}
