//! The delivery of batches over successive connections, as a state machine. The
//! driver owns the sockets, and reports to the session what happened and when.
//!
//! ```text
//!             connected               closing
//!     Idle --------------------> Up ------------> Closing
//!    ^ ^  \                      | broken            | reset, closed by both
//!    | |   \ no server answers   |                   | sides, or close_timeout
//!    | |    v                    |                   |
//!    | +-- Waiting (wait over)   |                   |
//!    +---------------------------+-------------------+
//! ```
//!
//! The session keeps the frames that were delivered last ([`Replay`]), because the
//! peer's program may not have read a frame that its kernel acknowledged. The way the
//! connection ends ([`End`]) decides how many of these frames are sent again on the
//! next connection, before everything else: duplicates are preferred to losses.
//!
//! A batch ends as [`Outcome::Delivered`] when the peer has acknowledged its last
//! byte, and otherwise as [`Outcome::Retry`], with the number of frames that need not
//! be sent again. There is no third outcome, and every wait has a timeout.
//!
//! A frame that makes the peer close its connections is found and given up
//! (`suspects.rs`), so that it does not block the frames after it. `resending.rs` draws
//! the conclusions from the end of a connection.
//!
//! The session remembers the position on the wire of each part of a batch that the
//! connection accepted, so frames that were acknowledged before the connection ended
//! are not sent again by the next submission of their batch. After an unclean end,
//! these frames are kept like delivered ones. The session does not know where batches
//! come from: a caller that waits, or a queue on disk.
//!
//! A property test compares the session with a model of receivers that read, close,
//! reset and disappear at any moment (`tests/session_model.rs`).

mod connection_state;
mod cut;
mod entry;
mod outcome;
mod policy;
mod resending;
mod search;
mod suspects;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::connection_state::{ConnectionState, Resending};
use self::entry::{Entry, Mark};
pub use self::outcome::{End, EndedBatch, Expiry, Outcome, Side};
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

/// The delivery of batches to a receiver. See the [module](self).
///
/// `T` is the driver's token for a batch, which comes back when the batch ends.
///
/// # Examples
///
/// The driver submits a batch, writes the bytes to be sent, and reports the peer's
/// acknowledgement. Time is virtual:
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use syslog::{Batch, Framing, Outcome, Policy, Session};
///
/// let mut batch = Batch::new(Framing::OctetCounting);
/// let mut frame = batch.frame();
/// frame.bytes().extend_from_slice(b"<14>1 - - - - - - hello");
/// frame.finish();
///
/// let mut now = Instant::now();
/// let mut session = Session::new(Policy::default());
/// assert!(session.wants_connection());
/// session.on_connected(now);
/// session.submit(batch, 0, "first batch");
///
/// // The driver writes the bytes to the socket, which accepts all of them.
/// assert_eq!(session.transmit(), b"23 <14>1 - - - - - - hello");
/// let written = session.transmit().len();
/// session.on_accepted(written, written as u64, now);
/// assert!(session.awaits_acknowledgement());
///
/// // The peer's kernel acknowledges them.
/// now += Duration::from_millis(20);
/// session.on_acknowledged(written as u64, now);
/// let finished = session.poll_ended().expect("the batch has ended");
/// assert_eq!(finished.token, "first batch");
/// assert_eq!(finished.outcome, Outcome::Delivered);
/// assert_eq!(finished.took, Some(Duration::from_millis(20)));
/// ```
#[derive(Debug)]
pub struct Session<T> {
    policy: Policy,
    state: State,
    /// The batches to be delivered, oldest first. Completely accepted ones come first.
    queue: VecDeque<Entry<T>>,
    /// The number of entries of `queue` that the connection has accepted completely.
    accepted_entries: usize,
    /// The accepted and unacknowledged bytes, in the order of the wire.
    marks: VecDeque<Mark>,
    ended: VecDeque<EndedBatch<T>>,
    /// Whether the last attempt to reach a server failed.
    down: bool,
    connection: ConnectionState,
    replay: Replay,
    /// Whether the frames in `replay` must be sent again.
    replay_pending: bool,
    suspects: Suspects,
    totals: Totals,
}

impl<T> Session<T> {
    /// Creates a session without a connection and without batches.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Idle,
            queue: VecDeque::new(),
            accepted_entries: 0,
            marks: VecDeque::new(),
            ended: VecDeque::new(),
            down: false,
            connection: ConnectionState::default(),
            replay: Replay::new(policy.replay_buffer.limit(0), policy.replay_age),
            replay_pending: false,
            suspects: Suspects::new(),
            totals: Totals::NOTHING,
        }
    }

    /// Submits a batch for delivery, without its first `skip` frames, which were
    /// delivered before. While the peer is known to be down, and during a search for the
    /// frame that ends its connections, the batch ends at once with [`Outcome::Retry`].
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
            Outcome::Retry { skip }
        } else {
            let mut entry = Entry::new(batch, from, Some(token));
            entry.is_suspect = self.suspects.is_suspect(entry.first_frame());
            self.queue.push_back(entry);
            return;
        };
        self.ended.push_back(EndedBatch {
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

    /// Whether there is a connection that neither side has closed.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether a closed connection is watched for a reset.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Whether a batch has not ended, frames must be sent again, or it is not yet known
    /// whether they must be.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.replay_pending || self.is_searching() || self.is_closing()
    }

    /// Whether the session searches for the frame that ends the connections. The driver
    /// must connect again soon, however the last connection ended.
    #[must_use]
    pub const fn is_searching(&self) -> bool {
        self.suspects.is_searching()
    }

    /// Whether the connection has accepted bytes that the peer has not acknowledged.
    #[must_use]
    pub fn awaits_acknowledgement(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Returns the limit of the replay buffer in bytes.
    #[must_use]
    pub const fn replay_limit(&self) -> usize {
        self.replay.limit()
    }

    /// Returns the size in bytes of the frames that are kept to be sent again.
    #[must_use]
    pub fn replay_bytes(&self) -> usize {
        self.replay.bytes() + self.suspects.bytes()
    }

    /// Returns the number of the first frame in the session ([`Batch::numbered`]),
    /// whether it is to be sent or kept to be sent again.
    #[must_use]
    pub fn first_held(&self) -> Option<u64> {
        let queue = self.queue.iter();
        let queue = queue.map(|entry| entry.batch.number_at(entry.from));
        // After a search, older frames may follow newer ones.
        let depth = if self.suspects.has_searched() {
            usize::MAX
        } else {
            1
        };
        let held = queue.take(depth).chain(self.replay.numbers().take(depth));
        held.chain(self.suspects.first_number()).min()
    }

    /// Returns the size in bytes of the frames that the connection has not accepted yet.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        let unsent = self.queue.iter().skip(self.accepted_entries);
        unsent
            .map(|entry| entry.batch.bytes().len() - entry.accepted)
            .sum()
    }

    /// Restores frames that an earlier session delivered, and that the peer may have lost
    /// unread. They are sent again on the first connection. If they exceed the replay
    /// buffer, the newest frames are kept.
    pub fn restore(&mut self, batch: Batch, now: Instant) {
        let bytes = self.replay.bytes() + batch.bytes().len();
        self.replay
            .raise_limit(bytes.min(self.policy.replay_buffer.max()));
        self.replay.keep(batch, 0, now);
        self.replay_pending = true;
    }

    /// Returns the counters since the beginning of the session.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the driver should connect now. The driver enforces
    /// [`Policy::connect_timeout`].
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        self.state == State::Idle
    }

    /// Reports that no server could be reached. The next attempt follows after `wait`.
    pub fn on_failed(&mut self, now: Instant, wait: Duration) {
        self.state = State::Waiting { until: now + wait };
        self.down = true;
        self.fail_all(now);
    }

    /// Ends the wait before the next attempt.
    pub fn retry_now(&mut self) {
        if let State::Waiting { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// Reports a connection that is ready for messages. Returns the number of bytes that
    /// are sent again first.
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

    /// Reports the receive window that the peer advertised, in bytes. Returns true if,
    /// for the first time on this connection, the peer can hold more unread bytes than
    /// the replay buffer keeps.
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

    /// Reports that one side closed the connection in an orderly way. Nothing more is
    /// sent on it. Returns whether the driver must watch the connection, until it is
    /// reset ([`End::Broken`]), the peer closes it as well ([`End::ClosedByBoth`]), or
    /// [`Session::on_timeout`] ends it. Otherwise the driver must call
    /// [`Session::on_connection_ended`] at once.
    pub fn on_closing(&mut self, now: Instant, by: Side) -> bool {
        if by == Side::Peer {
            self.count_cut(now);
        }
        self.fail_all(now);
        let lived = self.lifetime(now);
        self.state = State::Closing {
            since: now,
            by,
            lived,
        };
        let Some(oldest) = self.replay.oldest() else {
            return false;
        };
        match by {
            // If everything must be sent again anyway, a reset changes nothing.
            Side::Peer => !self.replay_pending && oldest + self.policy.close_timeout <= now,
            Side::Own => !self.replay_pending,
        }
    }

    /// Reports the end of the connection. Returns whether the driver may try the same
    /// server again at once, because the connection lived long enough. A server that
    /// accepts and closes each connection must not be retried in a loop.
    pub fn on_connection_ended(&mut self, now: Instant, end: End) -> bool {
        self.count_exposed(end);
        if end == End::Broken && self.is_up() {
            self.count_cut(now);
        }
        self.fail_all(now);
        let lived = self.lifetime(now);
        if !self.replay_pending {
            self.trim_replay(now, end);
        }
        self.update_suspects(now, end);
        self.replay_pending = !self.replay.is_empty();
        let enough = if self.connection.has_acknowledged() {
            self.policy.backoff_min
        } else {
            self.policy.backoff_max
        };
        self.state = State::Idle;
        lived >= enough
    }

    /// Returns the time for which the connection was up.
    fn lifetime(&self, now: Instant) -> Duration {
        match self.state {
            State::Up { since } => now.saturating_duration_since(since),
            State::Closing { lived, .. } => lived,
            State::Idle | State::Waiting { .. } => Duration::ZERO,
        }
    }

    /// Returns the bytes to be sent next, which are empty if there are none.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        match self.queue.get(self.accepted_entries) {
            Some(entry) if !self.is_up() || self.must_wait(entry) => &[],
            Some(entry) => &entry.batch.bytes()[entry.accepted..entry.end()],
            None => &[],
        }
    }

    /// Whether an entry must wait until nothing else is unacknowledged.
    fn must_wait(&self, entry: &Entry<T>) -> bool {
        entry.is_suspect && entry.accepted == entry.from && !self.marks.is_empty()
    }

    /// Returns the frame to be sent next, for a connection that sends frames one by one.
    #[must_use]
    pub fn transmit_frame(&self) -> &[u8] {
        match self.queue.get(self.accepted_entries) {
            Some(entry) if self.is_up() => {
                &entry.batch.bytes()[entry.accepted..entry.batch.frame_end(entry.accepted)]
            }
            _ => &[],
        }
    }

    /// Reports that the connection accepted `count` of the bytes to be sent. `wire` is their
    /// end on the wire: the position that [`Session::on_acknowledged`] must reach.
    pub fn on_accepted(&mut self, count: usize, wire: u64, now: Instant) {
        let Some(entry) = self.queue.get_mut(self.accepted_entries) else {
            debug_assert!(count == 0, "bytes that were not submitted");
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
        let range = entry.accepted..entry.accepted + count;
        self.totals.sent.add(&entry.batch, range.clone());
        if entry.token.is_none() {
            self.totals.resent.add(&entry.batch, range);
        }
        entry.accepted += count;
        debug_assert!(entry.accepted <= entry.batch.bytes().len());
        if entry.accepted == entry.batch.bytes().len() {
            self.accepted_entries += 1;
        }
    }

    /// Reports that the connection cannot send the next frame. The frame is given up, and
    /// counts as delivered without an acknowledgement.
    pub fn on_refused(&mut self, now: Instant) {
        let Some(entry) = self.queue.get_mut(self.accepted_entries) else {
            debug_assert!(false, "a frame that was not submitted");
            return;
        };
        let end = entry.batch.frame_end(entry.accepted);
        let before = self
            .marks
            .back()
            .map_or(self.connection.acknowledged_to, |mark| mark.wire);
        self.marks.push_back(Mark {
            wire: before,
            count: end - entry.accepted,
            refused: true,
        });
        entry.accepted = end;
        if end == entry.batch.bytes().len() {
            self.accepted_entries += 1;
        }
        self.take_acknowledged(now);
    }

    /// Reports that the peer has acknowledged everything before the position `wire`.
    pub fn on_acknowledged(&mut self, wire: u64, now: Instant) {
        if wire <= self.connection.acknowledged_to {
            return;
        }
        self.connection.acknowledged_to = wire;
        if self.connection.progress.is_some() {
            self.connection.progress = Some(now);
        }
        self.take_acknowledged(now);
    }

    /// Advances the entries according to the acknowledged marks.
    fn take_acknowledged(&mut self, now: Instant) {
        let wire = self.connection.acknowledged_to;
        while let Some(mark) = self.marks.front()
            && mark.wire <= wire
            && let Some(entry) = self.queue.front_mut()
        {
            let range = entry.acknowledged..entry.acknowledged + mark.count;
            if !mark.refused {
                self.totals.acknowledged.add(&entry.batch, range);
                self.connection.acknowledged_bytes += mark.count as u64;
            }
            entry.acknowledged += mark.count;
            self.marks.pop_front();
            if entry.is_suspect && entry.acknowledged >= entry.batch.frame_end(entry.from) {
                entry.is_suspect = false;
                self.suspects.forget(entry.first_frame());
            }
            if entry.acknowledged == entry.batch.bytes().len() {
                self.accepted_entries -= 1;
                self.deliver_front(now);
            }
        }
        let is_resending = self.queue.iter().any(|entry| entry.token.is_none());
        if self.connection.resending == Resending::UnderWay && !is_resending {
            self.connection.resending = Resending::Done { at: now };
            if !self.suspects.is_searching() {
                self.replay_pending = false;
            }
        }
        if !is_resending && self.suspects.is_waiting() {
            let survives_at = now + self.survival_time();
            self.connection.survives_at.get_or_insert(survives_at);
        }
        if self.marks.is_empty() && self.queue.is_empty() {
            self.connection.progress = None;
        }
    }

    /// Returns the next batch that has ended, oldest first.
    pub fn poll_ended(&mut self) -> Option<EndedBatch<T>> {
        self.ended.pop_front()
    }

    /// Returns the length in bytes of the next frame that was given up, because it makes
    /// the peer close its connections.
    pub fn poll_rejected(&mut self) -> Option<usize> {
        self.suspects.poll_rejected()
    }

    /// Returns the time at which the driver must call [`Session::on_timeout`], unless
    /// something else happens before.
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

    /// Handles the timeouts that have expired. After the wait before the next attempt,
    /// [`Session::wants_connection`] returns true. A connection may have to be ended,
    /// followed by [`Session::on_connection_ended`].
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
                        // The peer may still have much to read.
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

    /// Gives everything up: every batch ends with [`Outcome::Retry`], and no frames are
    /// kept. Returns the number of bytes that would have been sent again, because the
    /// receiver may have lost them.
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
        self.accepted_entries = 0;
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
            // Includes acknowledged frames: the peer may have lost them once more.
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
        self.ended.push_back(EndedBatch {
            batch,
            token,
            outcome: Outcome::Retry { skip: delivered },
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
            self.ended.push_back(EndedBatch {
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
