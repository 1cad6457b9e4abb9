//! A maximum size that several queues share.
//!
//! All pods of a node share its disk, and limits per sink do not add up to a useful
//! limit per node: 100 sinks of 512M are 51G. All queues of a folder therefore share a
//! budget. When one grows and the budget is exceeded, the largest queue loses its
//! oldest segment, so a sink with a small backlog loses nothing because of a sink with
//! a large one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::folder::Folder;
use crate::state::State;

/// The maximum size of all queues that share this budget. When they exceed it, the
/// largest queue evicts its oldest segments, whichever queue has grown.
///
/// The active segment of a queue is never evicted, so the queues can exceed the
/// maximum by one segment each.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    /// The sum of the queues' sizes in bytes, each as of its last count. It is never too
    /// low, because a queue is counted whenever it grows.
    used: AtomicU64,
    shares: Mutex<Vec<Weak<Share>>>,
}

/// The share of one queue in the budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    folder: Arc<Folder>,
    state: Arc<Mutex<State>>,
    /// The size of the queue in bytes, as of its last count.
    bytes: AtomicU64,
}

impl Budget {
    /// Creates a budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
            shares: Mutex::default(),
        }
    }

    fn is_exceeded(&self) -> bool {
        self.used.load(Relaxed) > self.limit
    }

    /// Evicts segments until the queues no longer exceed the budget, or each has only
    /// its active segment.
    fn enforce(&self) {
        let mut shares = self.shares.lock();
        shares.retain(|share| share.strong_count() > 0);
        let shares: Vec<Arc<Share>> = shares.iter().filter_map(Weak::upgrade).collect();
        for share in &shares {
            share.count();
        }
        let mut evictable: Vec<&Arc<Share>> = shares.iter().collect();
        while self.is_exceeded()
            && let Some(at) = largest(&evictable)
        {
            if !evictable[at].evict_oldest() {
                evictable.swap_remove(at);
            }
        }
    }
}

/// Returns the index of the largest queue.
fn largest(shares: &[&Arc<Share>]) -> Option<usize> {
    (0..shares.len()).max_by_key(|at| shares[*at].bytes.load(Relaxed))
}

impl Share {
    pub(crate) fn new(
        budget: &Arc<Budget>,
        folder: &Arc<Folder>,
        state: &Arc<Mutex<State>>,
    ) -> Arc<Self> {
        let share = Arc::new(Self {
            budget: Arc::clone(budget),
            folder: Arc::clone(folder),
            state: Arc::clone(state),
            bytes: AtomicU64::new(0),
        });
        share.count();
        budget.shares.lock().push(Arc::downgrade(&share));
        share
    }

    /// Counts the queue after it has grown, and enforces the budget.
    pub(crate) fn on_grown(&self) {
        self.count();
        if self.budget.is_exceeded() {
            self.budget.enforce();
        }
    }

    fn count(&self) {
        let state = self.state.lock();
        self.set(state.bytes());
    }

    fn set(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Relaxed);
        if bytes >= before {
            self.budget.used.fetch_add(bytes - before, Relaxed);
        } else {
            self.budget.used.fetch_sub(before - bytes, Relaxed);
        }
    }

    /// Evicts the oldest segment. Returns whether there was one to evict.
    fn evict_oldest(&self) -> bool {
        let mut state = self.state.lock();
        let is_evicted = state.evict_oldest(&self.folder);
        self.set(state.bytes());
        is_evicted
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
