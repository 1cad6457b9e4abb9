//! Files that are held back, and retried.

use super::*;

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
    // Without an output, nothing is read.
    let service = &plan.configuration.files["fluent-bit.yaml"];
    assert!(!String::from_utf8_lossy(service).contains("pod_logs"));
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

/// Everything that is remembered is stored in one object.
#[test]
fn a_failure_with_thousands_of_changes_is_stored_without_names() {
    let mut world = World::settled(2, "bad.example.com");
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
        world
            .history()
            .blocking_failure(&revision, &template)
            .is_some()
    };
    assert!(blocks(&world));
    world.snapshot.log_sinks = before;
    world.creates_no_pods = false;
    world.settle();
    assert!(!blocks(&world));
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
