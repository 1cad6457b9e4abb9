//! Counts of records that were mapped, altered or lost.

/// A reason why a record was not delivered as one complete message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The record could not be decoded.
    Damaged,
    /// The record is from another or an unknown namespace.
    Refused,
    /// The message was too long, and `oversize` is `drop`.
    Oversize,
    /// The message did not fit a datagram.
    Datagram,
    /// The receiver ended the connection each time it got the message.
    Rejected,
    /// The message was removed from a full queue.
    Evicted,
    /// The message could not be read from the queue on disk.
    Unreadable,
    /// The message was too long, and was truncated.
    Truncated,
    /// The message was too long, and was split into several messages.
    Split,
    /// A label or parameter did not fit the structured data.
    ParamOmitted,
}

impl LossReason {
    /// All reasons, in the order of their counts in a [`Tally`].
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

    /// Returns the value of the metrics' label `reason`.
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

    /// Returns a description of the affected records, to which log lines and notices
    /// add the count.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Damaged => "unreadable records skipped",
            Self::Refused => "records outside this output's namespace refused",
            Self::Oversize => "messages longer than max_message_size dropped",
            Self::Datagram => "messages too large for a datagram dropped",
            Self::Rejected => {
                "messages dropped because the receiver ended the connection on each attempt"
            }
            Self::Evicted => "oldest messages dropped because the queue was full",
            Self::Unreadable => {
                "messages lost because they could not be read from the queue's disk"
            }
            Self::Truncated => "messages truncated to max_message_size",
            Self::Split => "records longer than max_message_size split",
            Self::ParamOmitted => {
                "labels and parameters omitted because they did not fit the structured data"
            }
        }
    }

    /// Whether no part of the record was sent.
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

    /// Whether the sink lacks something that it should have received.
    ///
    /// Records of other namespaces were never meant for this sink, so they are not
    /// reported to it.
    const fn is_loss(self) -> bool {
        !matches!(self, Self::Refused | Self::Split)
    }
}

/// Counts of the messages and losses of one or more chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of messages created.
    pub messages: u64,
    reasons: [u64; LossReason::ALL.len()],
}

impl Tally {
    /// Increments the count of a reason.
    pub fn add(&mut self, reason: LossReason) {
        self.add_many(reason, 1);
    }

    /// Increases the count of a reason by `count`.
    pub fn add_many(&mut self, reason: LossReason, count: u64) {
        self.reasons[reason as usize] += count;
    }

    /// Returns the count of a reason.
    #[must_use]
    pub const fn count(&self, reason: LossReason) -> u64 {
        self.reasons[reason as usize]
    }

    /// Returns the reasons whose count is not zero, with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (LossReason, u64)> + '_ {
        LossReason::ALL
            .into_iter()
            .map(|reason| (reason, self.count(reason)))
            .filter(|(_, count)| *count > 0)
    }

    /// Adds the counts of another tally.
    pub fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        for (count, more) in self.reasons.iter_mut().zip(other.reasons) {
            *count += more;
        }
    }

    /// Returns only the counts of losses that are reported to the sink, without
    /// records of other namespaces and messages that were split.
    #[must_use]
    pub fn losses(&self) -> Self {
        let mut losses = Self::default();
        for reason in LossReason::ALL {
            if reason.is_loss() {
                losses.reasons[reason as usize] = self.count(reason);
            }
        }
        losses
    }

    /// Whether every record became one complete message.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.reasons.iter().all(|count| *count == 0)
    }
}
