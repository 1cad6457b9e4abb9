//! The delivery of batches over one connection after another, as a state
//! machine: the driver owns the sockets and tells what happened and when.
//!
//! ```text
//!             connected               ended
//!     Idle --------------------> Up ----------------+
//!    ^ ^  \                                          |
//!    | |   \ no server answers                       |
//!    | |    v                                        |
//!    | +-- Waiting   (the wait is over)              |
//!    +-----------------------------------------------+
//! ```
//!
//! The frames delivered last are kept ([`Replay`]). After an end that a
//! receiver may have met with acknowledged bytes unread, they are sent again
//! first: duplicates rather than losses.
//!
//! A batch is [`Outcome::Delivered`] once the peer acknowledged its last byte,
//! and [`Outcome::Retry`] in every other case, with the number of frames that
//! need not be sent again. There is no third way, and every state that waits
//! has an end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Batch;
use crate::replay::Replay;
use crate::totals::Totals;

/// The bounds of a session's waits.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// For one attempt to connect, handshakes included: the driver keeps it.
    pub connect_timeout: Duration,
    /// Without any byte more acknowledged while some are outstanding.
    pub write_timeout: Duration,
    /// The shortest wait after a failure.
    pub backoff_min: Duration,
    /// The longest wait after many failures.
    pub backoff_max: Duration,
    /// How many bytes of frames are kept for sending them again.
    pub replay_buffer: usize,
    /// How long they are kept.
    pub replay_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            replay_buffer: 4 * 1024 * 1024,
            replay_age: Duration::from_secs(300),
        }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer acknowledged every byte.
    Delivered,
    /// It has to be sent again.
    Retry {
        /// How many of its first frames need not be: the peer has them, or
        /// they are kept for it.
        delivered: usize,
    },
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed it in an orderly way: FIN, or `close_notify`. A kernel
    /// says that only for a program that has read everything.
    Clean,
    /// A reset, a time-out, a vanished peer: what was acknowledged may have
    /// been lost unread.
    Unclean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Up { since: Instant },
    Waiting { until: Instant },
}

#[derive(Debug)]
struct Entry<T> {
    batch: Batch,
    /// None for frames that are sent again: nobody waits for them.
    tag: Option<T>,
    /// Where the frames begin that are to be sent.
    from: usize,
    /// Up to where the connection has taken the batch.
    taken: usize,
    /// Up to where the peer has acknowledged it.
    acknowledged: usize,
    /// When the connection took its first bytes.
    since: Option<Instant>,
}

/// Bytes that the connection took, and where they end on the wire.
#[derive(Clone, Copy, Debug)]
struct Mark {
    wire: u64,
    count: usize,
}

/// A delivered or failed batch, and what it was submitted with.
#[derive(Debug)]
pub struct Finished<T> {
    /// A batch, not always the same, for its memory to be used again.
    pub batch: Option<Batch>,
    /// The driver's own.
    pub tag: T,
    /// What became of the batch.
    pub outcome: Outcome,
    /// The time from its first byte's sending to its end, where it was sent.
    pub took: Option<Duration>,
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
    /// The position up to which this connection's peer acknowledged everything.
    acknowledged: u64,
    /// Whether it acknowledged anything submitted.
    of_use: bool,
    /// When the peer last acknowledged more, or was first given something to.
    progress: Option<Instant>,
    replay: Replay,
    /// What `replay` holds has to be sent again.
    replay_pending: bool,
    totals: Totals,
}

impl<T> Session<T> {
    /// A session without a connection and without batches.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Idle,
            queue: VecDeque::new(),
            taken: 0,
            marks: VecDeque::new(),
            finished: VecDeque::new(),
            down: false,
            acknowledged: 0,
            of_use: false,
            progress: None,
            replay: Replay::new(policy.replay_buffer, policy.replay_age),
            replay_pending: false,
            totals: Totals::NOTHING,
        }
    }

    /// Takes a batch for delivery, without its first `skip` frames, which were
    /// delivered before. While the peer is known to be down it finishes at
    /// once, with [`Outcome::Retry`].
    pub fn submit(&mut self, batch: Batch, skip: usize, tag: T) {
        let from = batch.frame_start(skip);
        let outcome = if from == batch.bytes().len() {
            Outcome::Delivered
        } else if self.down {
            Outcome::Retry { delivered: skip }
        } else {
            self.queue.push_back(Entry {
                batch,
                tag: Some(tag),
                from,
                taken: from,
                acknowledged: from,
                since: None,
            });
            return;
        };
        self.finished.push_back(Finished {
            batch: Some(batch),
            tag,
            outcome,
            took: None,
        });
    }

    /// Whether the last attempt to reach a server failed.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// Whether there is a connection.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether a batch waits for its end, or frames for being sent again.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.replay_pending
    }

    /// Whether the connection took what the peer has not acknowledged.
    #[must_use]
    pub fn awaits_acknowledgement(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Bytes of frames that are kept for sending them again.
    #[must_use]
    pub const fn replay_bytes(&self) -> usize {
        self.replay.bytes()
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
        self.fail_all(End::Unclean, now);
    }

    /// Ends a wait before the next attempt.
    pub fn retry_now(&mut self) {
        if let State::Waiting { .. } = self.state {
            self.state = State::Idle;
        }
    }

    /// The connection is ready for messages. The answer is how many bytes are
    /// sent again first.
    pub fn on_connected(&mut self, now: Instant) -> usize {
        self.state = State::Up { since: now };
        self.down = false;
        self.acknowledged = 0;
        self.of_use = false;
        self.progress = None;
        if !self.replay_pending {
            return 0;
        }
        let bytes = self.replay.bytes();
        for kept in self.replay.take().into_iter().rev() {
            self.queue.push_front(Entry {
                batch: kept.batch,
                tag: None,
                from: kept.from,
                taken: kept.from,
                acknowledged: kept.from,
                since: None,
            });
        }
        bytes
    }

    /// The connection ended. The answer is whether it was of use for a while,
    /// and so whether the same server may be tried again at once: one that
    /// accepts and closes is not to be called in a loop.
    pub fn on_ended(&mut self, now: Instant, end: End) -> bool {
        match end {
            // Everything acknowledged was read.
            End::Clean => drop(self.replay.take()),
            End::Unclean if !self.replay_pending => self.replay.expire(now),
            End::Unclean => {}
        }
        // What is being sent again and was not acknowledged goes back there.
        self.fail_all(end, now);
        self.replay_pending = !self.replay.is_empty();
        let lived = match self.state {
            State::Up { since } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        let enough = if self.of_use {
            self.policy.backoff_min
        } else {
            self.policy.backoff_max
        };
        self.state = State::Idle;
        lived >= enough
    }

    /// The bytes to be sent next; empty where there are none.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        match self.queue.get(self.taken) {
            Some(entry) if self.is_up() => &entry.batch.bytes()[entry.taken..],
            _ => &[],
        }
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
        self.progress.get_or_insert(now);
        if count == 0 {
            return;
        }
        self.marks.push_back(Mark { wire, count });
        entry.since.get_or_insert(now);
        let range = entry.taken..entry.taken + count;
        self.totals.sent.add(&entry.batch, range.clone());
        if entry.tag.is_none() {
            self.totals.resent.add(&entry.batch, range);
        }
        entry.taken += count;
        debug_assert!(entry.taken <= entry.batch.bytes().len());
        if entry.taken == entry.batch.bytes().len() {
            self.taken += 1;
        }
    }

    /// The peer acknowledged everything before the position `wire`.
    pub fn on_acknowledged(&mut self, wire: u64, now: Instant) {
        if wire <= self.acknowledged {
            return;
        }
        self.acknowledged = wire;
        while let Some(mark) = self.marks.front()
            && mark.wire <= wire
            && let Some(entry) = self.queue.front_mut()
        {
            let range = entry.acknowledged..entry.acknowledged + mark.count;
            self.totals.acknowledged.add(&entry.batch, range);
            entry.acknowledged += mark.count;
            self.marks.pop_front();
            if entry.acknowledged == entry.batch.bytes().len() {
                self.taken -= 1;
                self.deliver_front(now);
            }
        }
        if self.progress.is_some() {
            self.of_use = true;
            self.progress = Some(now);
        }
        if self.replay_pending && self.queue.iter().all(|entry| entry.tag.is_some()) {
            self.replay_pending = false;
        }
        if self.marks.is_empty() && self.queue.is_empty() {
            self.progress = None;
        }
    }

    /// A batch whose end is known, oldest first.
    pub fn poll_finished(&mut self) -> Option<Finished<T>> {
        self.finished.pop_front()
    }

    /// When [`Session::on_timeout`] is to be called, unless something else
    /// happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Waiting { until } => Some(until),
            State::Up { .. } => {
                let write = self.progress.map(|at| at + self.policy.write_timeout);
                write.into_iter().chain(self.replay.expires()).min()
            }
        }
    }

    /// Time passed. The answer is whether the peer acknowledged nothing for so
    /// long that the connection has to be ended ([`Session::on_ended`]). Where
    /// a wait before the next attempt is over, [`Session::wants_connection`]
    /// says so from now on.
    pub fn on_timeout(&mut self, now: Instant) -> bool {
        match self.state {
            State::Idle => false,
            State::Waiting { until } => {
                if now >= until {
                    self.state = State::Idle;
                }
                false
            }
            State::Up { .. } => {
                self.replay.expire(now);
                self.progress
                    .is_some_and(|at| now >= at + self.policy.write_timeout)
            }
        }
    }

    /// Gives everything up: every batch ends with [`Outcome::Retry`], and
    /// nothing is kept. The answer is how many bytes would have been sent
    /// again, for a receiver that may have lost them.
    pub fn abandon(&mut self, now: Instant) -> usize {
        self.fail_all(End::Clean, now);
        let pending = std::mem::take(&mut self.replay_pending);
        let bytes = if pending { self.replay.bytes() } else { 0 };
        self.replay.take();
        bytes
    }

    /// Ends every batch with [`Outcome::Retry`].
    fn fail_all(&mut self, end: End, now: Instant) {
        self.taken = 0;
        self.marks.clear();
        self.progress = None;
        while let Some(entry) = self.queue.pop_front() {
            self.fail(entry, end, now);
        }
    }

    fn fail(&mut self, entry: Entry<T>, end: End, now: Instant) {
        let Entry {
            mut batch,
            tag,
            from,
            acknowledged,
            since,
            ..
        } = entry;
        let delivered = batch.frames_before(acknowledged);
        let boundary = batch.frame_start(delivered).max(from);
        let Some(tag) = tag else {
            let from = match end {
                End::Clean => boundary,
                End::Unclean => from,
            };
            self.replay.keep(batch, from, now);
            return;
        };
        let batch = match end {
            // The peer may have lost what it acknowledged of this one as well.
            End::Unclean if boundary > from => {
                batch.truncate(delivered);
                self.replay.keep(batch, from, now)
            }
            End::Clean | End::Unclean => Some(batch),
        };
        self.finished.push_back(Finished {
            batch,
            tag,
            outcome: Outcome::Retry { delivered },
            took: since.map(|since| now.saturating_duration_since(since)),
        });
    }

    fn deliver_front(&mut self, now: Instant) {
        let Some(entry) = self.queue.pop_front() else {
            return;
        };
        let batch = self.replay.keep(entry.batch, entry.from, now);
        if let Some(tag) = entry.tag {
            self.finished.push_back(Finished {
                batch,
                tag,
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
