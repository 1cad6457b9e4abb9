use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::super::occurrence::tests::occurrence;
use super::super::route::tests::route;
use super::*;
use crate::snapshot::ObjectName;

fn id(name: &str) -> SinkId {
    SinkId::Namespaced(ObjectName::new("shop", name))
}

fn routes(names: &[&str]) -> Routes {
    let route = Arc::new(route("shop", json!({})));
    let open = names.iter().map(|name| (id(name), Arc::clone(&route)));
    Routes {
        open: open.collect(),
        ..Routes::default()
    }
}

/// Returns the Event with this number, which has occurred `count` times.
fn event(version: u64, number: usize, count: u64) -> Occurrence {
    occurrence(
        version,
        &json!({"metadata": {"uid": number.to_string()}, "count": count}),
    )
}

fn distributor(names: &[&str], settings: EventSettings) -> Distributor {
    let mut distributor = Distributor::new(Checkpoint::default(), settings);
    assert!(distributor.set_routes(&routes(names)).is_empty());
    distributor.begin_list();
    distributor.end_list();
    distributor
}

fn next(distributor: &mut Distributor, name: &str) -> Option<Vec<u64>> {
    let outgoing = distributor.next(&id(name), Timestamp::UNIX_EPOCH)?;
    let versions = outgoing.occurrences.iter().map(|o| o.version);
    Some(versions.collect())
}

/// Returns the number of the Event that is being sent to a sink.
fn number(distributor: &Distributor, name: &str) -> u64 {
    distributor.queues[&id(name)]
        .in_flight
        .as_ref()
        .unwrap()
        .number
}

fn delivered(distributor: &mut Distributor, name: &str) {
    let number = number(distributor, name);
    distributor.on_outcome(&id(name), number, Outcome::Delivered);
}

fn failed(distributor: &mut Distributor, name: &str, delivered: usize) {
    let number = number(distributor, name);
    distributor.on_outcome(&id(name), number, Outcome::Retry { skip: delivered });
}

#[test]
fn each_occurrence_is_sent_once_to_each_matching_sink() {
    let mut distributor = distributor(&["a", "b"], EventSettings::default());
    assert_eq!(distributor.on_watched(event(5, 1, 1)), [id("a"), id("b")]);
    assert_eq!(next(&mut distributor, "a"), Some(vec![5]));
    // One batch at a time; what arrives meanwhile belongs to the next batch.
    distributor.on_watched(event(6, 1, 2));
    distributor.on_watched(event(7, 2, 1));
    assert_eq!(next(&mut distributor, "a"), None);
    delivered(&mut distributor, "a");
    assert_eq!(next(&mut distributor, "a"), Some(vec![6, 7]));
    delivered(&mut distributor, "a");
    assert_eq!(next(&mut distributor, "a"), None);
    assert_eq!(next(&mut distributor, "b"), Some(vec![5, 6, 7]));
    let elsewhere = occurrence(8, &json!({"metadata": {"namespace": "other"}}));
    assert!(distributor.on_watched(elsewhere).is_empty());
}

#[test]
fn an_unchanged_count_is_not_a_new_occurrence() {
    let mut distributor = distributor(&["a"], EventSettings::default());
    distributor.on_watched(event(5, 1, 1));
    assert!(distributor.on_watched(event(6, 1, 1)).is_empty());
    assert!(!distributor.on_watched(event(7, 1, 2)).is_empty());
    // A later Event can have the same name.
    distributor.on_expired("1");
    assert!(!distributor.on_watched(event(8, 1, 2)).is_empty());
    // Nor when the Event is listed.
    distributor.begin_list();
    distributor.on_listed(event(9, 1, 2));
    distributor.end_list();
    assert_eq!(next(&mut distributor, "a"), Some(vec![5, 7, 8]));
}

#[test]
fn a_failed_batch_is_resent_without_the_delivered_events() {
    let mut distributor = distributor(&["a"], EventSettings::default());
    distributor.on_watched(event(5, 1, 1));
    distributor.on_watched(event(6, 2, 1));
    assert_eq!(next(&mut distributor, "a"), Some(vec![5, 6]));
    failed(&mut distributor, "a", 1);
    distributor.on_watched(event(7, 3, 1));
    let again = distributor.next(&id("a"), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((again.occurrences.len(), again.delivered), (2, 1));
    failed(&mut distributor, "a", 1);
    // A different server has none of the batch.
    distributor.start_over(&id("a"));
    let again = distributor.next(&id("a"), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(again.delivered, 0);
}

#[test]
fn a_full_queue_drops_the_oldest_and_reports_the_loss() {
    let weight = event(1, 1, 1).weight;
    let mut distributor = distributor(
        &["full", "healthy"],
        EventSettings {
            max_bytes_per_sink: 3 * weight,
            max_bytes: 100 * weight,
        },
    );
    for version in 1..=5 {
        distributor.on_watched(event(version, version as usize, 1));
        next(&mut distributor, "healthy");
        delivered(&mut distributor, "healthy");
    }
    let outgoing = distributor
        .next(&id("full"), Timestamp::UNIX_EPOCH)
        .unwrap();
    let versions: Vec<u64> = outgoing.occurrences.iter().map(|o| o.version).collect();
    assert_eq!((versions, outgoing.dropped), (vec![3, 4, 5], 2));
    delivered(&mut distributor, "full");
    let tallies: BTreeMap<_, _> = distributor.tallies().collect();
    assert_eq!(
        (
            tallies[&id("full")].acknowledged,
            tallies[&id("full")].dropped
        ),
        (3, 2)
    );
    assert_eq!(
        (
            tallies[&id("healthy")].acknowledged,
            tallies[&id("healthy")].dropped
        ),
        (5, 0)
    );
    // The loss is reported once.
    distributor.on_watched(event(9, 9, 1));
    let outgoing = distributor
        .next(&id("full"), Timestamp::UNIX_EPOCH)
        .unwrap();
    assert_eq!(outgoing.dropped, 0);
}

#[test]
fn the_total_limit_drops_from_the_longest_queue() {
    let weight = event(11, 11, 1).weight;
    let mut distributor = distributor(
        &["a"],
        EventSettings {
            max_bytes_per_sink: 10 * weight,
            max_bytes: 10 * weight,
        },
    );
    for version in 11..=18 {
        distributor.on_watched(event(version, version as usize, 1));
    }
    let joining = distributor.set_routes(&routes(&["a", "late"]));
    assert_eq!(joining, [(id("late"), 1)]);
    for version in 19..=21 {
        distributor.on_watched(event(version, version as usize, 1));
    }
    let tallies: BTreeMap<_, _> = distributor.tallies().collect();
    assert_eq!(
        (tallies[&id("a")].waiting, tallies[&id("a")].dropped),
        (7, 4)
    );
    assert_eq!(
        (tallies[&id("late")].waiting, tallies[&id("late")].dropped),
        (3, 0)
    );
    assert_eq!(distributor.waiting_bytes, 10 * weight);
    distributor.set_routes(&routes(&["late"]));
    assert_eq!(distributor.waiting_bytes, 3 * weight);
}

#[test]
fn a_new_sink_gets_earlier_events_in_order() {
    let mut distributor = distributor(&["a"], EventSettings::default());
    distributor.on_watched(event(5, 1, 1));
    let joining = distributor.set_routes(&routes(&["a", "new"]));
    assert_eq!(joining, [(id("new"), 1)]);
    distributor.on_watched(event(7, 2, 1));
    assert_eq!(next(&mut distributor, "new"), None);
    // The list may be older or newer than the watch events that arrive meanwhile.
    for listed in [event(7, 2, 1), event(5, 1, 1), event(8, 3, 1)] {
        distributor.on_joined(&id("new"), 1, listed);
    }
    distributor.end_joining(&id("new"), 1);
    distributor.on_watched(event(8, 3, 1));
    assert_eq!(next(&mut distributor, "new"), Some(vec![5, 7, 8]));
    assert_eq!(next(&mut distributor, "a"), Some(vec![5, 7, 8]));
}

#[test]
fn a_sink_gets_the_events_from_while_it_was_refused() {
    let mut distributor = distributor(&["a"], EventSettings::default());
    distributor.on_watched(event(5, 1, 1));
    assert_eq!(next(&mut distributor, "a"), Some(vec![5]));
    let mut refused = Routes::default();
    refused.refused.insert(id("a"), None);
    distributor.set_routes(&refused);
    // A batch in flight still arrives.
    delivered(&mut distributor, "a");
    assert!(distributor.on_watched(event(6, 2, 1)).is_empty());
    assert_eq!(next(&mut distributor, "a"), None);
    assert_eq!(distributor.checkpoint().positions["shop/a"], 5);

    let joining = distributor.set_routes(&routes(&["a"]));
    assert_eq!(joining, [(id("a"), 1)]);
    distributor.on_watched(event(7, 3, 1));
    for listed in [event(5, 1, 1), event(6, 2, 1)] {
        distributor.on_joined(&id("a"), 1, listed);
    }
    // A list from before the refusal is ignored.
    distributor.end_joining(&id("a"), 0);
    assert_eq!(next(&mut distributor, "a"), None);
    distributor.end_joining(&id("a"), 1);
    assert_eq!(next(&mut distributor, "a"), Some(vec![6, 7]));
}

#[test]
fn a_recreated_sink_is_a_different_sink() {
    let mut distributor = distributor(&["a"], EventSettings::default());
    distributor.on_watched(event(5, 1, 1));
    assert_eq!(next(&mut distributor, "a"), Some(vec![5]));
    let in_flight = number(&distributor, "a");
    distributor.on_watched(event(6, 2, 1));
    let mut recreated = routes(&["a"]);
    let route = recreated.open.get_mut(&id("a")).unwrap();
    Arc::make_mut(route).since = Some("2027-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(distributor.set_routes(&recreated), [(id("a"), 1)]);
    distributor.on_outcome(&id("a"), in_flight, Outcome::Delivered);
    distributor.on_joined(&id("a"), 1, event(6, 2, 1));
    distributor.end_joining(&id("a"), 1);
    distributor.on_watched(event(7, 3, 1));
    assert_eq!(next(&mut distributor, "a"), Some(vec![7]));
}

#[test]
fn a_sink_that_enables_events_later_gets_only_new_ones() {
    let mut distributor = distributor(&["a"], EventSettings::default());
    distributor.on_watched(event(5, 1, 1));
    let mut off = Routes::default();
    off.off.insert(id("a"));
    distributor.set_routes(&off);
    distributor.on_watched(event(6, 2, 1));
    assert!(distributor.set_routes(&routes(&["a"])).is_empty());
    distributor.on_watched(event(7, 3, 1));
    assert_eq!(next(&mut distributor, "a"), Some(vec![7]));
}

/// An API server, a sequence of controllers, and what two sinks have received.
struct World {
    /// The version and the count of each Event.
    events: BTreeMap<usize, (u64, u64)>,
    version: u64,
    distributor: Distributor,
    stored: Checkpoint,
    names: Vec<&'static str>,
    refused: BTreeSet<&'static str>,
    /// The Event of each version, and the version of the last occurrence of each Event.
    written: BTreeMap<u64, usize>,
    happened: BTreeMap<usize, u64>,
    /// The occurrences that each sink has received.
    received: BTreeMap<&'static str, Vec<u64>>,
}

#[derive(Clone, Debug)]
enum Step {
    Happens(usize),
    Touched(usize),
    Delivered(Index),
    Failed(Index),
    Stored,
    /// The watch has missed something, and lists again.
    Relisted,
    /// The controller stops, with or without a last checkpoint.
    Killed,
    Ended,
    /// The controller stops during a list, right after a checkpoint.
    EndedInList,
    SecondSink,
    EndedInJoin,
    /// A sink is no longer accepted, or accepted again.
    Refused(Index),
    Accepted,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_usize).prop_map(Step::Happens),
        1 => (0..6_usize).prop_map(Step::Touched),
        4 => any::<Index>().prop_map(Step::Delivered),
        2 => any::<Index>().prop_map(Step::Failed),
        2 => Just(Step::Stored),
        1 => Just(Step::Relisted),
        1 => Just(Step::Killed),
        1 => Just(Step::Ended),
        1 => Just(Step::EndedInList),
        1 => Just(Step::SecondSink),
        1 => Just(Step::EndedInJoin),
        1 => any::<Index>().prop_map(Step::Refused),
        1 => Just(Step::Accepted),
    ];
    proptest::collection::vec(step, 0..60)
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            events: BTreeMap::new(),
            version: 0,
            distributor: Distributor::new(Checkpoint::default(), EventSettings::default()),
            stored: Checkpoint::default(),
            names: vec!["a"],
            refused: BTreeSet::new(),
            written: BTreeMap::new(),
            happened: BTreeMap::new(),
            received: BTreeMap::from([("a", Vec::new()), ("b", Vec::new())]),
        };
        world.lead();
        world
    }

    fn lead(&mut self) {
        self.distributor = Distributor::new(self.stored.clone(), EventSettings::default());
        self.distributor.set_routes(&self.routes());
        self.list();
    }

    /// Returns the routes. Each sink is newer than the one before.
    fn routes(&self) -> Routes {
        let mut routes = routes(&self.names);
        for (made, name) in self.names.iter().enumerate() {
            let since = Some(Timestamp::from_second(made as i64).unwrap());
            let id = id(name);
            Arc::make_mut(routes.open.get_mut(&id).unwrap()).since = since;
            if self.refused.contains(name) {
                routes.open.remove(&id);
                routes.refused.insert(id, since);
            }
        }
        routes
    }

    fn list(&mut self) {
        self.begin_list(self.events.len());
        self.distributor.end_list();
    }

    /// Lists the first of the Events.
    fn begin_list(&mut self, first: usize) {
        self.distributor.begin_list();
        for (number, (version, count)) in self.events.iter().take(first) {
            self.distributor.on_listed(event(*version, *number, *count));
        }
    }

    /// Lists the first of the Events for the sinks that missed some, and returns these
    /// sinks.
    fn begin_join(&mut self, first: usize) -> Vec<(SinkId, u64)> {
        let joining = self.distributor.set_routes(&self.routes());
        for (joined, list) in &joining {
            for (number, (version, count)) in self.events.iter().take(first) {
                let listed = event(*version, *number, *count);
                self.distributor.on_joined(joined, *list, listed);
            }
        }
        joining
    }

    fn join(&mut self) {
        for (joined, list) in self.begin_join(self.events.len()) {
            self.distributor.end_joining(&joined, list);
        }
    }

    fn end(&mut self) {
        self.stored = self.distributor.checkpoint();
        self.lead();
    }

    fn write(&mut self, number: usize, more: u64) {
        self.version += 1;
        let (version, count) = self.events.entry(number).or_default();
        *version = self.version;
        *count += more;
        self.written.insert(*version, number);
        if more > 0 {
            self.happened.insert(number, *version);
        }
        let written = event(*version, number, *count);
        self.distributor.on_watched(written);
    }

    /// Sends a batch, which arrives or fails.
    fn send(&mut self, index: Index, arrives: bool) {
        let name = *index.get(&self.names);
        let Some(versions) = next(&mut self.distributor, name) else {
            return;
        };
        if arrives {
            self.received.get_mut(name).unwrap().extend(versions);
            delivered(&mut self.distributor, name);
        } else {
            failed(&mut self.distributor, name, 0);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Happens(number) => self.write(*number, 1),
            Step::Touched(number) if self.events.contains_key(number) => self.write(*number, 0),
            Step::Delivered(index) => self.send(*index, true),
            Step::Failed(index) => self.send(*index, false),
            Step::Stored => self.stored = self.distributor.checkpoint(),
            Step::Relisted => self.list(),
            Step::Killed => self.lead(),
            Step::Ended => self.end(),
            Step::EndedInList => {
                self.begin_list(self.events.len() / 2);
                self.end();
            }
            Step::SecondSink if self.names.len() == 1 => {
                self.names.push("b");
                self.join();
            }
            Step::Refused(index) => {
                self.refused.insert(*index.get(&self.names));
                self.join();
            }
            Step::Accepted => {
                self.refused.clear();
                self.join();
            }
            Step::EndedInJoin if self.names.len() == 1 => {
                self.names.push("b");
                self.begin_join(self.events.len() / 2);
                self.end();
            }
            Step::Touched(_) | Step::SecondSink | Step::EndedInJoin => {}
        }
    }
}

proptest! {
    /// In the end every sink has the last occurrence of every Event, without duplicates
    /// unless a controller was killed.
    #[test]
    fn no_event_is_lost_or_duplicated(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Accepted);
        for name in world.names.clone() {
            while let Some(versions) = next(&mut world.distributor, name) {
                world.received.get_mut(name).unwrap().extend(versions);
                delivered(&mut world.distributor, name);
            }
        }
        let was_killed = steps.iter().any(|step| matches!(step, Step::Killed));
        for name in &world.names {
            let mut received = world.received[name].clone();
            for (number, happened) in &world.happened {
                let is_latest = |version: &u64| version >= happened && world.written[version] == *number;
                prop_assert!(received.iter().any(is_latest), "{name} did not receive {number}: {received:?}");
            }
            if !was_killed {
                let all = received.len();
                received.sort_unstable();
                received.dedup();
                prop_assert_eq!(received.len(), all);
            }
        }
    }
}
