//! Trials, rolls and rollbacks.

use super::*;

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
