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

/// The Event of this number, which has happened so often.
fn event(version: u64, number: usize, count: u64) -> Occurrence {
    occurrence(
        version,
        &json!({"metadata": {"uid": number.to_string()}, "count": count}),
    )
}

fn exchange(names: &[&str], settings: EventSettings) -> Distributor {
    let mut exchange = Distributor::new(Checkpoint::default(), settings);
    assert!(exchange.set_routes(&routes(names)).is_empty());
    exchange.begin_list();
    exchange.end_list();
    exchange
}

fn next(exchange: &mut Distributor, name: &str) -> Option<Vec<u64>> {
    let outgoing = exchange.next(&id(name), Timestamp::UNIX_EPOCH)?;
    let versions = outgoing.occurrences.iter().map(|o| o.version);
    Some(versions.collect())
}

/// The number of what is under way to a sink.
fn number(exchange: &Distributor, name: &str) -> u64 {
    exchange.queues[&id(name)]
        .in_flight
        .as_ref()
        .unwrap()
        .number
}

fn delivered(exchange: &mut Distributor, name: &str) {
    let number = number(exchange, name);
    exchange.on_outcome(&id(name), number, Outcome::Delivered);
}

fn failed(exchange: &mut Distributor, name: &str, delivered: usize) {
    let number = number(exchange, name);
    exchange.on_outcome(&id(name), number, Outcome::Retry { delivered });
}

#[test]
fn each_occurrence_goes_once_to_each_sink_that_wants_it() {
    let mut exchange = exchange(&["a", "b"], EventSettings::default());
    assert_eq!(exchange.on_watched(event(5, 1, 1)), [id("a"), id("b")]);
    assert_eq!(next(&mut exchange, "a"), Some(vec![5]));
    // One after the other, and what comes meanwhile is of the next batch.
    exchange.on_watched(event(6, 1, 2));
    exchange.on_watched(event(7, 2, 1));
    assert_eq!(next(&mut exchange, "a"), None);
    delivered(&mut exchange, "a");
    assert_eq!(next(&mut exchange, "a"), Some(vec![6, 7]));
    delivered(&mut exchange, "a");
    assert_eq!(next(&mut exchange, "a"), None);
    assert_eq!(next(&mut exchange, "b"), Some(vec![5, 6, 7]));
    let elsewhere = occurrence(8, &json!({"metadata": {"namespace": "other"}}));
    assert!(exchange.on_watched(elsewhere).is_empty());
}

#[test]
fn an_event_that_is_written_again_has_not_happened_again() {
    let mut exchange = exchange(&["a"], EventSettings::default());
    exchange.on_watched(event(5, 1, 1));
    assert!(exchange.on_watched(event(6, 1, 1)).is_empty());
    assert!(!exchange.on_watched(event(7, 1, 2)).is_empty());
    // The same name can be another Event later.
    exchange.on_expired("1");
    assert!(!exchange.on_watched(event(8, 1, 2)).is_empty());
    // Nor where it is listed.
    exchange.begin_list();
    exchange.on_listed(event(9, 1, 2));
    exchange.end_list();
    assert_eq!(next(&mut exchange, "a"), Some(vec![5, 7, 8]));
}

#[test]
fn what_failed_is_sent_again_without_what_arrived() {
    let mut exchange = exchange(&["a"], EventSettings::default());
    exchange.on_watched(event(5, 1, 1));
    exchange.on_watched(event(6, 2, 1));
    assert_eq!(next(&mut exchange, "a"), Some(vec![5, 6]));
    failed(&mut exchange, "a", 1);
    exchange.on_watched(event(7, 3, 1));
    let again = exchange.next(&id("a"), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((again.occurrences.len(), again.delivered), (2, 1));
    failed(&mut exchange, "a", 1);
    // Another server has nothing of it.
    exchange.start_over(&id("a"));
    let again = exchange.next(&id("a"), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(again.delivered, 0);
}

#[test]
fn a_full_queue_drops_the_oldest_and_says_so() {
    let weight = event(1, 1, 1).weight;
    let mut exchange = exchange(
        &["full", "well"],
        EventSettings {
            max_bytes_per_sink: 3 * weight,
            max_bytes: 100 * weight,
        },
    );
    for version in 1..=5 {
        exchange.on_watched(event(version, version as usize, 1));
        next(&mut exchange, "well");
        delivered(&mut exchange, "well");
    }
    let outgoing = exchange.next(&id("full"), Timestamp::UNIX_EPOCH).unwrap();
    let versions: Vec<u64> = outgoing.occurrences.iter().map(|o| o.version).collect();
    assert_eq!((versions, outgoing.dropped), (vec![3, 4, 5], 2));
    delivered(&mut exchange, "full");
    let tallies: BTreeMap<_, _> = exchange.tallies().collect();
    assert_eq!(
        (
            tallies[&id("full")].acknowledged,
            tallies[&id("full")].dropped
        ),
        (3, 2)
    );
    assert_eq!(
        (
            tallies[&id("well")].acknowledged,
            tallies[&id("well")].dropped
        ),
        (5, 0)
    );
    // It is told once.
    exchange.on_watched(event(9, 9, 1));
    let outgoing = exchange.next(&id("full"), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(outgoing.dropped, 0);
}

#[test]
fn all_queues_together_are_bounded_by_the_longest() {
    let weight = event(11, 11, 1).weight;
    let mut exchange = exchange(
        &["a"],
        EventSettings {
            max_bytes_per_sink: 10 * weight,
            max_bytes: 10 * weight,
        },
    );
    for version in 11..=18 {
        exchange.on_watched(event(version, version as usize, 1));
    }
    let joining = exchange.set_routes(&routes(&["a", "late"]));
    assert_eq!(joining, [(id("late"), 1)]);
    for version in 19..=21 {
        exchange.on_watched(event(version, version as usize, 1));
    }
    let tallies: BTreeMap<_, _> = exchange.tallies().collect();
    assert_eq!(
        (tallies[&id("a")].waiting, tallies[&id("a")].dropped),
        (7, 4)
    );
    assert_eq!(
        (tallies[&id("late")].waiting, tallies[&id("late")].dropped),
        (3, 0)
    );
    assert_eq!(exchange.waiting_bytes, 10 * weight);
    exchange.set_routes(&routes(&["late"]));
    assert_eq!(exchange.waiting_bytes, 3 * weight);
}

#[test]
fn a_new_sink_gets_what_was_there_before_in_order() {
    let mut exchange = exchange(&["a"], EventSettings::default());
    exchange.on_watched(event(5, 1, 1));
    let joining = exchange.set_routes(&routes(&["a", "new"]));
    assert_eq!(joining, [(id("new"), 1)]);
    exchange.on_watched(event(7, 2, 1));
    assert_eq!(next(&mut exchange, "new"), None);
    // The list is of a time before or after what is told meanwhile.
    for listed in [event(7, 2, 1), event(5, 1, 1), event(8, 3, 1)] {
        exchange.on_joined(&id("new"), 1, listed);
    }
    exchange.end_joining(&id("new"), 1);
    exchange.on_watched(event(8, 3, 1));
    assert_eq!(next(&mut exchange, "new"), Some(vec![5, 7, 8]));
    assert_eq!(next(&mut exchange, "a"), Some(vec![5, 7, 8]));
}

#[test]
fn a_sink_that_was_refused_for_a_while_gets_what_happened_then() {
    let mut exchange = exchange(&["a"], EventSettings::default());
    exchange.on_watched(event(5, 1, 1));
    assert_eq!(next(&mut exchange, "a"), Some(vec![5]));
    let mut refused = Routes::default();
    refused.refused.insert(id("a"), None);
    exchange.set_routes(&refused);
    // What was under way arrives all the same.
    delivered(&mut exchange, "a");
    assert!(exchange.on_watched(event(6, 2, 1)).is_empty());
    assert_eq!(next(&mut exchange, "a"), None);
    assert_eq!(exchange.checkpoint().places["shop/a"], 5);

    let joining = exchange.set_routes(&routes(&["a"]));
    assert_eq!(joining, [(id("a"), 1)]);
    exchange.on_watched(event(7, 3, 1));
    for listed in [event(5, 1, 1), event(6, 2, 1)] {
        exchange.on_joined(&id("a"), 1, listed);
    }
    // A list from before it was refused says nothing.
    exchange.end_joining(&id("a"), 0);
    assert_eq!(next(&mut exchange, "a"), None);
    exchange.end_joining(&id("a"), 1);
    assert_eq!(next(&mut exchange, "a"), Some(vec![6, 7]));
}

#[test]
fn a_sink_that_was_made_anew_is_another_one() {
    let mut exchange = exchange(&["a"], EventSettings::default());
    exchange.on_watched(event(5, 1, 1));
    assert_eq!(next(&mut exchange, "a"), Some(vec![5]));
    let in_flight = number(&exchange, "a");
    exchange.on_watched(event(6, 2, 1));
    let mut anew = routes(&["a"]);
    let route = anew.open.get_mut(&id("a")).unwrap();
    Arc::make_mut(route).since = Some("2027-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(exchange.set_routes(&anew), [(id("a"), 1)]);
    exchange.on_outcome(&id("a"), in_flight, Outcome::Delivered);
    exchange.on_joined(&id("a"), 1, event(6, 2, 1));
    exchange.end_joining(&id("a"), 1);
    exchange.on_watched(event(7, 3, 1));
    assert_eq!(next(&mut exchange, "a"), Some(vec![7]));
}

#[test]
fn a_sink_that_wanted_none_gets_what_happens_from_then_on() {
    let mut exchange = exchange(&["a"], EventSettings::default());
    exchange.on_watched(event(5, 1, 1));
    let mut off = Routes::default();
    off.off.insert(id("a"));
    exchange.set_routes(&off);
    exchange.on_watched(event(6, 2, 1));
    assert!(exchange.set_routes(&routes(&["a"])).is_empty());
    exchange.on_watched(event(7, 3, 1));
    assert_eq!(next(&mut exchange, "a"), Some(vec![7]));
}

/// An API server, controllers one after the other, and what two sinks have got.
struct World {
    /// The version and the count of each Event.
    events: BTreeMap<usize, (u64, u64)>,
    version: u64,
    distributor: Distributor,
    stored: Checkpoint,
    names: Vec<&'static str>,
    refused: BTreeSet<&'static str>,
    /// Which Event each version is of, and when each has happened last.
    written: BTreeMap<u64, usize>,
    happened: BTreeMap<usize, u64>,
    /// Each sink's occurrences.
    got: BTreeMap<&'static str, Vec<u64>>,
}

#[derive(Clone, Debug)]
enum Step {
    Happens(usize),
    Touched(usize),
    Delivered(Index),
    Failed(Index),
    Stored,
    /// The watch has missed something.
    Relisted,
    /// The controller ends, with or without a last checkpoint.
    Killed,
    Ended,
    /// It ends while something is being listed, right after a checkpoint.
    EndedInList,
    SecondSink,
    EndedInJoin,
    /// A sink is not accepted any more, or is again.
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
            got: BTreeMap::from([("a", Vec::new()), ("b", Vec::new())]),
        };
        world.lead();
        world
    }

    fn lead(&mut self) {
        self.distributor = Distributor::new(self.stored.clone(), EventSettings::default());
        self.distributor.set_routes(&self.routes());
        self.list();
    }

    /// Each sink is newer than the one before.
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

    /// The first of the Events are listed for those who missed some. Gives whose
    /// lists these are.
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

    /// A batch is sent, and arrives or not.
    fn send(&mut self, index: Index, arrives: bool) {
        let name = *index.get(&self.names);
        let Some(versions) = next(&mut self.distributor, name) else {
            return;
        };
        if arrives {
            self.got.get_mut(name).unwrap().extend(versions);
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
    /// Whatever happens: every sink has in the end the last occurrence of every
    /// Event, and none twice unless a controller was killed.
    #[test]
    fn nothing_is_lost_and_nothing_told_twice(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.take(&Step::Accepted);
        for name in world.names.clone() {
            while let Some(versions) = next(&mut world.distributor, name) {
                world.got.get_mut(name).unwrap().extend(versions);
                delivered(&mut world.distributor, name);
            }
        }
        let was_killed = steps.iter().any(|step| matches!(step, Step::Killed));
        for name in &world.names {
            let mut got = world.got[name].clone();
            for (number, happened) in &world.happened {
                let is_it = |version: &u64| version >= happened && world.written[version] == *number;
                prop_assert!(got.iter().any(is_it), "{name} has not {number}: {got:?}");
            }
            if !was_killed {
                let all = got.len();
                got.sort_unstable();
                got.dedup();
                prop_assert_eq!(got.len(), all);
            }
        }
    }
}
