//! Distribution of Events to the sinks' queues. Pure: it is notified of what was read and
//! what was delivered.
//!
//! ```text
//! list, watch -> occurrence -> each sink that wants it -> its queue, by version
//!             next batch <- queue -> delivered: removed
//!                                 -> failed: the same batch again
//! ```
//!
//! Events that a sink has not acknowledged yet are behind the [`Checkpoint`], from which
//! the next leader continues: it lists the Events again, and those newer than the sink's
//! position are new for the sink.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use syslog::Outcome;

use super::checkpoint::Checkpoint;
use super::occurrence::{Occurrence, Repetition};
use super::route::{Route, Routes};
use super::sink_queue::{EventBatch, SinkQueue};
use crate::delivery::EventTally;
use crate::settings::EventSettings;
use crate::snapshot::SinkId;
use crate::tenants::Reads;

/// The queues of all sinks, and the position in the stream of Events.
#[derive(Debug)]
pub(crate) struct Distributor {
    settings: EventSettings,
    /// The checkpoint of the previous leader, for sinks that this one has not seen yet.
    checkpoint: Checkpoint,
    queues: BTreeMap<SinkId, SinkQueue>,
    /// The sinks that wanted no events at the last change of routes.
    off: BTreeSet<SinkId>,
    /// The numbers of batches, and of lists for single sinks, so far.
    batches: u64,
    joins: u64,
    /// The sinks that may want a namespace's Events, by namespace; `of_many` are those of
    /// several.
    by_namespace: HashMap<String, Vec<SinkId>>,
    of_many: Vec<SinkId>,
    /// The version of the newest Event.
    position: u64,
    stage: Stage,
    /// The last repetition of each Event, both as hashes: an Event that is written again
    /// without a new occurrence is ignored.
    last_seen: HashMap<u64, u64>,
    hasher: RandomState,
    /// The size of all queues in bytes.
    waiting_bytes: usize,
    totals: EventTally,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// Nothing has been read yet.
    Begun,
    /// All Events are being listed.
    Listing {
        /// The replacement of `last_seen`.
        last_seen: HashMap<u64, u64>,
        newest: u64,
    },
    /// Events are watched.
    Watching,
}

impl Distributor {
    pub(crate) fn new(checkpoint: Checkpoint, settings: EventSettings) -> Self {
        Self {
            settings,
            position: checkpoint.version,
            checkpoint,
            queues: BTreeMap::new(),
            off: BTreeSet::new(),
            batches: 0,
            joins: 0,
            by_namespace: HashMap::new(),
            of_many: Vec::new(),
            stage: Stage::Begun,
            last_seen: HashMap::new(),
            hasher: RandomState::new(),
            waiting_bytes: 0,
            totals: EventTally::default(),
        }
    }

    /// Sets the current sinks. Returns those for which existing Events must be listed
    /// ([`Distributor::on_joined`]), with the numbers of their lists.
    pub(crate) fn set_routes(&mut self, routes: &Routes) -> Vec<(SinkId, u64)> {
        let Routes { open, refused, off } = routes;
        // A sink that was deleted and created again shares only its name with the previous one.
        let made = |id: &SinkId| match open.get(id) {
            Some(route) => Some(route.since),
            None => refused.get(id).copied(),
        };
        let is_gone = |id: &SinkId, queue: &mut SinkQueue| made(id) != Some(queue.since);
        for (_, queue) in self.queues.extract_if(.., is_gone) {
            self.waiting_bytes -= queue.waiting_bytes;
        }
        let position = self.position;
        for (id, since) in refused {
            self.queue(id, *since).close(position);
        }
        // The first list is for all.
        let is_before_first_list = self.stage == Stage::Begun;
        let mut joining = Vec::new();
        for (id, route) in open {
            let was_off = self.off.contains(id);
            let list = self.joins + 1;
            let queue = self.queue(id, route.since);
            let was_open = queue.route.replace(Arc::clone(route)).is_some();
            if was_open || is_before_first_list {
                continue;
            }
            if was_off {
                queue.from = position;
            } else {
                queue.joining = Some(list);
                self.joins = list;
                joining.push((id.clone(), list));
            }
        }
        self.off.clone_from(off);
        self.index();
        joining
    }

    /// Returns the queue of a sink, and creates it if there is none.
    fn queue(&mut self, id: &SinkId, since: Option<Timestamp>) -> &mut SinkQueue {
        let from = match self.stage {
            Stage::Begun => self.checkpoint.position_of(id, since),
            // Of a sink that is new everything is listed.
            _ => 0,
        };
        let queue = self.queues.entry(id.clone());
        queue.or_insert_with(|| SinkQueue::new(since, from))
    }

    fn index(&mut self) {
        self.by_namespace.clear();
        self.of_many.clear();
        for (id, queue) in &self.queues {
            match queue.route.as_ref().map(|route| &route.reads) {
                Some(Reads::Only(namespaces)) => {
                    for namespace in namespaces {
                        let ids = self.by_namespace.entry(namespace.clone()).or_default();
                        ids.push(id.clone());
                    }
                }
                Some(Reads::AllBut(_)) => self.of_many.push(id.clone()),
                None => {}
            }
        }
    }

    /// Starts a list of all Events: the first one, or one after the watch has missed some.
    pub(crate) fn begin_list(&mut self) {
        // One that was broken off is gone on with.
        if self.stage == Stage::Watching {
            for queue in self.queues.values_mut().filter(|o| o.is_watching()) {
                queue.from = self.position;
            }
        }
        self.stage = Stage::Listing {
            last_seen: HashMap::new(),
            newest: 0,
        };
    }

    /// Adds an Event of the list.
    pub(crate) fn on_listed(&mut self, occurrence: Occurrence) {
        let (uid, repetition) = self.marks(&occurrence);
        let Stage::Listing { last_seen, newest } = &mut self.stage else {
            debug_assert!(false, "nothing is being listed");
            return;
        };
        last_seen.insert(uid, repetition);
        *newest = occurrence.version.max(*newest);
        if self.last_seen.get(&uid) == Some(&repetition) {
            return;
        }
        self.route(occurrence, |queue, route, occurrence| {
            occurrence.version > queue.from && route.matches_listed(occurrence)
        });
    }

    /// Ends the list. The watch follows.
    pub(crate) fn end_list(&mut self) {
        if let Stage::Listing { last_seen, newest } =
            std::mem::replace(&mut self.stage, Stage::Watching)
        {
            self.last_seen = last_seen;
            self.position = self.position.max(newest);
        }
    }

    /// Adds a watched Event. Returns the sinks that want it.
    pub(crate) fn on_watched(&mut self, occurrence: Occurrence) -> Vec<SinkId> {
        // It goes back only where a database was restored.
        self.position = occurrence.version;
        let (uid, repetition) = self.marks(&occurrence);
        if self.last_seen.insert(uid, repetition) == Some(repetition) {
            return Vec::new();
        }
        self.route(occurrence, |_, route, occurrence| route.matches(occurrence))
    }

    /// Removes an Event that has expired.
    pub(crate) fn on_expired(&mut self, uid: &str) {
        self.last_seen.remove(&self.hasher.hash_one(uid));
    }

    /// Adds an Event to a new sink, from the list with this number.
    pub(crate) fn on_joined(&mut self, id: &SinkId, list: u64, occurrence: Occurrence) {
        if let Some(queue) = self.queues.get_mut(id)
            && let Some(route) = &queue.route
            && queue.joining == Some(list)
            && occurrence.version > queue.from
            && route.matches_listed(&occurrence)
        {
            self.waiting_bytes += queue.push(Arc::new(occurrence));
            self.trim(id);
        }
    }

    /// Ends the list for a new sink.
    pub(crate) fn end_joining(&mut self, id: &SinkId, list: u64) {
        if let Some(queue) = self.queues.get_mut(id) {
            queue.joining.take_if(|joining| *joining == list);
        }
    }

    /// Returns the next batch of a sink, if there is one and none is in flight.
    pub(crate) fn next(&mut self, id: &SinkId, now: Timestamp) -> Option<&EventBatch> {
        let queue = self.queues.get_mut(id)?;
        let is_listed = self.stage == Stage::Watching && queue.is_watching();
        if queue.is_sending || !is_listed {
            return None;
        }
        if queue.in_flight.is_none() {
            let before = queue.waiting_bytes;
            self.batches += 1;
            queue.in_flight = queue.batch(self.batches, now);
            self.waiting_bytes -= before - queue.waiting_bytes;
        }
        queue.is_sending = queue.in_flight.is_some();
        queue.in_flight.as_ref()
    }

    /// Handles the outcome of the batch with this number.
    pub(crate) fn on_outcome(&mut self, id: &SinkId, number: u64, outcome: Outcome) {
        let Some(queue) = self.queues.get_mut(id) else {
            return;
        };
        let is_current = |outgoing: &mut EventBatch| outgoing.number == number;
        let Some(mut outgoing) = queue.in_flight.take_if(is_current) else {
            // The sink was another one then.
            return;
        };
        queue.is_sending = false;
        match outcome {
            Outcome::Delivered => {
                let count = outgoing.occurrences.len() as u64;
                queue.acknowledged += count;
                self.totals.acknowledged += count;
                queue.unreported -= outgoing.dropped;
            }
            Outcome::Retry { skip } => {
                outgoing.delivered = skip;
                queue.in_flight = Some(outgoing);
            }
        }
    }

    /// Resets the progress of a batch in flight, because the server or the format of
    /// messages has changed.
    pub(crate) fn start_over(&mut self, id: &SinkId) {
        let queue = self.queues.get_mut(id);
        if let Some(outgoing) = queue.and_then(|queue| queue.in_flight.as_mut()) {
            outgoing.delivered = 0;
        }
    }

    /// Counts a message of a batch that the receiver does not accept.
    pub(crate) fn on_given_up(&mut self, id: &SinkId) {
        if let Some(queue) = self.queues.get_mut(id) {
            queue.count_dropped();
            self.totals.dropped += 1;
        }
    }

    /// Returns whether a batch to this sink is in flight.
    pub(crate) fn is_sending(&self, id: &SinkId) -> bool {
        self.queues.get(id).is_some_and(|queue| queue.is_sending)
    }

    /// Returns whether a batch to any sink is in flight.
    pub(crate) fn awaits_any(&self) -> bool {
        self.queues.values().any(|queue| queue.is_sending)
    }

    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&SinkId, EventTally)> {
        self.queues.iter().map(|(id, queue)| (id, queue.tally()))
    }

    /// Returns the counts of all sinks together.
    pub(crate) fn totals(&self) -> EventTally {
        let waiting = self.queues.values().map(|o| o.tally().waiting).sum();
        EventTally {
            waiting,
            ..self.totals
        }
    }

    /// Returns the checkpoint for the next leader.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let newest = self.queues.values().filter_map(|o| o.since).max();
        let mut checkpoint = Checkpoint {
            version: self.position,
            sinks_until: newest,
            positions: BTreeMap::new(),
        };
        let is_listing = self.stage != Stage::Watching;
        let position = |queue: &SinkQueue| queue.position(is_listing).unwrap_or(self.position);
        let positions = self.queues.iter().map(|(id, o)| (id, o, position(o)));
        let (behind, others): (Vec<_>, Vec<_>) =
            positions.partition(|(_, _, position)| *position < self.position);
        // The creation time does not show which of the sinks that are as old as the newest
        // one are known.
        let known = others.iter().filter(|(_, o, _)| o.since == newest);
        for (id, _, position) in behind.iter().chain(known) {
            checkpoint.put(id, *position);
        }
        checkpoint
    }

    fn marks(&self, occurrence: &Occurrence) -> (u64, u64) {
        let repetition: Repetition = occurrence.repetition();
        (
            self.hasher.hash_one(occurrence.uid()),
            self.hasher.hash_one(repetition),
        )
    }

    /// Adds an Event to the queues of the sinks that want it, and returns these.
    fn route(
        &mut self,
        occurrence: Occurrence,
        wants: impl Fn(&SinkQueue, &Route, &Occurrence) -> bool,
    ) -> Vec<SinkId> {
        let own = self.by_namespace.get(occurrence.namespace());
        let may_want = own.into_iter().flatten().chain(&self.of_many);
        let occurrence = Arc::new(occurrence);
        let mut wanting = Vec::new();
        for id in may_want {
            if let Some(queue) = self.queues.get_mut(id)
                && let Some(route) = &queue.route
                && wants(queue, route, &occurrence)
            {
                self.waiting_bytes += queue.push(Arc::clone(&occurrence));
                wanting.push(id.clone());
            }
        }
        for id in &wanting {
            self.trim(id);
        }
        wanting
    }

    /// Drops the oldest Events of this sink's queue if it is too large, or of the largest
    /// queue if all together are.
    fn trim(&mut self, id: &SinkId) {
        if let Some(queue) = self.queues.get_mut(id) {
            while queue.waiting_bytes > self.settings.max_bytes_per_sink {
                self.waiting_bytes -= queue.give_up_oldest();
                self.totals.dropped += 1;
            }
        }
        while self.waiting_bytes > self.settings.max_bytes {
            let longest = self.queues.values_mut().max_by_key(|o| o.waiting_bytes);
            match longest.map(SinkQueue::give_up_oldest) {
                None | Some(0) => break,
                Some(bytes) => {
                    self.waiting_bytes -= bytes;
                    self.totals.dropped += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
