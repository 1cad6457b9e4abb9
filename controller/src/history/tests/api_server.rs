//! Outages of the API server, during which no pod is created and no kubelet reports. Nothing is
//! late because of them.

use super::*;

/// Makes the agents that were created last report that they are not ready.
fn new_agents_do_not_report(world: &mut World) {
    let now = world.now;
    let agents = world.nodes.values_mut();
    let agents = agents.filter_map(|node| node.agent.as_mut());
    let mut count = 0;
    for agent in agents.filter(|agent| agent.created == Some(now)) {
        (agent.ready_since, agent.has_run) = (None, false);
        agent.not_ready_since = Some(now);
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn pods_that_could_not_be_created_fail_no_roll() {
    for (nodes, minutes) in [(200, 4), (200, 20), (2, 4)] {
        let mut world = World::settled(nodes, "");
        world.put("shop", "a.example.com");
        let revision = world.plan().revision;
        if nodes > 2 {
            while world.agents_with(&revision) < 60 {
                world.round();
            }
        }
        world.creates_no_pods = true;
        world.round();
        assert!(world.pods() < nodes);
        world.lose_api_server(minutes);
        // The controller of DaemonSets begins a few seconds later.
        world.round();
        assert_eq!(world.history().failed, None, "{nodes} nodes");
        world.creates_no_pods = false;
        world.settle();
        assert_eq!(world.good(), Some(revision));
    }
}

/// The agent of a trial, and those of a roll.
#[test]
fn agents_that_could_not_report_fail_nothing() {
    for agents in [1, 60] {
        let mut world = World::settled(200, "");
        world.put("shop", "a.example.com");
        let revision = world.plan().revision;
        while world.agents_with(&revision) < agents {
            world.round();
        }
        new_agents_do_not_report(&mut world);
        world.lose_api_server(10);
        world.reconcile();
        assert_eq!(world.history().failed, None, "{agents} agents");
    }
}

/// The registry is down as well, for longer.
#[test]
fn agents_that_were_lost_before_still_stop_a_trial() {
    for (nodes, lost) in [(2, 1), (3, 2), (60, MAX_LOST)] {
        for round in (0..180).step_by(7) {
            let mut world = World::settled(nodes, "");
            world.put("shop", "a.example.com");
            let since = world.now;
            outages::without_new_containers(&mut world, since, round);
            world.lose_api_server(5);
            outages::without_new_containers(&mut world, since, 180);
            assert_eq!(world.ready(), nodes - lost, "{nodes} nodes, round {round}");
        }
    }
}

#[test]
fn a_revision_whose_last_agent_could_not_report_is_not_good() {
    let mut world = World::settled(10, "");
    world.put("shop", "a.example.com");
    let revision = world.plan().revision;
    while world.agents_with(&revision) < 10 {
        world.round();
    }
    new_agents_do_not_report(&mut world);
    world.lose_api_server(10);
    world.reconcile();
    assert_ne!(world.good(), Some(revision));
}
