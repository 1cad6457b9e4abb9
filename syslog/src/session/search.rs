//! The search for frames at which a receiver ends its connections.
//!
//! ```text
//! frames   0 ............ low ............... high ............ n
//!          |  survived     |  ended a connection  |
//!
//! Idle      nothing is sent: a connection has to live on without any frame
//! Halving   low..middle is sent: if the connection lives on, low = middle,
//!           and if it ends, high = middle
//! Comparing high = low + 1: this frame and a control frame are sent in turn,
//!           each alone on its connection
//! ```
//!
//! Connections also end for other reasons, by chance or for a while. So a frame
//! is to blame only if it ended five connections, and the control survived one
//! after each of them, without an exception. Bad frames often come in a row:
//! behind one, the next frame is tried alone, then two, four, and so on, and two
//! comparisons are enough. A search always comes to an end: each probe narrows
//! the range, moves `low` on, or counts.

use std::ops::Range;

/// The number of times that the first suspect has to end a connection and the
/// control to survive one.
const PAIRS: u32 = 5;
/// The number of times for the suspects behind one that was to blame.
const MORE_PAIRS: u32 = 2;
/// The number of idle connections that have to end before it is the peer.
const IDLE_ENDS: u32 = 3;
/// The number of connections of a proven control that have to end before it is
/// the peer.
const CONTROL_ENDS: u32 = 2;
/// The maximum number of frames that are tried as a control.
const CANDIDATES: usize = 8;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Search {
    /// The number of frames under suspicion.
    frames: usize,
    /// The frames before this one survived.
    low: usize,
    stage: Stage,
    /// How many comparisons are needed to blame a frame.
    needed: u32,
    /// The number of connections that ended with a proven control.
    control_ends: u32,
    /// A frame that survived alone, or among others.
    control: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle {
        ends: u32,
    },
    Halving {
        high: usize,
        /// Whether the frames up to `high` together ended a connection.
        is_guilty: bool,
    },
    Comparing {
        pairs: u32,
        turn: Side,
    },
}

/// The frame that is sent alone.
#[derive(Clone, Copy, Debug)]
enum Side {
    Suspect,
    Control,
    /// A frame that may become the control, by its number in the row of those
    /// that are tried.
    Candidate(usize),
}

/// The state of a search after a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another probe is needed.
    Open,
    /// The first frame that has not survived is to blame.
    Guilty,
    /// Each of the few frames ends connections, and there is no other one to
    /// compare them with.
    Unconfirmed,
    /// All frames have survived.
    Survived,
    /// Connections end whatever is sent.
    Peer,
}

impl Search {
    /// A search among the first `frames` frames. A frame behind them that is
    /// known to survive may serve as the control.
    pub(super) const fn new(frames: usize, has_control: bool) -> Self {
        Self {
            frames,
            low: 0,
            stage: Stage::Idle { ends: 0 },
            needed: PAIRS,
            control_ends: 0,
            control: if has_control { Some(frames) } else { None },
        }
    }

    /// The number of frames at the beginning that have survived.
    pub(super) const fn survivors(&self) -> usize {
        self.low
    }

    /// The frames under suspicion that have not survived.
    pub(super) const fn left(&self) -> Range<usize> {
        self.low..self.frames
    }

    /// Whether no frame was to blame.
    pub(super) const fn is_fruitless(&self) -> bool {
        self.needed == PAIRS
    }

    /// The frames to be sent next, and nothing behind them.
    pub(super) fn probe(&self) -> Range<usize> {
        let alone = |frame: usize| frame..frame + 1;
        match self.stage {
            Stage::Idle { .. } => 0..0,
            Stage::Halving { high, is_guilty } if is_guilty => {
                self.low..self.low + (high - self.low).div_ceil(2)
            }
            Stage::Halving { high, .. } => self.low..high,
            Stage::Comparing { turn, .. } => match turn {
                Side::Suspect => alone(self.low),
                Side::Control => alone(self.control.unwrap_or(self.low)),
                Side::Candidate(row) => alone(self.candidate(row)),
            },
        }
    }

    /// The connection lived on with the frames of [`Search::probe`].
    pub(super) fn survived(&mut self) -> Verdict {
        match self.stage {
            Stage::Idle { .. } => self.halve(self.frames, true),
            Stage::Halving { high, is_guilty } => {
                let probe = self.probe();
                self.low = probe.end;
                if self.low < high {
                    self.halve(high, is_guilty)
                } else {
                    self.try_next(2 * probe.len())
                }
            }
            Stage::Comparing { pairs, turn } => match turn {
                Side::Suspect => {
                    self.low += 1;
                    self.try_next(1)
                }
                Side::Control | Side::Candidate(_) => {
                    self.control = Some(self.probe().start);
                    self.stage = Stage::Comparing {
                        pairs: pairs + 1,
                        turn: Side::Suspect,
                    };
                    if pairs + 1 < self.needed {
                        Verdict::Open
                    } else {
                        Verdict::Guilty
                    }
                }
            },
        }
    }

    /// The connection ended with the frames of [`Search::probe`].
    pub(super) fn ended(&mut self) -> Verdict {
        match self.stage {
            Stage::Idle { ends } if ends + 1 == IDLE_ENDS => Verdict::Peer,
            Stage::Idle { ends } => {
                self.stage = Stage::Idle { ends: ends + 1 };
                Verdict::Open
            }
            Stage::Halving { .. } => {
                let high = self.probe().end;
                if high - self.low == 1 {
                    self.compare(0)
                } else {
                    self.halve(high, true)
                }
            }
            Stage::Comparing { pairs, turn } => match turn {
                Side::Suspect => self.compare(pairs),
                Side::Control => {
                    self.control_ends += 1;
                    self.stage = Stage::Comparing {
                        pairs: 0,
                        turn: Side::Suspect,
                    };
                    if self.control_ends < CONTROL_ENDS {
                        Verdict::Open
                    } else {
                        Verdict::Peer
                    }
                }
                Side::Candidate(row) => self.try_candidate(pairs, row + 1),
            },
        }
    }

    /// The frame that was to blame is removed. The search goes on behind it.
    pub(super) fn remove_guilty(&mut self) -> Verdict {
        self.frames -= 1;
        self.needed = MORE_PAIRS;
        if let Some(control) = &mut self.control
            && *control > self.low
        {
            *control -= 1;
        }
        self.try_next(1)
    }

    /// Tries the next frames, of which nothing is known.
    fn try_next(&mut self, count: usize) -> Verdict {
        self.halve(self.frames.min(self.low + count), false)
    }

    /// Narrows the range to `high`, and begins to compare once it is a single
    /// frame that ended a connection.
    fn halve(&mut self, high: usize, is_guilty: bool) -> Verdict {
        if self.low == self.frames {
            return Verdict::Survived;
        }
        self.stage = if is_guilty && high - self.low == 1 {
            Stage::Comparing {
                pairs: 0,
                turn: Side::Suspect,
            }
        } else {
            Stage::Halving { high, is_guilty }
        };
        Verdict::Open
    }

    /// The suspect ended a connection: now it is the control's turn.
    fn compare(&mut self, pairs: u32) -> Verdict {
        if self.low > 0 {
            self.control.get_or_insert(self.low - 1);
        }
        if self.control.is_none() {
            return self.try_candidate(pairs, 0);
        }
        self.stage = Stage::Comparing {
            pairs,
            turn: Side::Control,
        };
        Verdict::Open
    }

    fn try_candidate(&mut self, pairs: u32, row: usize) -> Verdict {
        let others = self.frames - self.low - 1;
        if row == others.min(CANDIDATES) {
            return if others < CANDIDATES {
                Verdict::Unconfirmed
            } else {
                Verdict::Peer
            };
        }
        self.stage = Stage::Comparing {
            pairs,
            turn: Side::Candidate(row),
        };
        Verdict::Open
    }

    /// The candidates are spread over the frames behind the suspect, the last
    /// one first: bad frames often come in a row.
    const fn candidate(&self, row: usize) -> usize {
        let others = self.frames - self.low - 1;
        let tried = if others < CANDIDATES {
            others
        } else {
            CANDIDATES
        };
        self.frames - 1 - row * others / tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a receiver that ends a connection at these
    /// frames. Returns those that are blamed, the last verdict, and the number
    /// of probes.
    fn search(frames: usize, ends_at: impl Fn(usize) -> bool) -> (Vec<usize>, Verdict, u32) {
        let mut search = Search::new(frames, false);
        // The frames by their numbers at the beginning.
        let mut names: Vec<usize> = (0..frames).collect();
        let mut blamed = Vec::new();
        for probes in 1.. {
            let mut verdict = if names[search.probe()].iter().any(|name| ends_at(*name)) {
                search.ended()
            } else {
                search.survived()
            };
            if verdict == Verdict::Guilty {
                blamed.push(names.remove(search.survivors()));
                verdict = search.remove_guilty();
            }
            if verdict != Verdict::Open {
                return (blamed, verdict, probes);
            }
        }
        unreachable!("the loop ends by itself")
    }

    #[test]
    fn finds_the_frame_wherever_it_is() {
        for frames in 2..40 {
            for culprit in 0..frames {
                let (blamed, verdict, probes) = search(frames, |frame| frame == culprit);
                assert_eq!((blamed, verdict), (vec![culprit], Verdict::Survived));
                assert!(probes <= 7 + 2 * PAIRS + 6, "{frames}, {culprit}: {probes}");
            }
        }
    }

    #[test]
    fn finds_all_of_several() {
        for first in 0..20 {
            let guilty: Vec<usize> = (first..first + 15).step_by(1 + first % 3).collect();
            let (blamed, verdict, _) = search(50, |frame| guilty.contains(&frame));
            assert_eq!((blamed, verdict), (guilty, Verdict::Survived));
        }
    }

    #[test]
    fn takes_a_logarithmic_number_of_probes() {
        let (blamed, _, probes) = search(1 << 20, |frame| frame == 777_777);
        assert_eq!(blamed, [777_777]);
        assert!(probes <= 1 + 21 + 2 * PAIRS + 20, "{probes}");
    }

    #[test]
    fn blames_nothing_where_an_idle_connection_ends() {
        let mut search = Search::new(100, false);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Peer);
    }

    #[test]
    fn blames_nothing_where_every_frame_ends_a_connection() {
        for frames in 1..100 {
            let (blamed, verdict, probes) = search(frames, |_| true);
            let expected = if frames <= CANDIDATES {
                Verdict::Unconfirmed
            } else {
                Verdict::Peer
            };
            assert_eq!((blamed, verdict), (Vec::new(), expected));
            assert!(probes < 20, "{probes}");
        }
    }

    #[test]
    fn blames_nothing_where_every_connection_survives() {
        let (blamed, verdict, _) = search(1000, |_| false);
        assert_eq!((blamed, verdict), (Vec::new(), Verdict::Survived));
    }

    #[test]
    fn a_single_frame_needs_another_one_for_comparison() {
        let (blamed, verdict, _) = search(1, |_| true);
        assert_eq!((blamed, verdict), (Vec::new(), Verdict::Unconfirmed));

        let mut search = Search::new(1, true);
        assert_eq!(search.survived(), Verdict::Open);
        for pair in 1..=PAIRS {
            assert_eq!(search.probe(), 0..1);
            assert_eq!(search.ended(), Verdict::Open);
            assert_eq!(search.probe(), 1..2);
            let verdict = search.survived();
            assert_eq!(verdict == Verdict::Guilty, pair == PAIRS);
        }
        assert_eq!(search.remove_guilty(), Verdict::Survived);
        assert!(search.left().is_empty());
    }

    /// A balancer sends connections to servers of which some end all that carry
    /// anything.
    #[test]
    fn connections_that_end_by_chance_hardly_ever_cost_a_frame() {
        let mut state = 42_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for (broken, of) in [(1, 2), (2, 3), (1, 5)] {
            let mut blamed = 0;
            for _ in 0..2000 {
                let mut search = Search::new(50, false);
                let mut verdict = search.survived();
                while verdict == Verdict::Open {
                    verdict = if random() % of < broken {
                        search.ended()
                    } else {
                        search.survived()
                    };
                }
                blamed += u32::from(verdict == Verdict::Guilty);
            }
            assert!(blamed <= 10, "{broken} of {of}: {blamed} of 2000");
        }
    }

    #[test]
    fn a_frame_that_passes_once_is_not_blamed() {
        let mut search = Search::new(2, false);
        search.survived();
        for _ in 1..PAIRS {
            assert_eq!(search.probe(), 0..1);
            search.ended();
            assert_eq!(search.probe(), 1..2);
            assert_eq!(search.survived(), Verdict::Open);
        }
        assert_eq!(search.survived(), Verdict::Open);
        assert_eq!(search.survivors(), 1);
    }

    #[test]
    fn a_control_that_ends_connections_proves_nothing() {
        let mut search = Search::new(2, false);
        search.survived();
        search.ended();
        search.survived();
        search.ended();
        assert_eq!(search.ended(), Verdict::Open);
        search.ended();
        assert_eq!(search.ended(), Verdict::Peer);
        assert_eq!(search.left(), 0..2);
    }
}
