//! What became of a chunk's records.

/// Why a record did not become one whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It could not be read.
    Damaged,
    /// It is of another namespace, or nobody knows of which.
    Refused,
    /// It was too long, and `oversize` says drop.
    Oversize,
    /// Its message did not fit a datagram.
    Datagram,
    /// The receiver ended its connections at its message.
    Rejected,
    /// Its message waited in the queue until that was full.
    Evicted,
    /// Its message could not be read from the queue.
    Unreadable,
    /// It was too long, and its end was cut off.
    Truncated,
    /// It was too long, and became several messages.
    Split,
    /// A label or a parameter had no place in the structured data.
    ParamOmitted,
}

impl Reason {
    /// All reasons, in the order in which a tally counts them.
    pub const ALL: [Self; 10] = [
        Self::Damaged,
        Self::Refused,
        Self::Oversize,
        Self::Datagram,
        Self::Rejected,
        Self::Evicted,
        Self::Unreadable,
        Self::Truncated,
        Self::Split,
        Self::ParamOmitted,
    ];

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Oversize => "oversize",
            Self::Datagram => "datagram",
            Self::Rejected => "rejected",
            Self::Evicted => "evicted",
            Self::Unreadable => "unreadable",
            Self::Truncated => "truncated",
            Self::Split => "split",
            Self::ParamOmitted => "param_omitted",
        }
    }

    /// What stands before or after their number.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Damaged => "records skipped that could not be read",
            Self::Refused => "records refused that are not of this output's namespace",
            Self::Oversize => "messages dropped that were longer than max_message_size",
            Self::Datagram => "messages dropped that did not fit a datagram",
            Self::Rejected => "messages given up at which the receiver ended the connection",
            Self::Evicted => "messages dropped, the oldest first, because the queue was full",
            Self::Unreadable => "messages lost that could not be read from the queue's disk",
            Self::Truncated => "messages truncated to max_message_size",
            Self::Split => "records split that were longer than max_message_size",
            Self::ParamOmitted => {
                "labels and parameters left out that did not fit the structured data"
            }
        }
    }

    /// Whether nothing of the record was sent.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(
            self,
            Self::Damaged
                | Self::Refused
                | Self::Oversize
                | Self::Datagram
                | Self::Rejected
                | Self::Evicted
                | Self::Unreadable
        )
    }

    /// Whether the sink was to have something that it did not get. What is of
    /// another namespace it never was to have, and to be told of it neither.
    const fn is_loss(self) -> bool {
        !matches!(self, Self::Refused | Self::Split)
    }
}

/// Counts of one chunk, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages made.
    pub messages: u64,
    reasons: [u64; Reason::ALL.len()],
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, reason: Reason) {
        self.add_many(reason, 1);
    }

    /// Counts so many.
    pub fn add_many(&mut self, reason: Reason, count: u64) {
        self.reasons[reason as usize] += count;
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self, reason: Reason) -> u64 {
        self.reasons[reason as usize]
    }

    /// The reasons that there were, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.count(reason)))
            .filter(|(_, count)| *count > 0)
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        for (count, more) in self.reasons.iter_mut().zip(other.reasons) {
            *count += more;
        }
    }

    /// The counts of what the sink did not get, though it was to have it.
    #[must_use]
    pub fn losses(&self) -> Self {
        let mut losses = Self::default();
        for reason in Reason::ALL {
            if reason.is_loss() {
                losses.reasons[reason as usize] = self.count(reason);
            }
        }
        losses
    }

    /// Whether every record became one whole message.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.reasons.iter().all(|count| *count == 0)
    }
}
