//! Which server to try next: the first that is not being left alone after a
//! failure. Each has a backoff of its own.

use std::time::{Duration, Instant};

use syslog::{Backoff, Policy};

#[derive(Debug)]
pub(crate) struct Servers(Vec<Health>);

#[derive(Debug)]
struct Health {
    backoff: Backoff,
    /// Not to be tried before.
    retry_at: Option<Instant>,
}

impl Servers {
    pub(crate) fn new(count: usize, policy: &Policy) -> Self {
        let health = || Health {
            backoff: Backoff::new(policy.backoff_min, policy.backoff_max),
            retry_at: None,
        };
        Self(std::iter::repeat_with(health).take(count).collect())
    }

    /// The first server that may be tried, of all.
    pub(crate) fn pick(&self, now: Instant) -> Option<usize> {
        self.pick_before(self.0.len(), now)
    }

    /// The first server that may be tried, of those before the one at `end`.
    pub(crate) fn pick_before(&self, end: usize, now: Instant) -> Option<usize> {
        self.0[..end]
            .iter()
            .position(|health| health.retry_at.is_none_or(|until| now >= until))
    }

    /// A server failed: it is left alone for a while.
    pub(crate) fn fail(&mut self, server: usize, now: Instant, random: u32) {
        let health = &mut self.0[server];
        health.retry_at = Some(now + health.backoff.fail(random));
    }

    /// A server is well.
    pub(crate) fn reset(&mut self, server: usize) {
        let health = &mut self.0[server];
        health.backoff.reset();
        health.retry_at = None;
    }

    /// Nobody knows of any server that it is not well.
    pub(crate) fn reset_all(&mut self) {
        for server in 0..self.0.len() {
            self.reset(server);
        }
    }

    /// How long until a server may be tried.
    pub(crate) fn time_to_retry(&self, now: Instant) -> Duration {
        let rest = |health: &Health| {
            health
                .retry_at
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
        };
        self.0.iter().map(rest).min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_well_is_picked_and_each_rests_for_itself() {
        let now = Instant::now();
        let policy = Policy::default();
        let mut servers = Servers::new(3, &policy);
        assert_eq!(servers.pick(now), Some(0));
        servers.fail(0, now, 0);
        assert_eq!(servers.pick(now), Some(1));
        assert_eq!(servers.time_to_retry(now), Duration::ZERO);
        servers.fail(1, now, u32::MAX);
        servers.fail(2, now, u32::MAX);
        assert_eq!(servers.pick(now), None);
        assert_eq!(servers.time_to_retry(now), policy.backoff_min);
        let later = now + policy.backoff_min;
        assert_eq!(servers.pick(later), Some(0));
        assert_eq!(servers.pick_before(0, later), None);
        servers.reset(1);
        servers.fail(0, later, 0);
        assert_eq!(servers.pick(later), Some(1));
    }
}
