//! Cluster faults that no revision causes: they cost a few nodes their agents, never
//! all of them, and delay no change for longer than they last.

use super::*;

const HOUR: usize = 180;

/// Returns the number of rounds until something becomes true; panics after three days.
fn rounds_until(world: &mut World, condition: impl Fn(&World) -> bool) -> usize {
    for rounds in 0..72 * HOUR {
        if condition(world) {
            return rounds;
        }
        world.round();
    }
    panic!("the condition never becomes true: {:?}", world.history())
}

/// Runs the world while the containers of new agents never start, because the registry
/// or the network plug-in is down.
pub(super) fn without_new_containers(world: &mut World, since: Timestamp, rounds: usize) {
    without_new_containers_on(world, since, rounds, |_| true);
}

/// Does the same as [`without_new_containers`] on some of the nodes, in one zone for example.
fn without_new_containers_on(
    world: &mut World,
    since: Timestamp,
    rounds: usize,
    is_in_zone: impl Fn(&str) -> bool,
) {
    for _ in 0..rounds {
        world.round();
        for (name, node) in &mut world.nodes {
            if let Some(agent) = &mut node.agent
                && agent.created > Some(since)
                && is_in_zone(name)
            {
                agent.ready_since = None;
                agent.restarts = 0;
                agent.has_run = false;
                agent.problem = Some("the container does not start (ErrImagePull)".to_owned());
            }
        }
    }
}

#[test]
fn a_change_while_containers_do_not_start_costs_a_few_agents() {
    let mut world = World::settled(60, "");
    world.put("shop", "a.example.com");
    let since = world.now;
    without_new_containers(&mut world, since, 5 * HOUR);
    assert_eq!(world.ready(), 60 - MAX_LOST);
    assert!(world.plan().held.is_empty());
    let failed = world.history().failed.as_ref().unwrap();
    assert!(!failed.is_of_sinks(), "{failed:?}");
    world.start_containers();
    let revision = world.plan().revision;
    rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
    assert_eq!(world.ready(), 60);
}

#[test]
fn a_change_while_new_agents_crash_costs_a_few_agents() {
    let mut world = World::settled(60, "");
    (0..60).for_each(|node| world.set(node, Kind::Crashing));
    world.put("shop", "a.example.com");
    world.rounds(5 * HOUR);
    assert_eq!(world.ready(), 60 - MAX_LOST);
    assert!(world.history().failed.is_some());
}

#[test]
fn an_outage_during_a_roll_stops_the_roll_and_the_rollback() {
    let mut world = World::settled(200, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    rounds_until(&mut world, |world| world.agents_with(&revision) >= 60);
    let (since, before) = (world.now, world.ready());
    without_new_containers(&mut world, since, 5 * HOUR);
    let lost = before - world.ready();
    assert!(lost <= 20, "{lost} agents are lost");
}

#[test]
fn pods_that_do_not_terminate_stop_a_trial() {
    let mut world = World::settled(40, "");
    world.is_stuck = true;
    world.put("shop", "a.example.com");
    world.rounds(5 * HOUR);
    assert_eq!(world.pods(), 40 - MAX_LOST);
    assert!(world.history().failed.is_some());
}

#[test]
fn pods_that_do_not_terminate_stop_a_roll() {
    let mut world = World::settled(200, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(3);
    assert!(world.history().roll.is_some());
    world.is_stuck = true;
    world.rounds(5 * HOUR);
    assert!(world.pods() >= 180, "{}", world.pods());
    assert_ne!(world.good(), Some(revision));
}

#[test]
fn a_revision_that_takes_nodes_down_is_stopped() {
    let mut world = World::settled(40, "");
    world.put("shop", "bad.example.com");
    let revision = world.plan().revision;
    for _ in 0..5 * HOUR {
        world.round();
        for node in world.nodes.values_mut() {
            if let Some(agent) = &mut node.agent
                && agent.revision == revision
            {
                node.kind = Kind::Dead;
                agent.ready_since = None;
            }
        }
    }
    let dead = world.nodes.values().filter(|node| node.kind == Kind::Dead);
    assert_eq!(dead.count(), MAX_LOST);
    assert!(world.history().failed.is_some());
}

#[test]
fn joining_nodes_without_room_do_not_block_a_roll() {
    for joins_first in [false, true] {
        let mut world = World::settled(40, "");
        world.put("shop", "a.example.com");
        let revision = world.plan().revision;
        if joins_first {
            world.rounds(3);
            assert!(world.history().roll.is_some());
        } else {
            world.creates_no_pods = true;
            world.rounds(12);
            assert!(world.history().failed.is_some());
            world.creates_no_pods = false;
        }
        for number in 0..3 {
            let kind = Kind::Full;
            let node = Node { agent: None, kind };
            world.nodes.insert(format!("node-small-{number}"), node);
        }
        world.create_agents();
        rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
    }
}

#[test]
fn nodes_that_become_full_during_a_roll_delay_it_by_minutes() {
    let mut world = World::settled(100, "");
    (10..13).for_each(|node| world.set(node, Kind::Full));
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    let rounds = rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
    assert!(rounds < 2 * HOUR, "{rounds}");
    assert_eq!(world.agents_with(&revision), 100);
}

#[test]
fn a_dead_node_without_a_pod_does_not_block_a_roll() {
    let mut world = World::settled(20, "");
    let node = Node {
        agent: None,
        kind: Kind::Dead,
    };
    world.nodes.insert("node-never".to_owned(), node);
    world.creates_no_pods = true;
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(12);
    assert!(world.history().failed.is_some());
    world.creates_no_pods = false;
    rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
}

#[test]
fn a_node_that_dies_between_two_pods_of_a_trial_does_not_block_it() {
    let mut world = World::settled(20, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.creates_no_pods = true;
    world.round();
    let (node, _) = world.history().trial.clone().unwrap().node.unwrap();
    world.nodes.get_mut(&node).unwrap().kind = Kind::Dead;
    world.creates_no_pods = false;
    let rounds = rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
    assert!(rounds < HOUR, "{rounds}");
}

/// The node pulls the image for longer than an agent may take to start.
#[test]
fn a_slow_joining_node_holds_no_sink() {
    let mut world = World::settled(40, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    world.rounds(2);
    assert!(world.history().roll.is_some());
    world.add_node();
    let (name, joined) = ("node-40", world.now);
    for _ in 0..30 {
        world.round();
        let now = world.now;
        let agent = world.nodes.get_mut(name).unwrap().agent.as_mut().unwrap();
        if lasts(joined, now) < Duration::from_secs(220) {
            (agent.ready_since, agent.has_run) = (None, false);
        } else {
            agent.ready_since = agent.ready_since.or(Some(now));
            agent.has_run = true;
        }
        assert!(world.plan().held.is_empty() && world.history().failed.is_none());
    }
    assert_eq!(world.good(), Some(revision));
}

#[test]
fn a_node_that_was_not_ready_before_holds_no_sink() {
    let mut world = World::settled(40, "");
    let make_unready = |world: &mut World| {
        let now = world.now;
        let agent = world.nodes.get_mut("node-7").unwrap().agent.as_mut();
        if let Some(agent) = agent {
            agent.ready_since = None;
            agent.not_ready_since = agent.not_ready_since.or(Some(now));
        }
    };
    for _ in 0..5 {
        make_unready(&mut world);
        world.round();
    }
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    for _ in 0..60 {
        make_unready(&mut world);
        world.round();
        assert!(world.plan().held.is_empty() && world.history().failed.is_none());
    }
    assert_eq!(world.good(), Some(revision));
}

#[test]
fn a_flapping_agent_is_not_tried_first() {
    let mut world = World::settled(40, "");
    world.set(0, Kind::Flapping);
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    let rounds = rounds_until(&mut world, |world| {
        assert_eq!(world.history().failed, None);
        world.good() == Some(revision.clone())
    });
    assert!(rounds < HOUR, "{rounds}");
}

#[test]
fn a_flapping_agent_does_not_keep_a_revision_from_becoming_good() {
    let mut world = World::settled(10, "bad.example.com");
    world.set(9, Kind::Flapping);
    for team in 0..5 {
        world.put(&format!("team-{team}"), "good.example.com");
        let revision = world.plan().revision;
        let rounds = rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
        assert!(rounds < HOUR, "{rounds}");
    }
    world.put("evil", "bad.example.com");
    world.rounds(HOUR);
    assert_eq!(
        world.plan().held.keys().collect::<Vec<_>>(),
        ["ns-evil.yaml"]
    );
}

/// A new image together with a broken sink.
#[test]
fn a_broken_sink_does_not_block_a_new_image() {
    let mut world = World::settled(10, "bad.example.com");
    world.settings.agent.image = "security-fix".to_owned();
    world.put("shop", "bad.example.com");
    world.rounds(3);
    world.put("bank", "good.example.com");
    let template = world.plan().template;
    let rounds = rounds_until(&mut world, |world| {
        let good = world.history().good.as_ref().unwrap();
        good.template == template && world.agents_with(&good.revision) == 10
    });
    assert!(rounds < HOUR, "{rounds}");
    let has_bank = |world: &World| {
        let good = world.good().unwrap();
        let files = &world.snapshot.revisions[&good].files;
        files.contains_key("ns-bank.yaml")
    };
    let rounds = rounds_until(&mut world, has_bank);
    assert!(rounds < 2 * HOUR, "{rounds}");
}

/// Agents with this sink crash three minutes after they start.
#[test]
fn a_slow_failure_reaches_many_nodes_once_and_one_node_per_retry() {
    let mut world = World::settled(200, "");
    world.put("shop", "slow-poison");
    let (mut waves, mut most) = (Vec::new(), 0);
    for _ in 0..24 * HOUR {
        let before = world.history().failed.clone();
        world.round();
        let World {
            nodes,
            snapshot,
            now,
            ..
        } = &mut world;
        let mut affected = 0;
        for agent in nodes.values_mut().filter_map(|node| node.agent.as_mut()) {
            let files = &snapshot.revisions[&agent.revision].files;
            let mut texts = files.values();
            if texts.any(|text| String::from_utf8_lossy(text).contains("slow-poison")) {
                affected += 1;
                if lasts(agent.created.unwrap(), *now) >= Duration::from_secs(180) {
                    (agent.ready_since, agent.restarts) = (None, 2);
                }
            }
        }
        most = most.max(affected);
        if world.history().failed != before && world.history().failed.is_some() {
            waves.push(std::mem::take(&mut most));
        }
    }
    // The second wave has the rest of the nodes.
    let retries = waves.get(2..).unwrap_or_default();
    assert!(
        retries.len() > 3 && retries.iter().all(|wave| *wave == 1),
        "{waves:?}"
    );
}

/// The clock of a former leader was a day ahead.
#[test]
fn timestamps_in_the_future_delay_nothing() {
    let mut world = World::settled(10, "bad.example.com");
    world.now += SignedDuration::from_hours(24);
    world.put("shop", "bad.example.com");
    world.rounds(3);
    assert!(world.history().held.contains_key("ns-shop.yaml"));
    world.now -= SignedDuration::from_hours(24);
    let now = world.now;
    for agent in world
        .nodes
        .values_mut()
        .filter_map(|node| node.agent.as_mut())
    {
        agent.created = agent.created.min(Some(now));
        agent.ready_since = agent.ready_since.min(Some(now));
    }
    world.poison = "";
    let rounds = rounds_until(&mut world, |world| world.history().held.is_empty());
    assert!(rounds < HOUR, "{rounds}");
}

/// One tenant writes one broken sink after another.
#[test]
fn a_tenant_that_fails_repeatedly_does_not_delay_others() {
    let mut world = World::settled(10, "bad");
    let mut failures = 0;
    world.put("bank", "good.example.com");
    for minute in 0..24 * 60 {
        world.put("shop", &format!("bad-{minute}.example.com"));
        let before = world.history().failed.clone();
        world.rounds(3);
        failures += usize::from(world.history().failed != before);
        if minute == 4 * 60 {
            let good = world.good().unwrap();
            let files = &world.snapshot.revisions[&good].files;
            assert!(files.contains_key("ns-bank.yaml"));
        }
    }
    assert!(failures < 150, "{failures}");
}

/// The node of the trial is the only one that does not crash.
#[test]
fn a_sink_with_which_many_agents_crash_at_once_is_the_cause() {
    let mut world = World::settled(200, "bad.example.com");
    world.set(0, Kind::Healthy);
    world.put("shop", "bad.example.com");
    rounds_until(&mut world, |world| !world.history().held.is_empty());
    let held = world.plan().held;
    assert!(!held["ns-shop.yaml"].is_suspect && held.len() == 1);
    world.rounds(10);
    assert_eq!(world.ready(), 200);
}

#[test]
fn an_agent_that_was_not_ready_for_a_moment_is_evidence_once_it_works() {
    let mut world = World::settled(3, "bad.example.com");
    (0..2).for_each(|node| world.set(node, Kind::Healthy));
    world.put("shop", "bad.example.com");
    let set_ready = |world: &mut World, ready_since| {
        let now = world.now;
        let agent = world.nodes.get_mut("node-2").unwrap().agent.as_mut();
        let agent = agent.unwrap();
        agent.ready_since = ready_since;
        agent.not_ready_since = Some(now);
    };
    set_ready(&mut world, None);
    world.reconcile();
    assert!(world.history().trial.is_some());
    let now = world.now;
    set_ready(&mut world, Some(now));
    world.rounds(HOUR);
    let held = world.plan().held;
    assert_eq!(held.keys().collect::<Vec<_>>(), ["ns-shop.yaml"]);
}

/// Because a quota is too small by one pod, for example.
#[test]
fn a_node_without_a_pod_does_not_block_the_next_trial() {
    let mut world = World::settled(20, "");
    world.set(0, Kind::Omitted);
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    let rounds = rounds_until(&mut world, |world| world.good() == Some(revision.clone()));
    assert!(world.pods() == 19 && rounds < HOUR, "{rounds}");
}

#[test]
fn an_outage_of_one_zone_stops_a_rollback() {
    let mut world = World::settled(200, "");
    let before = world.snapshot.log_sinks.clone();
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    rounds_until(&mut world, |world| world.agents_with(&revision) >= 100);
    world.snapshot.log_sinks = before;
    let since = world.now;
    let is_even = |name: &str| name.ends_with(['0', '2', '4', '6', '8']);
    without_new_containers_on(&mut world, since, 5 * HOUR, is_even);
    let lost = 200 - world.ready();
    assert!(lost <= 10 + 10 + MAX_LOST, "{lost} agents are lost");
}

#[test]
fn agents_that_are_not_ready_for_a_moment_count_as_unavailable() {
    let mut world = World::settled(40, "");
    world.put("shop", "a.example.com");
    world.rounds(2);
    assert!(world.history().roll.is_some());
    let revision = world.plan().revision;
    let now = world.now;
    for agent in world
        .nodes
        .values_mut()
        .filter_map(|node| node.agent.as_mut())
    {
        if agent.revision != revision {
            (agent.ready_since, agent.not_ready_since) = (None, Some(now));
        }
    }
    assert_eq!(world.round(), 0);
}

/// Makes a node pull the image of a revision for ten minutes.
fn pulls_slowly(world: &mut World, node: &str, revision: &str) {
    let now = world.now;
    let agent = world.nodes.get_mut(node).unwrap().agent.as_mut();
    if let Some(agent) = agent
        && agent.revision == revision
    {
        let is_pulled = lasts(agent.created.unwrap(), now) >= Duration::from_mins(10);
        agent.has_run = is_pulled;
        agent.ready_since = agent.ready_since.filter(|_| is_pulled);
        agent.ready_since = agent.ready_since.or(is_pulled.then_some(now));
    }
}

#[test]
fn a_slow_image_pull_on_one_node_does_not_stop_an_upgrade() {
    let mut world = World::settled(40, "");
    world.settings.agent.image = "new-image".to_owned();
    let revision = world.plan().revision;
    for _ in 0..HOUR {
        world.round();
        pulls_slowly(&mut world, "node-20", &revision);
        assert_eq!(world.history().failed, None);
    }
    assert_eq!(world.agents_with(&revision), 40);
    assert_eq!(world.good(), Some(revision));
}

#[test]
fn three_nodes_with_faults_of_their_own_do_not_fail_a_large_roll() {
    let mut world = World::settled(200, "");
    for node in [50, 100, 150] {
        world.set(node, Kind::Full);
    }
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    rounds_until(&mut world, |world| {
        assert_eq!(world.history().failed, None);
        world.good() == Some(revision.clone())
    });
}

/// Only the node of the trial works.
#[test]
fn a_sink_with_which_many_agents_hang_is_the_cause() {
    let mut world = World::settled(200, "");
    world.put("shop", "hang.example.com");
    let revision = world.plan().revision;
    world.rounds(2);
    for _ in 0..HOUR {
        let now = world.now;
        world.round();
        for agent in world
            .nodes
            .values_mut()
            .filter_map(|node| node.agent.as_mut())
        {
            if agent.revision == revision && agent.created > Some(now) {
                agent.ready_since = None;
            }
        }
        if world.history().failed.is_some() {
            break;
        }
    }
    let held = world.plan().held;
    assert_eq!(held.keys().collect::<Vec<_>>(), ["ns-shop.yaml"]);
    assert!(!held["ns-shop.yaml"].is_suspect);
}

#[test]
fn an_outage_does_not_cost_a_small_cluster_all_agents() {
    for nodes in [2, 3] {
        let mut world = World::settled(nodes, "");
        world.put("shop", "a.example.com");
        let since = world.now;
        without_new_containers(&mut world, since, 5 * HOUR);
        assert_eq!(world.ready(), 1, "{nodes} nodes");
    }
}

/// The API server refused the deletion.
#[test]
fn an_agent_that_was_not_deleted_after_all_is_not_at_risk() {
    let mut world = World::settled(10, "");
    let risk = Risk {
        deleted: world.now,
        is_its_own: false,
    };
    let risked = &mut world.snapshot.history.risked;
    risked.insert("node-3".to_owned(), risk);
    world.rounds(12);
    assert_eq!(world.history().risked, Risked::new());
}

/// The agent stops working a minute before the revision comes.
#[test]
fn an_agent_that_never_works_again_is_no_evidence() {
    let mut world = World::settled(40, "");
    world.set(1, Kind::Crashing);
    world.put("shop", "a.example.com");
    let now = world.now;
    let agent = world.nodes.get_mut("node-1").unwrap().agent.as_mut();
    let agent = agent.unwrap();
    (agent.ready_since, agent.not_ready_since) = (None, Some(now));
    for _ in 0..HOUR {
        world.round();
        assert_eq!(world.history().failed, None);
    }
}

#[test]
fn a_slow_image_pull_on_the_node_of_a_trial_delays_an_upgrade_once() {
    let mut world = World::settled(40, "");
    world.settings.agent.image = "new-image".to_owned();
    let revision = world.plan().revision;
    let mut rounds = 0;
    while world.good().as_ref() != Some(&revision) {
        world.round();
        rounds += 1;
        pulls_slowly(&mut world, "node-0", &revision);
        assert!(rounds < HOUR, "{:?}", world.history());
    }
}
