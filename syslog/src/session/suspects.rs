//! Frames that may make the peer close its connections. A message that a receiver
//! rejects this way must not block the messages after it.
//!
//! ```text
//! Counting -- five connections end early --> Searching -- the peer ends all --> Resting
//!    ^  ^                                     |    ^                               |
//!    |  +-------- all frames survived --------+    | another frame survived        |
//!    |            or were given up            v    |                               |
//!    |                  few frames, and no other frame to compare them with        |
//!    +---------------------------- ten minutes ------------------------------------+
//! ```
//!
//! There are two mechanisms. A bad frame that the peer has acknowledged is among the
//! frames that are sent again, so a [`Search`] isolates it. A bad frame that ends the
//! connection before the peer acknowledges it is identified by its position
//! ([`CutFrames`]), even if other batches are delivered in between.
//!
//! Frames that survive a search are kept like all delivered frames. But if the next
//! search follows immediately, there is no bad frame: the receiver ends connections for
//! a different reason, for example after a certain number of messages, and would be
//! sent the same frames forever. Frames that survive a second search therefore count as
//! read, and their bytes as exposed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cut::{Cut, CutFrames};
use super::search::{Search, Verdict};
use crate::replay::Replay;
use crate::{Batch, Framing};

/// The number of consecutive connections that must end early before a search.
const ENDS: u32 = 5;
/// The maximum number of frames that are set aside. With more, the peer is taken to
/// reject everything.
const ASIDE: usize = 8;
/// The time without a search after one in which the peer ended all connections,
/// and the time after which frames that were set aside are sent again.
const REST: Duration = Duration::from_secs(600);

/// The frames suspected of ending connections.
#[derive(Debug)]
pub(super) struct Suspects {
    state: State,
    /// Frames that seem to end connections, set aside until there is another frame to
    /// compare them with.
    aside: Batch,
    /// The time at which the frames in `aside` are sent again in any case.
    aside_until: Option<Instant>,
    cut: CutFrames,
    /// Whether there was a search.
    has_searched: bool,
    /// Whether the last search found nothing, and all connections since ended early.
    was_fruitless: bool,
    /// The size in bytes of the frames that survived twice, and are no longer kept.
    exposed: u64,
    /// The longest time from the first byte sent to an early end.
    slowest: Duration,
    /// The lengths of the frames that were given up.
    rejected: VecDeque<usize>,
}

#[derive(Debug)]
enum State {
    Counting { ends: u32 },
    Searching { frames: Batch, search: Search },
    Resting { until: Instant },
}

impl Suspects {
    /// Creates a state without suspects.
    pub(super) fn new() -> Self {
        Self {
            state: State::Counting { ends: 0 },
            aside: Batch::new(Framing::OctetCounting),
            aside_until: None,
            cut: CutFrames::default(),
            has_searched: false,
            was_fruitless: false,
            exposed: 0,
            slowest: Duration::ZERO,
            rejected: VecDeque::new(),
        }
    }

    /// Whether only the frames of [`Suspects::probe`] may be sent.
    pub(super) const fn is_searching(&self) -> bool {
        matches!(self.state, State::Searching { .. })
    }

    /// Whether [`Suspects::on_survived`] must be called when a connection has survived
    /// for [`Suspects::survival_time`].
    pub(super) fn is_waiting(&self) -> bool {
        self.is_searching() || !self.aside.is_empty()
    }

    /// Returns the time for which a connection must survive after its frames were
    /// acknowledged: twice the longest lifetime of the connections that ended early,
    /// clamped to `min` and `max`.
    pub(super) fn survival_time(&self, min: Duration, max: Duration) -> Duration {
        (self.slowest * 2).clamp(min, max.max(min))
    }

    /// Returns the size in bytes of the frames that are held here.
    pub(super) fn bytes(&self) -> usize {
        let searched = match &self.state {
            State::Searching { frames, .. } => frames.bytes().len(),
            State::Counting { .. } | State::Resting { .. } => 0,
        };
        searched + self.aside.bytes().len()
    }

    /// Whether there was a search, after which frames may be out of order.
    pub(super) const fn has_searched(&self) -> bool {
        self.has_searched
    }

    /// Returns the number of the first frame that is held here ([`Batch::numbered`]).
    pub(super) fn first_number(&self) -> Option<u64> {
        let searched = match &self.state {
            State::Searching { frames, .. } => Some(frames.first()),
            State::Counting { .. } | State::Resting { .. } => None,
        };
        let aside = (!self.aside.is_empty()).then(|| self.aside.first());
        [searched, aside].into_iter().flatten().min()
    }

    /// Handles a new connection.
    pub(super) fn on_connected(&mut self, now: Instant) {
        self.cut.forget_expired(now);
    }

    /// Returns the frames to be sent next during a search, or `None` on a connection
    /// that must survive without frames.
    pub(super) fn probe(&self) -> Option<Batch> {
        let State::Searching { frames, search } = &self.state else {
            return None;
        };
        let probe = search.probe();
        (!probe.is_empty()).then(|| frames.slice(probe))
    }

    /// Handles the end of a connection on which frames were sent again. The end is
    /// `early` if one of these frames may be the reason. `took` is the time since the
    /// first byte. A new search takes the frames out of `replay`.
    pub(super) fn on_ended(
        &mut self,
        early: bool,
        took: Duration,
        replay: &mut Replay,
        now: Instant,
    ) {
        match &mut self.state {
            State::Searching { search, .. } => {
                let verdict = search.ended();
                self.conclude(verdict, replay, now);
            }
            State::Counting { ends } if early => {
                *ends += 1;
                self.slowest = self.slowest.max(took);
                if *ends >= ENDS {
                    self.search_replay(replay);
                }
            }
            State::Counting { ends } => {
                *ends = 0;
                self.was_fruitless = false;
            }
            State::Resting { until } if now >= *until => self.restart_counting(),
            State::Resting { .. } => {}
        }
    }

    /// Handles a connection that survived for [`Suspects::survival_time`] after the peer
    /// had acknowledged all frames. `replay` has the newest of these frames.
    pub(super) fn on_survived(&mut self, replay: &mut Replay, now: Instant) {
        if let State::Searching { search, .. } = &mut self.state {
            let verdict = search.survived();
            self.conclude(verdict, replay, now);
        } else {
            self.search_aside(replay);
        }
    }

    /// Counts the end of a connection during a frame that is not held here.
    pub(super) fn add_cut(&mut self, frame: &[u8], cut: Cut, now: Instant) {
        self.cut.add(frame, cut, now);
    }

    /// Records that a connection survived for some time, and did not end during a frame.
    pub(super) fn others_survived(&mut self) {
        self.cut.others_survived();
    }

    /// Whether a frame must be sent alone.
    pub(super) fn is_suspect(&self, frame: &[u8]) -> bool {
        self.cut.is_suspect(frame)
    }

    /// Forgets a frame that was sent alone, and that the peer has acknowledged.
    pub(super) fn forget(&mut self, frame: &[u8]) {
        self.cut.forget(frame);
    }

    /// Returns whether a frame is given up, because connections keep ending during the
    /// frame and survive without it.
    pub(super) fn gives_up(&mut self, frame: &[u8]) -> bool {
        let gives_up = self.cut.give_up(frame);
        if gives_up {
            self.rejected.push_back(frame.len());
        }
        gives_up
    }

    /// Returns the length in bytes of the next frame that was given up, oldest first.
    pub(super) fn poll_rejected(&mut self) -> Option<usize> {
        self.rejected.pop_front()
    }

    /// Returns the size in bytes of the frames that count as read without proof, since
    /// the last call.
    pub(super) const fn take_exposed(&mut self) -> u64 {
        std::mem::replace(&mut self.exposed, 0)
    }

    /// Drops all frames that are held here.
    pub(super) fn abandon(&mut self) {
        self.state = State::Counting { ends: 0 };
        self.take_aside();
    }

    /// Returns the time at which [`Suspects::expired_aside`] will return frames.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.aside_until
    }

    /// Takes the frames that were set aside, if they have waited long enough for another
    /// frame.
    pub(super) fn expired_aside(&mut self, now: Instant) -> Option<Batch> {
        let is_expired = self.aside_until.is_some_and(|until| now >= until);
        (is_expired && !self.is_searching()).then(|| self.take_aside())
    }

    /// Begins a search among the frames that would be sent again.
    fn search_replay(&mut self, replay: &mut Replay) {
        let mut frames: Option<Batch> = None;
        for kept in replay.take() {
            let first = kept.batch.frames_before(kept.from);
            let part = kept.batch.slice(first..kept.batch.frames());
            match &mut frames {
                None => frames = Some(part),
                Some(frames) => frames.append(&part),
            }
        }
        self.has_searched = true;
        // Without frames there is nothing to blame.
        self.state = match frames {
            None => State::Counting { ends: 0 },
            Some(frames) => State::Searching {
                search: Search::new(frames.frames(), false),
                frames,
            },
        };
    }

    /// Begins a search that compares the frames that were set aside with a frame that
    /// survived.
    fn search_aside(&mut self, replay: &Replay) {
        let Some(control) = replay.newest_frame() else {
            return;
        };
        if self.aside.is_empty() {
            return;
        }
        let mut frames = self.take_aside();
        let search = Search::new(frames.frames(), true);
        frames.append(&control);
        self.state = State::Searching { frames, search };
    }

    /// Acts on a verdict. When the search is over, the remaining frames go back to
    /// `replay`.
    fn conclude(&mut self, verdict: Verdict, replay: &mut Replay, now: Instant) {
        let State::Searching { frames, search } = &mut self.state else {
            return;
        };
        match verdict {
            Verdict::Open => {}
            Verdict::Guilty => {
                let number = search.survivors();
                let length = frames.frame_start(number + 1) - frames.frame_start(number);
                self.rejected.push_back(length);
                frames.remove(number);
                self.was_fruitless = false;
                let verdict = search.remove_guilty();
                self.conclude(verdict, replay, now);
            }
            Verdict::Unconfirmed => {
                let left = frames.slice(search.left());
                self.set_aside(&left);
                self.aside_until = Some(now + REST);
                if self.aside.frames() > ASIDE {
                    self.rest(replay, now);
                } else {
                    self.restart_counting();
                }
            }
            Verdict::Survived => {
                let survivors = frames.slice(0..search.survivors());
                if self.was_fruitless {
                    self.exposed += survivors.bytes().len() as u64;
                } else if !survivors.is_empty() {
                    replay.keep(survivors, 0, now);
                }
                self.was_fruitless = search.is_fruitless();
                self.restart_counting();
            }
            Verdict::Peer => {
                let all = frames.slice(0..search.left().end);
                self.set_aside(&all);
                self.rest(replay, now);
            }
        }
    }

    /// Begins a time without searches, because the peer ends all connections. Frames are
    /// no longer set aside.
    fn rest(&mut self, replay: &mut Replay, now: Instant) {
        self.state = State::Resting { until: now + REST };
        let aside = self.take_aside();
        replay.keep(aside, 0, now);
    }

    fn set_aside(&mut self, frames: &Batch) {
        if self.aside.is_empty() {
            self.aside = frames.clone();
        } else {
            self.aside.append(frames);
        }
    }

    fn take_aside(&mut self) -> Batch {
        self.aside_until = None;
        std::mem::replace(&mut self.aside, Batch::new(Framing::OctetCounting))
    }

    fn restart_counting(&mut self) {
        self.state = State::Counting { ends: 0 };
        self.slowest = Duration::ZERO;
    }
}
