//! The queue of a sink's Events, and the batch in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::occurrence::Occurrence;
use super::route::Route;
use crate::delivery::EventTally;

/// The maximum number of Events in a batch, and its approximate maximum size in bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 512 * 1024;

/// The queue of a sink.
#[derive(Debug)]
pub(super) struct SinkQueue {
    /// The route; none while the sink is refused. Events of that time are listed later.
    pub(super) route: Option<Arc<Route>>,
    /// The sink's creation time.
    pub(super) since: Option<Timestamp>,
    /// The version up to which Events of a list are ignored.
    pub(super) from: u64,
    /// The number of the list of existing Events in progress for this sink.
    pub(super) joining: Option<u64>,
    pub(super) waiting: BTreeMap<u64, Arc<Occurrence>>,
    pub(super) waiting_bytes: usize,
    pub(super) in_flight: Option<EventBatch>,
    pub(super) is_sending: bool,
    pub(super) acknowledged: u64,
    pub(super) dropped: u64,
    /// The number of dropped Events that were not reported to the sink yet.
    pub(super) unreported: u64,
}

/// A batch of Events.
#[derive(Clone, Debug)]
pub(crate) struct EventBatch {
    /// The unique number.
    pub(crate) number: u64,
    /// The number of Events dropped before this batch, to be reported to the sink.
    pub(crate) dropped: u64,
    /// The time of that report.
    pub(crate) at: Timestamp,
    pub(crate) occurrences: Vec<Arc<Occurrence>>,
    /// The number of its first messages that were already delivered.
    pub(crate) delivered: usize,
}

impl SinkQueue {
    pub(super) const fn new(since: Option<Timestamp>, from: u64) -> Self {
        Self {
            route: None,
            since,
            from,
            joining: None,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            in_flight: None,
            is_sending: false,
            acknowledged: 0,
            dropped: 0,
            unreported: 0,
        }
    }

    /// Returns whether watched Events are queued, and no older ones are missing.
    pub(super) const fn is_watching(&self) -> bool {
        self.route.is_some() && self.joining.is_none()
    }

    /// Stops queueing, because the sink is refused.
    pub(super) fn close(&mut self, position: u64) {
        if self.is_watching() {
            self.from = position;
        }
        self.route = None;
        self.joining = None;
    }

    /// Adds an Event. Returns the number of bytes added.
    pub(super) fn push(&mut self, occurrence: Arc<Occurrence>) -> usize {
        let weight = occurrence.weight;
        if self
            .waiting
            .insert(occurrence.version, occurrence)
            .is_some()
        {
            return 0;
        }
        self.waiting_bytes += weight;
        weight
    }

    /// Drops the oldest Event. Returns the number of bytes removed.
    pub(super) fn give_up_oldest(&mut self) -> usize {
        let Some((_, oldest)) = self.waiting.pop_first() else {
            return 0;
        };
        self.waiting_bytes -= oldest.weight;
        self.count_dropped();
        oldest.weight
    }

    /// Counts a dropped Event.
    pub(super) const fn count_dropped(&mut self) {
        self.dropped += 1;
        self.unreported += 1;
    }

    pub(super) fn batch(&mut self, number: u64, now: Timestamp) -> Option<EventBatch> {
        let mut occurrences = Vec::new();
        let mut bytes = 0;
        while occurrences.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some((_, oldest)) = self.waiting.pop_first()
        {
            bytes += oldest.weight;
            occurrences.push(oldest);
        }
        self.waiting_bytes -= bytes;
        let is_something = !occurrences.is_empty() || self.unreported > 0;
        is_something.then_some(EventBatch {
            number,
            dropped: self.unreported,
            at: now,
            occurrences,
            delivered: 0,
        })
    }

    /// Returns the version up to which the sink has everything; none if nothing waits.
    pub(super) fn position(&self, is_listing: bool) -> Option<u64> {
        let in_flight = self.in_flight.as_ref().and_then(|o| o.occurrences.first());
        let in_flight = in_flight.map(|oldest| oldest.version.saturating_sub(1));
        let waiting = self.waiting.first_key_value();
        let waiting = waiting.map(|(version, _)| version.saturating_sub(1));
        let listed = (!self.is_watching() || is_listing).then_some(self.from);
        in_flight.into_iter().chain(waiting).chain(listed).min()
    }

    pub(super) fn tally(&self) -> EventTally {
        let in_flight = self.in_flight.as_ref().map_or(0, |o| o.occurrences.len());
        EventTally {
            acknowledged: self.acknowledged,
            dropped: self.dropped,
            waiting: (self.waiting.len() + in_flight) as u64,
        }
    }
}
