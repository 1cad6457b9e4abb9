//! The files of tenants that are held back after a failure, and how long.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::lasts;

/// The wait before a failed revision is tried again. The cause may have been the node, or a
/// lack of room for a pod.
const RETRY_WAIT: Duration = Duration::from_secs(15 * 60);
/// The factor by which the wait grows with each further failure.
const BACKOFF_FACTOR: u32 = 4;
/// The longest wait.
pub(super) const MAX_RETRY_WAIT: Duration = Duration::from_secs(6 * 3600);
/// The number of failures of a file after which it waits whatever its content.
const MAX_FAILURES: u32 = 3;

/// The files of tenants that are held back, by name.
pub type HeldFiles = BTreeMap<String, HeldFile>;

/// The content of a file that is held back.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HeldFile {
    /// The hash of the content. Other contents of the file are not held back.
    pub content: String,
    /// The failure.
    #[serde(flatten)]
    pub setback: Setback,
}

/// The reason why a tenant's file is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldReason {
    /// The failure of the agents that had it, for people.
    pub why: String,
    /// Whether another change may be the cause, so that this one is tried again in turn.
    pub is_suspect: bool,
}

/// A failure, and how often it has occurred.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Setback {
    /// The failure of the agents, for people.
    pub why: String,
    /// The time of the last failure.
    pub since: Timestamp,
    /// The number of failures.
    pub times: u32,
}

impl HeldFile {
    /// Returns whether the file stays as it was instead of getting this content.
    pub(super) fn applies_to(&self, content: &str, now: Timestamp) -> bool {
        let Self {
            content: failed,
            setback,
        } = self;
        // A file of which several contents in a row have failed gives others a turn.
        let is_frequent = setback.times >= MAX_FAILURES && lasts(setback.since, now) < RETRY_WAIT;
        is_frequent || (failed == content && !setback.is_over(now))
    }
}

impl Setback {
    /// Returns whether the wait is over.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let waits = BACKOFF_FACTOR.saturating_pow(self.times.saturating_sub(1));
        lasts(self.since, now) >= RETRY_WAIT.saturating_mul(waits).min(MAX_RETRY_WAIT)
    }
}
