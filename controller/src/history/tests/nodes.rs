//! Nodes on which agents do not run.

use super::*;

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
