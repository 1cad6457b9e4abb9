//! The attempts to connect: the choice of a server, its addresses, and the switch to a new
//! connection.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

use syslog::session::Side;

use super::{ActiveConnection, Driver};
use crate::attempt::Attempt;
use crate::context::{Context, Request};
use crate::{DeliveryEvent, Error};

impl Driver {
    /// Returns whether to start a connection attempt. A sink connects before
    /// there is anything to send, so that configuration errors show early. A sink
    /// that is being closed connects only if there is something left to send.
    pub(super) fn should_connect(&self, now: Instant) -> bool {
        if self.attempt.is_some() {
            return false;
        }
        match &self.active {
            None => {
                self.session.wants_connection()
                    && (self.close_deadline.is_none() || !self.is_drained())
            }
            Some(active) => {
                self.close_deadline.is_none() && active.failback.is_some_and(|at| now >= at)
            }
        }
    }

    /// Starts to connect to a server, or to look up its addresses.
    pub(super) fn start_attempt(&mut self, cx: &Context<'_>) -> Request {
        let picked = match &mut self.active {
            None => self.servers.pick(cx.now),
            Some(active) => {
                active.failback = Some(cx.now + self.target.failback);
                self.servers.pick_before(active.server, cx.now)
            }
        };
        let Some(server) = picked else {
            if self.active.is_none() {
                self.session
                    .on_failed(cx.now, self.servers.time_to_retry(cx.now));
            }
            return Request::Nothing;
        };
        if let Some(tls) = self.target.transport.tls()
            && let Some(files) = tls.refresh()
        {
            self.notify(&DeliveryEvent::TlsFilesReloaded(files.as_ref().copied()));
        }
        if let Some(address) = self.target.servers[server].address() {
            self.connect(server, [address].into(), cx);
            return Request::Nothing;
        }
        self.attempt = Some(Attempt::look_up(&self.target, server, cx.now));
        if self.pending_look_ups.contains(&server) {
            return Request::Nothing;
        }
        self.pending_look_ups.push(server);
        Request::LookUp(server)
    }

    pub(super) fn connect(
        &mut self,
        server: usize,
        addresses: VecDeque<SocketAddr>,
        cx: &Context<'_>,
    ) {
        let observer = &mut self.observer;
        let on_error = |error: &Error| observer.on_event(&DeliveryEvent::AttemptFailed(error));
        match Attempt::connect(&self.target, server, addresses, cx, on_error) {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(error) => self.on_server_failed(server, &error, cx),
        }
    }

    /// Advances the connection attempt.
    pub(super) fn advance_attempt(&mut self, cx: &Context<'_>) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if let Err(error) = attempt.advance(&self.target, cx.now) {
            return self.try_next(&error, cx);
        }
        if attempt.is_looking_up() && attempt.is_timed_out(cx.now) {
            let peer = self.target.servers[attempt.server()].to_string();
            return self.try_next(&Error::ConnectTimeout { peer }, cx);
        }
        if !attempt.is_ready() {
            return;
        }
        // A preferred server takes over while nothing is in flight, if possible.
        let can_switch = !self.session.is_busy() || attempt.is_timed_out(cx.now);
        if let Some(active) = &self.active
            && can_switch
        {
            let peer = active.connection.peer();
            self.close_connection(Side::Own, Error::Replaced { peer }, cx);
        }
        if self.active.is_none() && self.half_closed.is_none() {
            self.activate(cx);
        }
    }

    /// Makes the connection of the attempt the active one.
    fn activate(&mut self, cx: &Context<'_>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let server = attempt.server();
        let Some(connection) = attempt.into_connection() else {
            return;
        };
        let bytes = self.session.on_connected(cx.now);
        self.notify(&DeliveryEvent::Connected {
            peer: connection.peer(),
            resumed: connection.is_resumed(),
        });
        if bytes > 0 {
            self.notify(&DeliveryEvent::Replaying { bytes });
        }
        self.active = Some(ActiveConnection {
            connection,
            server,
            failback: (server > 0).then_some(cx.now + self.target.failback),
            ack_poll: None,
            has_unread_data: false,
        });
    }

    /// Handles the failure of an address: tries the server's next one, if any.
    fn try_next(&mut self, error: &Error, cx: &Context<'_>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let server = attempt.server();
        let addresses = attempt.into_remaining();
        if addresses.is_empty() {
            self.on_server_failed(server, error, cx);
        } else {
            self.notify(&DeliveryEvent::AttemptFailed(error));
            self.connect(server, addresses, cx);
        }
    }

    /// Handles the failure of a server: the next one that is not in backoff is
    /// tried, if any.
    pub(super) fn on_server_failed(&mut self, server: usize, error: &Error, cx: &Context<'_>) {
        self.attempt = None;
        self.servers.fail(server, cx.now, random());
        let is_in_use = self.active.is_some() || self.half_closed.is_some();
        if is_in_use || self.servers.pick(cx.now).is_some() {
            return self.notify(&DeliveryEvent::AttemptFailed(error));
        }
        let retry_in = self.servers.time_to_retry(cx.now);
        self.session.on_failed(cx.now, retry_in);
        self.down.store(true, Ordering::Relaxed);
        // The error is logged before the callers learn that they must retry.
        self.notify(&DeliveryEvent::ConnectFailed { error, retry_in });
        self.complete_batches();
    }
}

/// Returns a random number that spreads the sinks' backoffs; not for secrets.
pub(super) fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
