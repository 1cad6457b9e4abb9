//! The search for frames that make a receiver close its connections. Nothing on the
//! wire identifies such a frame, and it would be sent again forever. The search
//! therefore bisects: it sends halves of the frames in doubt, and observes which of
//! them the connection survives.
//!
//! ```text
//! frames   0 ............ low ............... high ............ n
//!          |  survived     |  ended a connection  |
//!
//! Idle      nothing is sent: a connection must survive without any frame
//! Halving   low..middle is sent: if the connection survives, low = middle,
//!           and if it ends, high = middle
//! Comparing high = low + 1: this frame and a control frame are sent alternately,
//!           each alone on its connection
//! ```
//!
//! Connections also end for other reasons, by chance or for some time. A frame is
//! therefore blamed only if it ends five connections, and if the control frame
//! survives one connection after each of them, without exception. Behind a balancer
//! with broken servers, three failures in a row are not rare; in a simulation with half
//! or two thirds of the servers broken, five comparisons blame at most 5 frames in
//! 1,000 searches.
//!
//! Bad frames often come in a row: after the first one, the next frame is tried alone,
//! then two, four, and so on, and two comparisons are enough. A search always
//! terminates: each probe narrows the range, advances `low`, or increments a counter.

use std::ops::Range;

/// The number of comparisons that are needed to blame the first frame: in each, the
/// suspect ends a connection and the control survives one.
const PAIRS: u32 = 5;
/// The number of comparisons that are needed to blame each further frame.
const MORE_PAIRS: u32 = 2;
/// The number of idle connections that must end before the peer is blamed.
const IDLE_ENDS: u32 = 3;
/// The number of connections with a proven control that must end before the peer is
/// blamed.
const CONTROL_ENDS: u32 = 2;
/// The maximum number of frames that are tried as the control.
const CANDIDATES: usize = 8;

/// A search for the frame that ends connections.
#[derive(Debug)]
pub(super) struct Search {
    /// The number of frames under suspicion.
    frames: usize,
    /// The index of the first frame that has not survived yet.
    low: usize,
    stage: Stage,
    /// The number of comparisons that are needed to blame a frame.
    needed: u32,
    /// The number of connections that ended with a proven control.
    control_ends: u32,
    /// The index of a frame that survived, alone or among others.
    control: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle {
        ends: u32,
    },
    Halving {
        high: usize,
        /// Whether the frames from `low` to `high` ended a connection together.
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
    /// A frame that may become the control. Holds the number of candidates that were
    /// tried before.
    Candidate(usize),
}

/// The state of a search after a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another probe is needed.
    Open,
    /// The first frame that has not survived is to blame.
    Guilty,
    /// Each of the few frames ends connections, and no other frame is available as a
    /// control.
    Unconfirmed,
    /// All frames have survived.
    Survived,
    /// The peer ends connections whatever is sent.
    Peer,
}

impl Search {
    /// Begins a search among the first `frames` frames. With `has_control`, the frame
    /// after them is known to survive, and serves as the control.
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

    /// Returns the number of frames at the beginning that have survived.
    pub(super) const fn survivors(&self) -> usize {
        self.low
    }

    /// Returns the frames under suspicion that have not survived.
    pub(super) const fn left(&self) -> Range<usize> {
        self.low..self.frames
    }

    /// Whether no frame was blamed.
    pub(super) const fn is_fruitless(&self) -> bool {
        self.needed == PAIRS
    }

    /// Returns the frames to be sent on the next connection, and nothing after them.
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

    /// Records that the connection survived the frames of [`Search::probe`].
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

    /// Records that the connection ended with the frames of [`Search::probe`].
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

    /// Removes the frame that is to blame, and continues the search after it.
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

    /// Tries the next `count` frames, which were not tried before.
    fn try_next(&mut self, count: usize) -> Verdict {
        self.halve(self.frames.min(self.low + count), false)
    }

    /// Narrows the range to `high`. Starts comparing when the range is a single frame
    /// that ended a connection.
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

    /// Sends the control frame next, after the suspect ended a connection.
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

    /// Sends a candidate for the control next, if one is left.
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

    /// Returns the index of a candidate. The candidates are spread over the frames after
    /// the suspect, last frame first, because bad frames often come in a row.
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

    /// Runs a search against a receiver that ends a connection at the frames that
    /// `ends_at` selects. Returns the blamed frames, the last verdict, and the number
    /// of probes.
    fn search(frames: usize, ends_at: impl Fn(usize) -> bool) -> (Vec<usize>, Verdict, u32) {
        let mut search = Search::new(frames, false);
        // The remaining frames, by their original indexes.
        let mut originals: Vec<usize> = (0..frames).collect();
        let mut blamed = Vec::new();
        for probes in 1.. {
            let mut verdict = if originals[search.probe()]
                .iter()
                .any(|frame| ends_at(*frame))
            {
                search.ended()
            } else {
                search.survived()
            };
            if verdict == Verdict::Guilty {
                blamed.push(originals.remove(search.survivors()));
                verdict = search.remove_guilty();
            }
            if verdict != Verdict::Open {
                return (blamed, verdict, probes);
            }
        }
        unreachable!("the range of probes is unbounded")
    }

    #[test]
    fn a_single_bad_frame_is_found_at_any_position() {
        for frames in 2..40 {
            for culprit in 0..frames {
                let (blamed, verdict, probes) = search(frames, |frame| frame == culprit);
                assert_eq!((blamed, verdict), (vec![culprit], Verdict::Survived));
                assert!(probes <= 7 + 2 * PAIRS + 6, "{frames}, {culprit}: {probes}");
            }
        }
    }

    #[test]
    fn several_bad_frames_are_all_found() {
        for first in 0..20 {
            let guilty: Vec<usize> = (first..first + 15).step_by(1 + first % 3).collect();
            let (blamed, verdict, _) = search(50, |frame| guilty.contains(&frame));
            assert_eq!((blamed, verdict), (guilty, Verdict::Survived));
        }
    }

    #[test]
    fn the_number_of_probes_is_logarithmic() {
        let (blamed, _, probes) = search(1 << 20, |frame| frame == 777_777);
        assert_eq!(blamed, [777_777]);
        assert!(probes <= 1 + 21 + 2 * PAIRS + 20, "{probes}");
    }

    #[test]
    fn no_frame_is_blamed_if_idle_connections_end() {
        let mut search = Search::new(100, false);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Peer);
    }

    #[test]
    fn no_frame_is_blamed_if_every_frame_ends_a_connection() {
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
    fn no_frame_is_blamed_if_every_connection_survives() {
        let (blamed, verdict, _) = search(1000, |_| false);
        assert_eq!((blamed, verdict), (Vec::new(), Verdict::Survived));
    }

    #[test]
    fn a_single_frame_is_not_blamed_without_a_control() {
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

    /// A load balancer distributes connections to servers, of which some end every
    /// connection that carries a frame.
    #[test]
    fn connections_that_end_at_random_hardly_ever_blame_a_frame() {
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
    fn a_frame_that_survives_once_is_not_blamed() {
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
    fn the_peer_is_blamed_if_the_control_ends_connections() {
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
