//! The choice of the server to try next: the first one that is not in backoff. Each
//! server has a separate backoff.
//!
//! # Several servers
//!
//! One session serves several servers. It has one connection after the other, and the
//! driver chooses the server of each. So messages that the first server may have lost
//! are sent again to the second. The plugin's `sharing balance` consists of one such
//! sink per server, each with the list rotated to begin at another server, and a tag
//! always goes to the same sink.
//!
//! The connection to a preferred server is opened beside the one in use. It takes over
//! when nothing is in flight, or after `write_timeout`.
//!
//! # Connections without progress
//!
//! A connection without progress is a failure, so there is no loop of connections to a
//! peer that accepts and closes. The next attempt is immediate only after a connection
//! that lasted for `backoff_min` and had data acknowledged, or lasted for
//! `backoff_max`.

use std::time::{Duration, Instant};

use syslog::{Backoff, Policy};

/// The health of a target's servers, in order of preference.
#[derive(Debug)]
pub(crate) struct Servers(Vec<Health>);

#[derive(Debug)]
struct Health {
    backoff: Backoff,
    /// The end of the backoff, after a failure.
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

    /// Returns the first server that is not in backoff.
    pub(crate) fn pick(&self, now: Instant) -> Option<usize> {
        self.pick_before(self.0.len(), now)
    }

    /// Returns the first server before the one at `end` that is not in backoff.
    pub(crate) fn pick_before(&self, end: usize, now: Instant) -> Option<usize> {
        self.0[..end]
            .iter()
            .position(|health| health.retry_at.is_none_or(|until| now >= until))
    }

    /// Puts a server into backoff after a failure.
    pub(crate) fn fail(&mut self, server: usize, now: Instant, random: u32) {
        let health = &mut self.0[server];
        health.retry_at = Some(now + health.backoff.fail(random));
    }

    /// Ends the backoff of a healthy server.
    pub(crate) fn reset(&mut self, server: usize) {
        let health = &mut self.0[server];
        health.backoff.reset();
        health.retry_at = None;
    }

    /// Ends the backoff of all servers.
    pub(crate) fn reset_all(&mut self) {
        for server in 0..self.0.len() {
            self.reset(server);
        }
    }

    /// Returns the time until a server may be tried.
    pub(crate) fn time_to_retry(&self, now: Instant) -> Duration {
        let remaining = |health: &Health| {
            health
                .retry_at
                .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
        };
        self.0.iter().map(remaining).min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_not_in_backoff_is_picked() {
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
