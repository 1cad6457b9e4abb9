//! Frames at which a peer may end its connections: a receiver that cannot take
//! one message must not block those behind it.
//!
//! ```text
//! Counting -- five connections end early --> Searching -- nothing found --> Resting
//!    ^                                           |
//!    |                                           | one frame found
//!    +------------ set aside <-------------------+
//!                      |
//!                      +-- another frame survives a connection --> given up
//! ```
//!
//! A frame that the peer acknowledged is among those sent again, and has to be
//! searched for ([`Search`]). One that is longer than what the peer took of it
//! is the frame at which the acknowledgements stop: that is counted, also
//! while other batches are delivered in between.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::search::{Search, Verdict};
use crate::Batch;
use crate::replay::Replay;

/// How many connections in a row have to end early before a search, and how
/// many have to end within one frame before it is given up.
const ENDS: u32 = 5;
/// After a frame was found, there are often more: this many are enough then.
const MORE_ENDS: u32 = 2;
/// With more frames set aside than this, it is the peer that refuses.
const ASIDE: usize = 8;
/// How long nothing is searched for after a search without a result.
const REST: Duration = Duration::from_secs(600);
/// How many frames are remembered that a connection ended within.
const STRIKES: usize = 16;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Suspects {
    state: State,
    /// Frames that end connections, if it is not the peer that ends all.
    aside: Vec<Batch>,
    strikes: VecDeque<Strike>,
    hasher: RandomState,
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

/// A frame that connections ended within.
#[derive(Debug)]
struct Strike {
    frame: u64,
    ends: u32,
    /// A connection lived on with other frames meanwhile.
    others_survived: bool,
}

impl Suspects {
    /// No suspicion.
    pub(super) fn new() -> Self {
        Self {
            state: State::Counting { ends: 0 },
            aside: Vec::new(),
            strikes: VecDeque::new(),
            hasher: RandomState::new(),
            slowest: Duration::ZERO,
            rejected: VecDeque::new(),
        }
    }

    /// Whether only the frames of [`Suspects::probe`] may be sent.
    pub(super) const fn is_searching(&self) -> bool {
        matches!(self.state, State::Searching { .. })
    }

    /// Whether a connection that lives on for [`Suspects::settle`] proves
    /// something.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_searching() || !self.aside.is_empty()
    }

    /// How long a connection must live on after its frames were acknowledged:
    /// longer than those lived that ended, between the two bounds.
    pub(super) fn settle(&self, min: Duration, max: Duration) -> Duration {
        (self.slowest * 2).clamp(min, max.max(min))
    }

    /// Bytes of frames that are held here.
    pub(super) fn bytes(&self) -> usize {
        let searched = match &self.state {
            State::Searching { frames, .. } => frames.bytes().len(),
            State::Counting { .. } | State::Resting { .. } => 0,
        };
        let aside = self.aside.iter().map(|frame| frame.bytes().len());
        searched + aside.sum::<usize>()
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
                    self.begin(replay);
                }
            }
            State::Counting { ends } => *ends = 0,
            State::Resting { until } if now >= *until => self.rest_over(),
            State::Resting { .. } => {}
        }
    }

    /// A connection lived on for [`Suspects::settle`] after the peer had
    /// acknowledged what was sent. Returns whether a search ended by it, and
    /// gave its frames back to `replay`.
    pub(super) fn on_survived(&mut self, replay: &mut Replay, now: Instant) -> bool {
        if let State::Searching { search, .. } = &mut self.state {
            let sent_any = !search.probe().is_empty();
            let verdict = search.survived();
            if sent_any {
                self.give_up_aside();
            }
            self.conclude(verdict, replay, now);
            return !self.is_searching();
        }
        self.give_up_aside();
        false
    }

    /// A connection ended within this frame, of a batch that is not kept here.
    pub(super) fn strike(&mut self, frame: &[u8]) {
        let hash = self.hasher.hash_one(frame);
        if let Some(strike) = self.strikes.iter_mut().find(|strike| strike.frame == hash) {
            strike.ends += 1;
            return;
        }
        if self.strikes.len() == STRIKES {
            self.strikes.pop_front();
        }
        self.strikes.push_back(Strike {
            frame: hash,
            ends: 1,
            others_survived: false,
        });
    }

    /// A connection was of use for a while before it ended.
    pub(super) fn others_survived(&mut self) {
        for strike in &mut self.strikes {
            strike.others_survived = true;
        }
    }

    /// Whether connections keep ending within this frame, and lived on without
    /// it. It is given up then.
    pub(super) fn gives_up(&mut self, frame: &[u8]) -> bool {
        if self.strikes.is_empty() {
            return false;
        }
        let hash = self.hasher.hash_one(frame);
        let is_guilty =
            |strike: &Strike| strike.frame == hash && strike.ends >= ENDS && strike.others_survived;
        let Some(at) = self.strikes.iter().position(is_guilty) else {
            return false;
        };
        self.strikes.remove(at);
        self.rejected.push_back(frame.len());
        true
    }

    /// The length in bytes of a frame that was given up, oldest first.
    pub(super) fn poll_rejected(&mut self) -> Option<usize> {
        self.rejected.pop_front()
    }

    /// Drops all frames that are held here.
    pub(super) fn abandon(&mut self) {
        self.state = State::Counting { ends: 0 };
        self.aside.clear();
    }

    fn begin(&mut self, replay: &mut Replay) {
        let mut frames: Option<Batch> = None;
        for kept in replay.take() {
            let first = kept.batch.frames_before(kept.from);
            let part = kept.batch.slice(first..kept.batch.frames());
            match &mut frames {
                None => frames = Some(part),
                Some(frames) => frames.append(&part),
            }
        }
        // Without frames there is nothing to blame.
        self.state = match frames {
            None => State::Counting { ends: 0 },
            Some(frames) => State::Searching {
                search: Search::new(frames.frames()),
                frames,
            },
        };
    }

    /// Goes on as a search says, which gives its frames back when it is over.
    fn conclude(&mut self, verdict: Verdict, replay: &mut Replay, now: Instant) {
        if verdict == Verdict::Open {
            return;
        }
        let rest = State::Resting { until: now + REST };
        let State::Searching { mut frames, search } = std::mem::replace(&mut self.state, rest)
        else {
            return;
        };
        if let Verdict::Frame(number) = verdict {
            self.aside.push(frames.slice(number..number + 1));
            frames.remove(number);
            self.state = State::Counting {
                ends: ENDS - MORE_ENDS,
            };
            if number > 0 {
                // Those before it were sent, and the connection lived on.
                self.give_up_aside();
            }
        } else if search.idle_survived() {
            // They are taken now.
            self.state = State::Counting { ends: 0 };
            self.slowest = Duration::ZERO;
        }
        let is_the_peer = matches!(self.state, State::Resting { .. }) || self.aside.len() > ASIDE;
        if is_the_peer {
            self.state = State::Resting { until: now + REST };
            for frame in self.aside.drain(..) {
                replay.keep(frame, 0, now);
            }
        }
        if !frames.is_empty() {
            replay.keep(frames, 0, now);
        }
    }

    fn rest_over(&mut self) {
        self.state = State::Counting { ends: 0 };
        self.slowest = Duration::ZERO;
    }

    fn give_up_aside(&mut self) {
        let lengths = self.aside.drain(..).map(|frame| frame.bytes().len());
        self.rejected.extend(lengths);
    }
}
