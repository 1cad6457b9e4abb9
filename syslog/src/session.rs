//! The delivery of batches over one connection after another, as a state
//! machine: the driver owns the sockets and reports what happened and when.
//!
//! ```text
//!             connected               closing
//!     Idle --------------------> Up ------------> Closing
//!    ^ ^  \                      | broken            | reset, answered,
//!    | |   \ no server answers   |                   | or close_timeout
//!    | |    v                    |                   |
//!    | +-- Waiting (wait over)   |                   |
//!    +---------------------------+-------------------+
//! ```
//!
//! The frames delivered last are kept ([`Replay`]), because an acknowledged
//! frame may be unread. How much of them is sent again on the next connection,
//! before everything else, depends on how this one ended ([`End`]): duplicates
//! rather than losses.
//!
//! A batch is [`Outcome::Delivered`] once the peer acknowledged its last byte,
//! and [`Outcome::Retry`] in every other case, with the number of frames that
//! need not be sent again. There is no third outcome, and every state that
//! waits has an end.
//!
//! A frame at which the peer ends its connections is found and given up
//! (`suspects.rs`), so that it does not block those behind it.

mod connection_state;
mod cut;
mod outcome;
mod policy;
mod search;
mod suspects;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::connection_state::{ConnectionState, Resending};
use self::cut::Cut;
pub use self::outcome::{End, Expiry, Finished, Outcome, Side};
pub use self::policy::Policy;
use self::suspects::Suspects;
use crate::Batch;
use crate::replay::{Replay, unread_bound};
use crate::totals::Totals;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Up {
        since: Instant,
    },
    Closing {
        since: Instant,
        by: Side,
        lived: Duration,
    },
    Waiting {
        until: Instant,
    },
}

#[derive(Debug)]
struct Entry<T> {
    batch: Batch,
    /// None for frames that are sent again: nobody waits for them.
    token: Option<T>,
    /// The offset of the first frame to be sent.
    from: usize,
    /// Up to where the connection has taken the batch.
    taken: usize,
    /// Up to where the peer has acknowledged it.
    acknowledged: usize,
    /// When the connection took its first bytes.
    since: Option<Instant>,
    /// The first frame is sent alone: connections ended within it.
    is_suspect: bool,
}

impl<T> Entry<T> {
    fn new(batch: Batch, from: usize, token: Option<T>) -> Self {
        Self {
            batch,
            token,
            from,
            taken: from,
            acknowledged: from,
            since: None,
            is_suspect: false,
        }
    }

    /// The end of what may be sent.
    fn end(&self) -> usize {
        if self.is_suspect {
            self.batch.frame_end(self.from)
        } else {
            self.batch.bytes().len()
        }
    }

    /// The first frame to be sent.
    fn first_frame(&self) -> &[u8] {
        &self.batch.bytes()[self.from..self.batch.frame_end(self.from)]
    }
}

/// Bytes that the connection took, and where they end on the wire.
#[derive(Clone, Copy, Debug)]
struct Mark {
    wire: u64,
    count: usize,
    /// The connection can never take them.
    refused: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Session<T> {
    policy: Policy,
    state: State,
    /// Oldest first; those taken whole come before those that are not.
    queue: VecDeque<Entry<T>>,
    /// How many entries of `queue` were taken whole.
    taken: usize,
    /// What was taken and not acknowledged, in the order of the wire.
    marks: VecDeque<Mark>,
    finished: VecDeque<Finished<T>>,
    /// No server could be reached, and none has been since.
    down: bool,
    connection: ConnectionState,
    replay: Replay,
    /// What `replay` holds has to be sent again.
    replay_pending: bool,
    suspects: Suspects,
    totals: Totals,
}

impl<T> Session<T> {
    /// A session without a connection and without batches.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Idle,
            queue: VecDeque::new(),
            taken: 0,
            marks: VecDeque::new(),
            finished: VecDeque::new(),
            down: false,
            connection: ConnectionState::default(),
            replay: Replay::new(policy.replay_buffer.limit(0), policy.replay_age),
            replay_pending: false,
            suspects: Suspects::new(),
            totals: Totals::NOTHING,
        }
    }

    /// Takes a batch for delivery, without its first `skip` frames, which were
    /// delivered before. While the peer is known to be down, or is being
    /// searched for the frame that ends its connections, the batch finishes at
    /// once, with [`Outcome::Retry`].
    pub fn submit(&mut self, batch: Batch, skip: usize, token: T) {
        let mut skip = skip;
        let mut from = batch.frame_start(skip);
        while from < batch.bytes().len()
            && self
                .suspects
                .gives_up(&batch.bytes()[from..batch.frame_end(from)])
        {
            skip += 1;
            from = batch.frame_start(skip);
        }
        let outcome = if from == batch.bytes().len() {
            Outcome::Delivered
        } else if self.down || self.is_searching() {
            Outcome::Retry { delivered: skip }
        } else {
            let mut entry = Entry::new(batch, from, Some(token));
            entry.is_suspect = self.suspects.is_suspect(entry.first_frame());
            self.queue.push_back(entry);
            return;
        };
        self.finished.push_back(Finished {
            batch: Some(batch),
            token,
            outcome,
            took: None,
        });
    }

    /// Whether the last attempt to reach a server failed.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// Whether there is a connection, and neither side has closed it.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether a closed connection is watched.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Whether a batch waits for its end, frames wait to be sent again, or it
    /// is not known yet whether they have to be.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.replay_pending || self.is_searching() || self.is_closing()
    }

    /// Whether connections are tried for the frame that ends them: the next
    /// one has to come soon, however the last one ended.
    #[must_use]
    pub const fn is_searching(&self) -> bool {
        self.suspects.is_searching()
    }

    /// Whether the connection took what the peer has not acknowledged.
    #[must_use]
    pub fn awaits_acknowledgement(&self) -> bool {
        !self.marks.is_empty()
    }

    /// How many bytes of frames are kept at most.
    #[must_use]
    pub const fn replay_limit(&self) -> usize {
        self.replay.limit()
    }

    /// Bytes of frames that are kept to be sent again.
    #[must_use]
    pub fn replay_bytes(&self) -> usize {
        self.replay.bytes() + self.suspects.bytes()
    }

    /// The number of the first frame that is held, to be sent or to be sent again
    /// ([`Batch::numbered`]).
    #[must_use]
    pub fn first_number(&self) -> Option<u64> {
        let queue = self.queue.iter();
        let queue = queue.map(|entry| entry.batch.number_at(entry.from));
        // After a search, older frames may be behind newer ones.
        let depth = if self.suspects.has_searched() {
            usize::MAX
        } else {
            1
        };
        let held = queue.take(depth).chain(self.replay.numbers().take(depth));
        held.chain(self.suspects.first_number()).min()
    }

    /// The bytes of frames that the connection has not taken yet.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        let unsent = self.queue.iter().skip(self.taken);
        unsent
            .map(|entry| entry.batch.bytes().len() - entry.taken)
            .sum()
    }

    /// Takes frames that were delivered before there was this session, and that
    /// the peer may have lost unread: they are sent again on the first
    /// connection. Of more than may be kept, the newest are.
    pub fn restore(&mut self, batch: Batch, now: Instant) {
        let bytes = self.replay.bytes() + batch.bytes().len();
        self.replay
            .raise_limit(bytes.min(self.policy.replay_buffer.most()));
        self.replay.keep(batch, 0, now);
        self.replay_pending = true;
    }

    /// What was done since the beginning.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the driver shall connect now; it bounds how long that takes.
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        self.state == State::Idle
    }

    /// No server could be connected to. The next attempt is `wait` away.
    pub fn on_failed(&mut self, now: Instant, wait: Duration) {
        self.state = State::Waiting { until: now + wait };
        self.down = true;
        self.fail_all(now);
    }

    /// Ends a wait before the next attempt.
    pub fn retry_now(&mut self) {
        if let State::Waiting { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// The connection is ready for messages. Returns how many bytes are sent
    /// again first.
    pub fn on_connected(&mut self, now: Instant) -> usize {
        self.state = State::Up { since: now };
        self.down = false;
        self.connection = ConnectionState::default();
        self.suspects.on_connected(now);
        if self.suspects.is_searching() {
            return self.send_probe(now);
        }
        if self.replay_pending {
            self.send_replay()
        } else {
            0
        }
    }

    /// Queues what is kept, before everything else.
    fn send_replay(&mut self) -> usize {
        let bytes = self.replay.bytes();
        for kept in self.replay.take().into_iter().rev() {
            self.queue
                .push_front(Entry::new(kept.batch, kept.from, None));
        }
        self.connection.resending = Resending::UnderWay;
        bytes
    }

    /// Queues the frames that the search wants to be sent.
    fn send_probe(&mut self, now: Instant) -> usize {
        self.connection.resending = Resending::UnderWay;
        let Some(probe) = self.suspects.probe() else {
            self.connection.survives_at = Some(now + self.survival_time());
            return 0;
        };
        let bytes = probe.bytes().len();
        self.queue.push_front(Entry::new(probe, 0, None));
        bytes
    }

    /// The peer advertised a receive window of this many bytes. Returns
    /// whether it can hold more unread than is kept, for the first time on
    /// this connection.
    pub fn on_window(&mut self, window: usize) -> bool {
        let before = self.connection.window;
        if window <= before {
            return false;
        }
        self.connection.window = window;
        self.replay
            .raise_limit(self.policy.replay_buffer.limit(window));
        let exceeds = |window| unread_bound(window) > self.replay.limit();
        self.replay.limit() > 0 && exceeds(window) && !exceeds(before)
    }

    /// A side closed the connection in an orderly way. Nothing is sent on it
    /// any more. Returns whether it has to be watched: until it is reset
    /// ([`End::Broken`]), the peer answers ([`End::Answered`]), or
    /// [`Session::on_timeout`] ends it. Otherwise [`Session::on_ended`] is
    /// called now.
    pub fn on_closing(&mut self, now: Instant, by: Side) -> bool {
        if by == Side::Peer {
            self.note_cut(now);
        }
        self.fail_all(now);
        let lived = self.lived(now);
        self.state = State::Closing {
            since: now,
            by,
            lived,
        };
        let Some(oldest) = self.replay.oldest() else {
            return false;
        };
        match by {
            // If everything is in doubt already, a reset changes nothing.
            Side::Peer => !self.replay_pending && oldest + self.policy.close_timeout <= now,
            Side::Own => !self.replay_pending,
        }
    }

    /// The connection ended. Returns whether it lived for a while and the peer
    /// acknowledged something, so that the same server may be tried again at
    /// once: one that accepts and closes must not be reconnected to in a loop.
    pub fn on_ended(&mut self, now: Instant, end: End) -> bool {
        self.count_exposed(end);
        if end == End::Broken && self.is_up() {
            self.note_cut(now);
        }
        self.fail_all(now);
        let lived = self.lived(now);
        if !self.replay_pending {
            self.trim_replay(now, end);
        }
        self.look_for_suspects(now, end);
        self.replay_pending = !self.replay.is_empty();
        let enough = if self.connection.has_acknowledged() {
            self.policy.backoff_min
        } else {
            self.policy.backoff_max
        };
        self.state = State::Idle;
        lived >= enough
    }

    /// How long the connection was up.
    fn lived(&self, now: Instant) -> Duration {
        match self.state {
            State::Up { since } => now.saturating_duration_since(since),
            State::Closing { lived, .. } => lived,
            State::Idle | State::Waiting { .. } => Duration::ZERO,
        }
    }

    /// Drops what is too old, and after an orderly end what the peer has read.
    fn trim_replay(&mut self, now: Instant, end: End) {
        self.replay.expire(now);
        if let (End::Answered | End::Closed, State::Closing { since, .. }) = (end, self.state) {
            self.replay.drop_older(self.policy.close_timeout, since);
        }
    }

    /// Counts what the peer may have lost and is not kept any more.
    fn count_exposed(&mut self, end: End) {
        let evicted = self.replay.take_evicted();
        if let (End::Answered | End::Closed, State::Closing { since, .. }) = (end, self.state)
            && let Some(oldest) = self.replay.oldest()
            && oldest + self.policy.close_timeout <= since
        {
            // What was evicted is older than what is in doubt.
            return;
        }
        let unread = unread_bound(self.connection.window) as u64;
        let unread = unread.min(self.connection.acknowledged);
        let exposed = unread.saturating_sub(self.replay.bytes() as u64);
        self.totals.exposed_bytes += exposed.min(evicted);
    }

    /// The peer ended the connection before it had acknowledged the first frame
    /// of a batch: that may be the reason.
    fn note_cut(&mut self, now: Instant) {
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

    fn look_for_suspects(&mut self, now: Instant, end: End) {
        let ConnectionState {
            resending,
            began,
            was_cut,
            ..
        } = self.connection;
        let lived = self.lived(now);
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

    fn survival_time(&self) -> Duration {
        let Policy {
            close_timeout,
            write_timeout,
            ..
        } = self.policy;
        self.suspects.survival_time(close_timeout, write_timeout)
    }

    /// The bytes to be sent next; empty where there are none.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        match self.queue.get(self.taken) {
            Some(entry) if !self.is_up() || self.must_wait(entry) => &[],
            Some(entry) => &entry.batch.bytes()[entry.taken..entry.end()],
            None => &[],
        }
    }

    /// Whether an entry waits until nothing else is under way.
    fn must_wait(&self, entry: &Entry<T>) -> bool {
        entry.is_suspect && entry.taken == entry.from && !self.marks.is_empty()
    }

    /// The frame to be sent next, for a connection that sends each on its own.
    #[must_use]
    pub fn transmit_frame(&self) -> &[u8] {
        match self.queue.get(self.taken) {
            Some(entry) if self.is_up() => {
                &entry.batch.bytes()[entry.taken..entry.batch.frame_end(entry.taken)]
            }
            _ => &[],
        }
    }

    /// The connection took `count` of the bytes to be sent. `wire` is the
    /// position, in the connection's own count, that the peer will have
    /// acknowledged once it has them.
    pub fn on_taken(&mut self, count: usize, wire: u64, now: Instant) {
        let Some(entry) = self.queue.get_mut(self.taken) else {
            debug_assert!(count == 0, "bytes that nobody submitted");
            return;
        };
        self.connection.progress.get_or_insert(now);
        if count == 0 {
            return;
        }
        self.connection.began.get_or_insert(now);
        self.marks.push_back(Mark {
            wire,
            count,
            refused: false,
        });
        entry.since.get_or_insert(now);
        let range = entry.taken..entry.taken + count;
        self.totals.sent.add(&entry.batch, range.clone());
        if entry.token.is_none() {
            self.totals.resent.add(&entry.batch, range);
        }
        entry.taken += count;
        debug_assert!(entry.taken <= entry.batch.bytes().len());
        if entry.taken == entry.batch.bytes().len() {
            self.taken += 1;
        }
    }

    /// The connection can never take the frame to be sent next, which is given
    /// up: nobody waits for its acknowledgement.
    pub fn on_refused(&mut self, now: Instant) {
        let Some(entry) = self.queue.get_mut(self.taken) else {
            debug_assert!(false, "a frame that nobody submitted");
            return;
        };
        let end = entry.batch.frame_end(entry.taken);
        let before = self
            .marks
            .back()
            .map_or(self.connection.wire, |mark| mark.wire);
        self.marks.push_back(Mark {
            wire: before,
            count: end - entry.taken,
            refused: true,
        });
        entry.taken = end;
        if end == entry.batch.bytes().len() {
            self.taken += 1;
        }
        self.take_acknowledged(now);
    }

    /// The peer acknowledged everything before the position `wire`.
    pub fn on_acknowledged(&mut self, wire: u64, now: Instant) {
        if wire <= self.connection.wire {
            return;
        }
        self.connection.wire = wire;
        if self.connection.progress.is_some() {
            self.connection.progress = Some(now);
        }
        self.take_acknowledged(now);
    }

    /// Takes over what the marks say.
    fn take_acknowledged(&mut self, now: Instant) {
        let wire = self.connection.wire;
        while let Some(mark) = self.marks.front()
            && mark.wire <= wire
            && let Some(entry) = self.queue.front_mut()
        {
            let range = entry.acknowledged..entry.acknowledged + mark.count;
            if !mark.refused {
                self.totals.acknowledged.add(&entry.batch, range);
                self.connection.acknowledged += mark.count as u64;
            }
            entry.acknowledged += mark.count;
            self.marks.pop_front();
            if entry.is_suspect && entry.acknowledged >= entry.batch.frame_end(entry.from) {
                entry.is_suspect = false;
                self.suspects.acquit(entry.first_frame());
            }
            if entry.acknowledged == entry.batch.bytes().len() {
                self.taken -= 1;
                self.deliver_front(now);
            }
        }
        let sends_again = self.queue.iter().any(|entry| entry.token.is_none());
        if self.connection.resending == Resending::UnderWay && !sends_again {
            self.connection.resending = Resending::Done { at: now };
            if !self.suspects.is_searching() {
                self.replay_pending = false;
            }
        }
        if !sends_again && self.suspects.is_waiting() {
            let survives_at = now + self.survival_time();
            self.connection.survives_at.get_or_insert(survives_at);
        }
        if self.marks.is_empty() && self.queue.is_empty() {
            self.connection.progress = None;
        }
    }

    /// A batch that has ended, oldest first.
    pub fn poll_finished(&mut self) -> Option<Finished<T>> {
        self.finished.pop_front()
    }

    /// The length in bytes of a frame that was given up, because the peer ends
    /// its connections at it.
    pub fn poll_rejected(&mut self) -> Option<usize> {
        self.suspects.poll_rejected()
    }

    /// When [`Session::on_timeout`] is to be called, unless something else
    /// happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Waiting { until } => Some(until),
            State::Closing { since, .. } => Some(since + self.policy.close_timeout),
            State::Up { .. } => {
                let progress = self.connection.progress;
                let write = progress.map(|at| at + self.policy.write_timeout);
                let aside = self.suspects.poll_timeout();
                [
                    write,
                    self.connection.survives_at,
                    self.replay.expires(),
                    aside,
                ]
                .into_iter()
                .flatten()
                .min()
            }
        }
    }

    /// Time passed. Where a wait before the next attempt is over,
    /// [`Session::wants_connection`] says so from now on. Otherwise the
    /// connection may have to be ended, by [`Session::on_ended`].
    pub fn on_timeout(&mut self, now: Instant) -> Expiry {
        match self.state {
            State::Idle => {}
            State::Waiting { until } => {
                if now >= until {
                    self.state = State::Idle;
                }
            }
            State::Closing { since, by, .. } => {
                if now >= since + self.policy.close_timeout {
                    return Expiry::Closed(match by {
                        Side::Peer => End::Closed,
                        // It may still have much to read.
                        Side::Own => End::Broken,
                    });
                }
            }
            State::Up { .. } => {
                self.replay.expire(now);
                if self
                    .connection
                    .survives_at
                    .take_if(|at| now >= *at)
                    .is_some()
                {
                    self.survive(now);
                }
                if let Some(frames) = self.suspects.expired_aside(now) {
                    self.queue.push_back(Entry::new(frames, 0, None));
                    self.connection.resending = Resending::UnderWay;
                }
                let progress = self.connection.progress;
                if progress.is_some_and(|at| now >= at + self.policy.write_timeout) {
                    return Expiry::Stalled;
                }
            }
        }
        Expiry::Nothing
    }

    /// The connection lived on with what was sent.
    fn survive(&mut self, now: Instant) {
        self.suspects.on_survived(&mut self.replay, now);
        self.totals.exposed_bytes += self.suspects.take_exposed();
        if self.suspects.is_searching() {
            self.send_probe(now);
        } else if self.replay_pending {
            self.send_replay();
        }
    }

    /// Gives everything up: every batch ends with [`Outcome::Retry`], and
    /// nothing is kept. Returns how many bytes would have been sent again, for
    /// a receiver that may have lost them.
    pub fn abandon(&mut self, now: Instant) -> usize {
        self.fail_all(now);
        let pending = std::mem::take(&mut self.replay_pending) || self.is_closing();
        let bytes = if pending { self.replay.bytes() } else { 0 };
        let bytes = bytes + self.suspects.bytes();
        self.replay.take();
        self.suspects.abandon();
        if self.is_closing() {
            self.state = State::Idle;
        }
        bytes
    }

    /// Ends every batch with [`Outcome::Retry`].
    fn fail_all(&mut self, now: Instant) {
        self.taken = 0;
        self.marks.clear();
        self.connection.progress = None;
        while let Some(entry) = self.queue.pop_front() {
            self.fail(entry, now);
        }
    }

    fn fail(&mut self, entry: Entry<T>, now: Instant) {
        let Entry {
            mut batch,
            token,
            from,
            acknowledged,
            since,
            ..
        } = entry;
        let Some(token) = token else {
            // Also what was acknowledged: the peer may have lost it again.
            if !self.suspects.is_searching() {
                self.replay.keep(batch, from, now);
            }
            return;
        };
        let delivered = batch.frames_before(acknowledged);
        let batch = if batch.frame_start(delivered) > from {
            batch.truncate(delivered);
            self.replay.keep(batch, from, now)
        } else {
            Some(batch)
        };
        self.finished.push_back(Finished {
            batch,
            token,
            outcome: Outcome::Retry { delivered },
            took: since.map(|since| now.saturating_duration_since(since)),
        });
    }

    fn deliver_front(&mut self, now: Instant) {
        let Some(entry) = self.queue.pop_front() else {
            return;
        };
        if entry.token.is_none() && self.suspects.is_searching() {
            return;
        }
        let batch = self.replay.keep(entry.batch, entry.from, now);
        if let Some(token) = entry.token {
            self.finished.push_back(Finished {
                batch,
                token,
                outcome: Outcome::Delivered,
                took: entry
                    .since
                    .map(|since| now.saturating_duration_since(since)),
            });
        }
    }
}

#[cfg(test)]
mod tests;
