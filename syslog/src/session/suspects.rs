//! Frames at which a peer may end its connections: a receiver that cannot take
//! one message must not block those behind it.
//!
//! ```text
//! Counting -- five connections end early --> Searching -- the peer ends all --> Resting
//!    ^  ^                                     |    ^                               |
//!    |  +-------- all frames survived --------+    | another frame survived        |
//!    |            or were given up            v    |                               |
//!    |                        few frames, and no other to compare them with        |
//!    +---------------------------- ten minutes ------------------------------------+
//! ```
//!
//! There are two mechanisms. A frame that the peer acknowledged is one of those
//! that are sent again, so a [`Search`] isolates it. A frame that ends the
//! connection before the peer acknowledges it is known by its position
//! ([`CutFrames`]), even if other batches are delivered in between.
//!
//! Frames that survive in a search are kept like all that are delivered. But if
//! the next search comes at once, there is no bad frame: the receiver ends
//! connections for a reason of its own, for example after so many messages, and
//! would be sent the same frames forever. So the frames that survive a second
//! search count as read. They are counted as exposed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cut::{Cut, CutFrames};
use super::search::{Search, Verdict};
use crate::replay::Replay;
use crate::{Batch, Framing};

/// The number of connections in a row that have to end early before a search.
const ENDS: u32 = 5;
/// The maximum number of frames that are set aside: with more, the peer refuses
/// everything.
const ASIDE: usize = 8;
/// The time without a search after one in which the peer ended all connections,
/// and the time after which frames that were set aside are sent again.
const REST: Duration = Duration::from_secs(600);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Suspects {
    state: State,
    /// Frames that end connections, as far as is known without another frame to
    /// compare them with.
    aside: Batch,
    /// The time at which they are sent again, whether there is one or not.
    aside_until: Option<Instant>,
    cut: CutFrames,
    /// There was a search.
    has_searched: bool,
    /// The last search found nothing, and all ends since were early ones.
    was_fruitless: bool,
    /// The bytes of frames that survived twice, and are not kept any more.
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
    /// No suspicion.
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

    /// Whether it matters that a connection lives on for
    /// [`Suspects::survival_time`].
    pub(super) fn is_waiting(&self) -> bool {
        self.is_searching() || !self.aside.is_empty()
    }

    /// The time for which a connection must live on after its frames were
    /// acknowledged: longer than those lived that ended, between the two
    /// bounds.
    pub(super) fn survival_time(&self, min: Duration, max: Duration) -> Duration {
        (self.slowest * 2).clamp(min, max.max(min))
    }

    /// The bytes of frames that are held here.
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

    /// The number of the first frame that is held here ([`Batch::numbered`]).
    pub(super) fn first_number(&self) -> Option<u64> {
        let searched = match &self.state {
            State::Searching { frames, .. } => Some(frames.first()),
            State::Counting { .. } | State::Resting { .. } => None,
        };
        let aside = (!self.aside.is_empty()).then(|| self.aside.first());
        [searched, aside].into_iter().flatten().min()
    }

    /// There is a new connection.
    pub(super) fn on_connected(&mut self, now: Instant) {
        self.cut.forget_expired(now);
    }

    /// The frames to be sent next while searching; none on a connection that
    /// has to survive without any.
    pub(super) fn probe(&self) -> Option<Batch> {
        let State::Searching { frames, search } = &self.state else {
            return None;
        };
        let probe = search.probe();
        (!probe.is_empty()).then(|| frames.slice(probe))
    }

    /// A connection ended, on which frames were sent again. It is `early` if
    /// that was so soon that one of them may be the reason; it took this long
    /// from the first byte. A search takes the frames from `replay`.
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
            State::Resting { until } if now >= *until => self.count_anew(),
            State::Resting { .. } => {}
        }
    }

    /// A connection lived on for [`Suspects::survival_time`] after the peer had
    /// acknowledged what was sent, of which `replay` has the newest.
    pub(super) fn on_survived(&mut self, replay: &mut Replay, now: Instant) {
        if let State::Searching { search, .. } = &mut self.state {
            let verdict = search.survived();
            self.conclude(verdict, replay, now);
        } else {
            self.search_aside(replay);
        }
    }

    /// A connection ended within this frame, of a batch that is not kept here.
    pub(super) fn add_cut(&mut self, frame: &[u8], cut: Cut, now: Instant) {
        self.cut.add(frame, cut, now);
    }

    /// A connection that was not cut within a frame lived for a while.
    pub(super) fn others_survived(&mut self) {
        self.cut.others_survived();
    }

    /// Whether a frame has to be sent alone.
    pub(super) fn is_suspect(&self, frame: &[u8]) -> bool {
        self.cut.is_suspect(frame)
    }

    /// The peer acknowledged a frame that was sent alone.
    pub(super) fn acquit(&mut self, frame: &[u8]) {
        self.cut.forget(frame);
    }

    /// Whether connections keep ending within this frame, and live on without
    /// it. It is given up then.
    pub(super) fn gives_up(&mut self, frame: &[u8]) -> bool {
        let gives_up = self.cut.give_up(frame);
        if gives_up {
            self.rejected.push_back(frame.len());
        }
        gives_up
    }

    /// The length in bytes of a frame that was given up, oldest first.
    pub(super) fn poll_rejected(&mut self) -> Option<usize> {
        self.rejected.pop_front()
    }

    /// The bytes of frames that count as read without a proof, since the last
    /// call.
    pub(super) const fn take_exposed(&mut self) -> u64 {
        std::mem::replace(&mut self.exposed, 0)
    }

    /// Drops all frames that are held here.
    pub(super) fn abandon(&mut self) {
        self.state = State::Counting { ends: 0 };
        self.take_aside();
    }

    /// The time at which [`Suspects::expired_aside`] has frames.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.aside_until
    }

    /// The frames that were set aside and have waited long enough for another
    /// one.
    pub(super) fn expired_aside(&mut self, now: Instant) -> Option<Batch> {
        let is_expired = self.aside_until.is_some_and(|until| now >= until);
        (is_expired && !self.is_searching()).then(|| self.take_aside())
    }

    /// Searches among the frames that would be sent again.
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

    /// Compares the frames that were set aside with one that survived.
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

    /// Acts on a verdict. The frames that are left go back to `replay` when the
    /// search is over.
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
                    self.count_anew();
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
                self.count_anew();
            }
            Verdict::Peer => {
                let all = frames.slice(0..search.left().end);
                self.set_aside(&all);
                self.rest(replay, now);
            }
        }
    }

    /// It is the peer: nothing is set aside any more.
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

    fn count_anew(&mut self) {
        self.state = State::Counting { ends: 0 };
        self.slowest = Duration::ZERO;
    }
}
