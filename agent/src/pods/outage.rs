//! An outage, which is logged once for each kind of failure.

use std::collections::HashSet;
use std::hash::Hash;

/// The kinds of failures since the last success.
#[derive(Debug)]
pub(super) struct Outage<K> {
    kinds: HashSet<K>,
}

impl<K: Eq + Hash> Outage<K> {
    /// Creates the state without a failure.
    pub(super) fn new() -> Self {
        Self {
            kinds: HashSet::new(),
        }
    }

    /// Notes a failure. Returns whether it is the first one of its kind.
    pub(super) fn on_failure(&mut self, kind: K) -> bool {
        self.kinds.insert(kind)
    }

    /// Notes a success. Returns whether there was a failure before.
    pub(super) fn on_success(&mut self) -> bool {
        let has_failed = !self.kinds.is_empty();
        self.kinds.clear();
        has_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_in_an_outage() {
        let mut outage = Outage::new();
        assert!(!outage.on_success());
        for _ in 0..2 {
            assert!(outage.on_failure(403) && outage.on_failure(500));
            assert!(!outage.on_failure(403) && !outage.on_failure(500));
            assert!(outage.on_success() && !outage.on_success());
        }
    }
}
