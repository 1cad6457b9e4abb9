//! The search for the one frame at which a receiver ends its connections.
//!
//! ```text
//! frames   0 ........ low ........ middle ........ high ........ n
//!          |  innocent  |   probe    |                |
//!
//! nothing at all      the connection ends: no frame is to blame
//! low..middle         it survives: low = middle; it ends: high = middle
//! low..low + 1        it ends three times: this is the frame
//! ```
//!
//! A frame is only ever blamed after a connection without it survived: first
//! an idle one, and in the end one with other frames (`suspects.rs`).

use std::ops::Range;

/// How often a single frame, or none at all, has to end a connection.
const STRIKES: u32 = 3;

/// Halves a number of frames, by connections that survive or end.
#[derive(Debug)]
pub(super) struct Search {
    /// An idle connection survived.
    idle_survived: bool,
    /// Frames before this one ended no connection.
    low: usize,
    /// The frames before this one, taken together, did.
    high: usize,
    /// How often the same probe ended a connection.
    strikes: u32,
}

/// The state of a search after a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another probe is needed.
    Open,
    /// The frame of this number ends connections.
    Frame(usize),
    /// No frame does: connections end whatever is sent, or no longer do.
    Nothing,
}

impl Search {
    /// A search among this many frames, all of them under suspicion.
    pub(super) const fn new(frames: usize) -> Self {
        Self {
            idle_survived: false,
            low: 0,
            high: frames,
            strikes: 0,
        }
    }

    /// Whether connections live on at all, without any frame.
    pub(super) const fn idle_survived(&self) -> bool {
        self.idle_survived
    }

    /// The frames to send next, and nothing behind them; first none at all.
    pub(super) const fn probe(&self) -> Range<usize> {
        if self.idle_survived {
            self.low..self.low + (self.high - self.low).div_ceil(2)
        } else {
            0..0
        }
    }

    /// The connection lived on with the frames of [`Search::probe`].
    pub(super) const fn survived(&mut self) -> Verdict {
        let probe = self.probe();
        self.idle_survived = true;
        self.low = probe.end;
        self.strikes = 0;
        if self.low == self.high {
            Verdict::Nothing
        } else {
            Verdict::Open
        }
    }

    /// The connection ended with the frames of [`Search::probe`].
    pub(super) const fn ended(&mut self) -> Verdict {
        if self.idle_survived {
            self.high = self.probe().end;
            if self.high - self.low > 1 {
                return Verdict::Open;
            }
        }
        self.strikes += 1;
        if self.strikes < STRIKES {
            Verdict::Open
        } else if self.idle_survived {
            Verdict::Frame(self.low)
        } else {
            Verdict::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a receiver that ends a connection at these
    /// frames. Returns the verdict and how many probes it took.
    fn search(frames: usize, ends_at: impl Fn(usize) -> bool) -> (Verdict, u32) {
        let mut search = Search::new(frames);
        for probes in 1.. {
            let verdict = if search.probe().any(&ends_at) {
                search.ended()
            } else {
                search.survived()
            };
            if verdict != Verdict::Open {
                return (verdict, probes);
            }
        }
        unreachable!("the loop ends by itself")
    }

    #[test]
    fn finds_the_frame_wherever_it_is() {
        for frames in 1..40 {
            for culprit in 0..frames {
                let (verdict, probes) = search(frames, |frame| frame == culprit);
                assert_eq!(verdict, Verdict::Frame(culprit));
                assert!(probes <= 1 + 6 + STRIKES, "{frames}, {culprit}: {probes}");
            }
        }
    }

    #[test]
    fn finds_the_first_of_several() {
        for frames in 2..40 {
            for first in 0..frames - 1 {
                let (verdict, _) = search(frames, |frame| frame >= first);
                assert_eq!(verdict, Verdict::Frame(first));
            }
        }
    }

    #[test]
    fn takes_a_logarithmic_number_of_probes() {
        let (verdict, probes) = search(1 << 20, |frame| frame == 777_777);
        assert_eq!(verdict, Verdict::Frame(777_777));
        assert!(probes <= 1 + 21 + STRIKES, "{probes}");
    }

    #[test]
    fn blames_nothing_where_an_idle_connection_ends() {
        let mut search = Search::new(100);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Nothing);
    }

    #[test]
    fn blames_nothing_where_every_connection_survives() {
        let (verdict, _) = search(1000, |_| false);
        assert_eq!(verdict, Verdict::Nothing);
    }

    #[test]
    fn a_frame_that_passes_once_is_not_blamed() {
        let mut search = Search::new(1);
        search.survived();
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.ended(), Verdict::Open);
        assert_eq!(search.survived(), Verdict::Nothing);
    }
}
