//! The delivery of batches over one connection after another, as a state
//! machine: the driver owns the sockets and tells what happened and when.
//!
//! ```text
//!            connect wanted            connection ready
//!   Idle ------------------> Connecting ---------------> Up
//!    ^ ^                         |                       | |
//!    | |  wait is over           | failed                | |
//!    | +--------- Waiting <------+-----------------------+ |
//!    |                           ended, was of no use      |
//!    +-----------------------------------------------------+
//!                                ended, was of use
//! ```
//!
//! The frames delivered last are kept ([`Replay`]). After an end that a
//! receiver may have met with acknowledged bytes unread, they are sent again
//! first: duplicates rather than losses.
//!
//! A batch is [`Outcome::Delivered`] once the peer acknowledged its last byte,
//! and [`Outcome::Retry`] in every other case. There is no third way, and
//! every state that waits has an end ([`Session::poll_timeout`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Batch;
use crate::replay::Replay;

/// The bounds of a session's waits.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// For one attempt to connect, TLS handshake included.
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
    /// It may be delivered in part or not at all: it has to be sent again.
    Retry,
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

/// What the driver has to do because time passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Give up the attempt to connect: [`Session::on_failed`] or, with another
    /// address, [`Session::on_attempt`].
    Connect,
    /// The peer acknowledges nothing: end the connection, [`Session::on_ended`].
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting { until: Instant },
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
    /// Where on the wire the batch ends; known once all of it was taken.
    end: Option<u64>,
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
    finished: VecDeque<Finished<T>>,
    /// Bytes on the wire of this connection that the peer acknowledged.
    acknowledged: u64,
    /// Whether this connection's peer acknowledged anything submitted.
    of_use: bool,
    /// When the peer last acknowledged more, or was first given something to.
    progress: Option<Instant>,
    /// Failures since a connection was last of use.
    failures: u32,
    replay: Replay,
    /// What `replay` holds has to be sent again.
    replay_pending: bool,
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
            finished: VecDeque::new(),
            acknowledged: 0,
            of_use: false,
            progress: None,
            failures: 0,
            replay: Replay::new(policy.replay_buffer, policy.replay_age),
            replay_pending: false,
        }
    }

    /// Takes a batch for delivery. While the peer is known to be down it
    /// finishes at once, with [`Outcome::Retry`].
    pub fn submit(&mut self, batch: Batch, tag: T) {
        let outcome = if batch.is_empty() {
            Outcome::Delivered
        } else if self.is_down() {
            Outcome::Retry
        } else {
            self.queue.push_back(Entry {
                batch,
                tag: Some(tag),
                from: 0,
                taken: 0,
                end: None,
            });
            return;
        };
        self.finished.push_back(Finished {
            batch: Some(batch),
            tag,
            outcome,
        });
    }

    /// Whether the last attempt to reach the peer failed.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.failures > 0 && !self.is_up()
    }

    /// Whether there is a connection.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether a batch waits for its end.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether everything submitted is in the connection's hands, and not all
    /// of it acknowledged.
    #[must_use]
    pub fn awaits_acknowledgement(&self) -> bool {
        self.taken > 0
    }

    /// Whether the driver shall connect now. Call [`Session::on_attempt`] then.
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        self.state == State::Idle
    }

    /// The driver begins an attempt with one address, or with its name.
    pub fn on_attempt(&mut self, now: Instant) {
        debug_assert!(!self.is_up());
        self.state = State::Connecting {
            until: now + self.policy.connect_timeout,
        };
    }

    /// No address could be connected to. `random` is uniform over all values;
    /// the answer is the time to the next attempt.
    pub fn on_failed(&mut self, now: Instant, random: u32) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let wait = self.backoff(random);
        self.state = State::Waiting { until: now + wait };
        self.fail_all(now);
        wait
    }

    /// The connection is ready for messages. The answer is how many bytes are
    /// sent again first.
    pub fn on_connected(&mut self, now: Instant) -> usize {
        self.state = State::Up { since: now };
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
                end: None,
            });
        }
        bytes
    }

    /// The connection ended. The answer is the time to the next attempt: none
    /// after a connection that was of use for a while, so that a receiver's
    /// restart costs little; a backoff after any other, so that a peer that
    /// accepts and closes is not called in a loop.
    pub fn on_ended(&mut self, now: Instant, random: u32, end: End) -> Duration {
        match end {
            // Everything acknowledged was read.
            End::Clean => drop(self.replay.take()),
            End::Unclean if !self.replay_pending => self.replay.expire(now),
            End::Unclean => {}
        }
        // What is being sent again and was not acknowledged goes back there.
        self.fail_all(now);
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
        if lived < enough {
            return self.on_failed(now, random);
        }
        self.failures = 0;
        self.state = State::Idle;
        Duration::ZERO
    }

    /// The bytes to be sent next; empty where there are none.
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        match self.queue.get(self.taken) {
            Some(entry) if self.is_up() => &entry.batch.bytes()[entry.taken..],
            _ => &[],
        }
    }

    /// The frame to be sent next, for a connection of datagrams.
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
    /// position on the wire, in bytes since the connection's beginning, that
    /// the peer will have acknowledged once it has them.
    pub fn on_taken(&mut self, count: usize, wire: u64, now: Instant) {
        let Some(entry) = self.queue.get_mut(self.taken) else {
            debug_assert!(count == 0, "bytes that nobody submitted");
            return;
        };
        self.progress.get_or_insert(now);
        entry.taken += count;
        debug_assert!(entry.taken <= entry.batch.bytes().len());
        if entry.taken == entry.batch.bytes().len() {
            entry.end = Some(wire);
            self.taken += 1;
        }
    }

    /// The peer acknowledged everything before the position `wire`.
    pub fn on_acknowledged(&mut self, wire: u64, now: Instant) {
        if wire <= self.acknowledged {
            return;
        }
        self.acknowledged = wire;
        self.of_use = true;
        self.failures = 0;
        self.progress = Some(now);
        while let Some(entry) = self.queue.front()
            && entry.end.is_some_and(|end| end <= wire)
        {
            self.taken -= 1;
            self.finish_front(Outcome::Delivered, now);
        }
        if self.replay_pending && self.queue.iter().all(|entry| entry.tag.is_some()) {
            self.replay_pending = false;
        }
        let first = self.queue.front();
        if first.is_none_or(|entry| entry.taken == entry.from) {
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
            State::Connecting { until } | State::Waiting { until } => Some(until),
            State::Up { .. } => {
                let write = self.progress.map(|at| at + self.policy.write_timeout);
                write.into_iter().chain(self.replay.expires()).min()
            }
        }
    }

    /// Time passed. Says what has to be given up; where a wait before the next
    /// attempt is over, [`Session::wants_connection`] says so from now on.
    pub fn on_timeout(&mut self, now: Instant) -> Option<Expired> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return None;
        }
        match self.state {
            State::Idle => None,
            State::Waiting { .. } => {
                self.state = State::Idle;
                None
            }
            State::Connecting { .. } => Some(Expired::Connect),
            State::Up { .. } => {
                self.replay.expire(now);
                self.progress
                    .is_some_and(|at| now >= at + self.policy.write_timeout)
                    .then_some(Expired::Write)
            }
        }
    }

    /// Ends every batch with [`Outcome::Retry`].
    pub fn fail_all(&mut self, now: Instant) {
        self.taken = 0;
        self.progress = None;
        while !self.queue.is_empty() {
            self.finish_front(Outcome::Retry, now);
        }
    }

    fn finish_front(&mut self, outcome: Outcome, now: Instant) {
        let Some(entry) = self.queue.pop_front() else {
            return;
        };
        let Entry {
            batch, tag, from, ..
        } = entry;
        let batch = if outcome == Outcome::Delivered || tag.is_none() {
            self.replay.keep(batch, from, now)
        } else {
            Some(batch)
        };
        if let Some(tag) = tag {
            self.finished.push_back(Finished {
                batch,
                tag,
                outcome,
            });
        }
    }

    /// Exponential with full jitter above the minimum: many sinks that lost
    /// the same receiver do not come back in one moment.
    fn backoff(&self, random: u32) -> Duration {
        let Policy {
            backoff_min: min,
            backoff_max: max,
            ..
        } = self.policy;
        let doublings = self.failures.min(16);
        let ceiling = min.saturating_mul(1 << doublings).clamp(min, max.max(min));
        min + ceiling
            .saturating_sub(min)
            .mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests;
