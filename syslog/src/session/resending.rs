//! The frames that are sent again, and the conclusions from the end of a connection: which
//! frames the peer may have lost, and which frame it may have rejected.

use std::time::{Duration, Instant};

use super::connection_state::{ConnectionState, Resending};
use super::cut::Cut;
use super::entry::Entry;
use super::outcome::{End, Side};
use super::policy::Policy;
use super::{Session, State};
use crate::replay::unread_bound;

impl<T> Session<T> {
    /// Queues the kept frames before everything else.
    pub(super) fn send_replay(&mut self) -> usize {
        let bytes = self.replay.bytes();
        for kept in self.replay.take().into_iter().rev() {
            self.queue
                .push_front(Entry::new(kept.batch, kept.from, None));
        }
        self.connection.resending = Resending::UnderWay;
        bytes
    }

    /// Queues the frames of the search's next probe.
    pub(super) fn send_probe(&mut self, now: Instant) -> usize {
        self.connection.resending = Resending::UnderWay;
        let Some(probe) = self.suspects.probe() else {
            self.connection.survives_at = Some(now + self.survival_time());
            return 0;
        };
        let bytes = probe.bytes().len();
        self.queue.push_front(Entry::new(probe, 0, None));
        bytes
    }

    /// Handles a connection that survived the frames that were sent.
    pub(super) fn survive(&mut self, now: Instant) {
        self.suspects.on_survived(&mut self.replay, now);
        self.totals.exposed_bytes += self.suspects.take_exposed();
        if self.suspects.is_searching() {
            self.send_probe(now);
        } else if self.replay_pending {
            self.send_replay();
        }
    }

    /// Drops frames that are too old and, after an orderly end, frames that the peer has
    /// read.
    pub(super) fn trim_replay(&mut self, now: Instant, end: End) {
        self.replay.expire(now);
        if let (End::ClosedByBoth | End::Closed, State::Closing { since, .. }) = (end, self.state) {
            self.replay.drop_older(self.policy.close_timeout, since);
        }
    }

    /// Counts the bytes that the peer may have lost and that are no longer kept.
    pub(super) fn count_exposed(&mut self, end: End) {
        let evicted = self.replay.take_evicted();
        if let (End::ClosedByBoth | End::Closed, State::Closing { since, .. }) = (end, self.state)
            && let Some(oldest) = self.replay.oldest()
            && oldest + self.policy.close_timeout <= since
        {
            // Evicted frames are older than those the peer may have lost.
            return;
        }
        let unread = unread_bound(self.connection.window) as u64;
        let unread = unread.min(self.connection.acknowledged_bytes);
        let exposed = unread.saturating_sub(self.replay.bytes() as u64);
        self.totals.exposed_bytes += exposed.min(evicted);
    }

    /// Counts the end of the connection for the first frame of a batch, if the peer had
    /// not acknowledged this frame. The frame may be the reason.
    pub(super) fn count_cut(&mut self, now: Instant) {
        let Some(front) = self.queue.front() else {
            return;
        };
        let (Some(since), Some(began), Some(_)) =
            (front.since, self.connection.began, &front.token)
        else {
            return;
        };
        if front.acknowledged < front.batch.frame_end(front.from) {
            let cut = Cut {
                is_alone: front.is_suspect,
                others_survived: began + self.policy.close_timeout <= since,
            };
            self.suspects.add_cut(front.first_frame(), cut, now);
            self.connection.was_cut = true;
        }
    }

    /// Reports the end of the connection to the suspects.
    pub(super) fn update_suspects(&mut self, now: Instant, end: End) {
        let ConnectionState {
            resending,
            began,
            was_cut,
            ..
        } = self.connection;
        let lived = self.lifetime(now);
        if lived >= self.policy.close_timeout && self.connection.has_acknowledged() && !was_cut {
            self.suspects.others_survived();
        }
        let own = matches!(self.state, State::Closing { by: Side::Own, .. });
        let by_peer = !own && matches!(end, End::Broken | End::Closed);
        let within = |at| now.saturating_duration_since(at) < self.policy.write_timeout;
        let early = match resending {
            Resending::Nothing => return,
            Resending::UnderWay => by_peer,
            Resending::Done { at } => by_peer && within(at),
        };
        if early || !self.suspects.is_searching() {
            let took = began.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            self.suspects.on_ended(early, took, &mut self.replay, now);
        }
    }

    pub(super) fn survival_time(&self) -> Duration {
        let Policy {
            close_timeout,
            write_timeout,
            ..
        } = self.policy;
        self.suspects.survival_time(close_timeout, write_timeout)
    }
}
