//! What waits for one sink, and what is under way to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::occurrence::Occurrence;
use super::route::Route;
use crate::delivery::EventTally;

/// The most occurrences of a batch, and about how many bytes they have.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 512 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct SinkQueue {
    /// None while the sink is refused: what happens is listed for it later.
    pub(super) route: Option<Arc<Route>>,
    /// When the sink was made.
    pub(super) since: Option<Timestamp>,
    /// What is not newer than this is not to be taken from a list.
    pub(super) from: u64,
    /// Which list for it alone is under output, of the Events from before.
    pub(super) joining: Option<u64>,
    pub(super) waiting: BTreeMap<u64, Arc<Occurrence>>,
    pub(super) waiting_bytes: usize,
    pub(super) in_flight: Option<EventBatch>,
    pub(super) is_sending: bool,
    pub(super) acknowledged: u64,
    pub(super) dropped: u64,
    /// How many of those the sink was not told of.
    pub(super) unreported: u64,
}

/// What a sink gets next.
#[derive(Clone, Debug)]
pub(crate) struct EventBatch {
    /// No other batch has it.
    pub(crate) number: u64,
    /// How many occurrences before these it does not get.
    pub(crate) dropped: u64,
    /// When that was noticed.
    pub(crate) at: Timestamp,
    pub(crate) occurrences: Vec<Arc<Occurrence>>,
    /// How many of its first messages were delivered already.
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

    /// Whether what happens is put into its queue, and nothing from before is
    /// missing there.
    pub(super) const fn is_watching(&self) -> bool {
        self.route.is_some() && self.joining.is_none()
    }

    /// The sink is refused: what happens from now on is not put into its queue.
    pub(super) fn close(&mut self, position: u64) {
        if self.is_watching() {
            self.from = position;
        }
        self.route = None;
        self.joining = None;
    }

    /// The answer is how many bytes more wait.
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

    /// The answer is how many bytes fewer wait.
    pub(super) fn give_up_oldest(&mut self) -> usize {
        let Some((_, oldest)) = self.waiting.pop_first() else {
            return 0;
        };
        self.waiting_bytes -= oldest.weight;
        self.count_dropped();
        oldest.weight
    }

    /// One that the sink does not get.
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

    /// The newest version up to which the sink needs nothing any more; none where
    /// it needs nothing at all.
    pub(super) fn place(&self, is_listing: bool) -> Option<u64> {
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
