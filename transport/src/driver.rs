//! The driver of one sink: performs on sockets what the sink's session decides.

mod connecting;
mod delivering;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use syslog::session::{End, EndedBatch, Expiry, Side};
use syslog::{Batch, Session, Totals};

use self::connecting::random;
use crate::attempt::Attempt;
use crate::connection::Connection;
use crate::consumer::{Consumer, QueueState};
use crate::context::{Context, Request};
use crate::half_closed::HalfClosed;
use crate::servers::Servers;
use crate::{DeliveryEvent, Error, Observer, Target};

/// A callback that receives the outcome of a delivery. The callback runs on the
/// event loop's thread and must not block.
pub(crate) type Reply = Box<dyn FnOnce(EndedBatch<()>) + Send>;

/// The source of a batch, to which its outcome is reported.
enum BatchSource {
    /// A caller, which receives the outcome.
    Caller(Reply),
    /// The sink's queue.
    Queue {
        /// The number of the batch's first frame in the queue.
        first: u64,
    },
}

pub(crate) struct Driver {
    target: Target,
    observer: Box<dyn Observer>,
    /// Shared with the workers, which do not encode records while the receiver is
    /// down.
    down: Arc<AtomicBool>,
    session: Session<BatchSource>,
    /// The consumer of the sink's queue, if the sink has a queue.
    consumer: Option<Consumer>,
    /// Whether the last call of [`Driver::drive`] may have left batches in the queue.
    has_more: bool,
    servers: Servers,
    /// The servers with a look-up in progress. A look-up cannot be cancelled, so
    /// the next one for the same server starts after it has finished.
    pending_look_ups: Vec<usize>,
    /// The connection in use.
    active: Option<ActiveConnection>,
    /// The previous connection, closed by one side and watched for a reset.
    half_closed: Option<HalfClosed>,
    /// The attempt to establish a first connection, or one to a preferred server.
    attempt: Option<Attempt>,
    /// The deadline for closing the sink, once [`Driver::close`] was called.
    close_deadline: Option<Instant>,
    /// Whether the receiver has closed its side after [`Driver::close`].
    is_close_confirmed: bool,
    /// The totals and the replay bytes that were last reported to the observer.
    last_progress: (Totals, usize),
    /// The state of the queue that was last reported to the observer.
    last_queue_state: Option<QueueState>,
}

struct ActiveConnection {
    connection: Connection,
    server: usize,
    /// The time of the next attempt to connect to a preferred server.
    failback: Option<Instant>,
    /// The time of the next poll for acknowledgements, and the current interval.
    ack_poll: Option<(Instant, Duration)>,
    /// Whether the socket may hold more data that signals no further event.
    has_unread_data: bool,
}

impl Driver {
    pub(crate) fn new(target: Target, observer: Box<dyn Observer>, down: Arc<AtomicBool>) -> Self {
        Self {
            session: Session::new(target.policy),
            servers: Servers::new(target.servers.len(), &target.policy),
            consumer: None,
            has_more: false,
            target,
            observer,
            down,
            pending_look_ups: Vec::new(),
            active: None,
            half_closed: None,
            attempt: None,
            close_deadline: None,
            is_close_confirmed: false,
            last_progress: (Totals::NOTHING, 0),
            last_queue_state: None,
        }
    }

    /// Attaches a queue whose content is delivered from now on. Frames that the
    /// receiver may have lost unread are sent again first.
    pub(crate) fn attach(&mut self, queue: queue::Reader, now: Instant) {
        let mut consumer = Consumer::new(queue);
        let mut scratch = Vec::new();
        loop {
            match consumer.read_replay(&mut scratch) {
                Ok(Some(batch)) => self.session.restore(batch, now),
                Ok(None) => break,
                Err(error) => {
                    self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
                    break;
                }
            }
        }
        self.consumer = Some(consumer);
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn submit(&mut self, batch: Batch, skip: usize, reply: Reply) {
        self.session.submit(batch, skip, BatchSource::Caller(reply));
    }

    /// Begins to close the sink: delivers what was submitted, and sends pending
    /// frames again, until `deadline`. Unless the sink has a queue, servers in
    /// backoff are tried at once.
    pub(crate) fn close(&mut self, deadline: Instant) {
        self.close_deadline = Some(deadline);
        if self.session.is_busy() && self.consumer.is_none() {
            self.servers.reset_all();
            self.session.retry_now();
        }
    }

    /// Returns whether nothing is left to deliver after [`Driver::close`].
    fn is_drained(&self) -> bool {
        // The content of a queue stays on disk for the next process.
        let is_waiting = self.consumer.is_some() && !self.session.is_up();
        self.close_deadline.is_some() && (is_waiting || !self.session.is_busy())
    }

    /// Returns whether nothing is left to do after [`Driver::close`].
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        let is_disconnected = match (&self.active, &self.half_closed) {
            (Some(active), _) => active.connection.is_closed(),
            (None, closed) => closed.is_none() || self.consumer.is_none(),
        };
        let is_overdue = self.close_deadline.is_some_and(|deadline| now >= deadline);
        self.is_drained() && (is_disconnected || is_overdue)
    }

    /// Returns when to call [`Driver::drive`] again if no event occurs before.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let active = self.active.as_ref();
        let is_free = self.attempt.is_none();
        [
            self.session.poll_timeout(),
            // An attempt that is ready waits until the previous connection has ended.
            self.attempt
                .as_ref()
                .filter(|attempt| !(attempt.is_ready() && self.half_closed.is_some()))
                .map(Attempt::next_deadline),
            (self.should_connect(now) || self.has_more).then_some(now),
            self.consumer
                .as_ref()
                .and_then(|consumer| consumer.next_deadline(now)),
            self.close_deadline,
            active.and_then(|active| active.ack_poll).map(|(at, _)| at),
            active.and_then(|active| active.has_unread_data.then_some(now)),
            active.and_then(|active| active.failback.filter(|_| is_free)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Handles the result of a server's look-up.
    pub(crate) fn on_addresses(
        &mut self,
        server: usize,
        result: io::Result<Vec<SocketAddr>>,
        cx: &Context<'_>,
    ) {
        self.pending_look_ups.retain(|other| *other != server);
        // The attempt may have timed out before the look-up finished.
        if self
            .attempt
            .take_if(|attempt| attempt.is_looking_up() && attempt.server() == server)
            .is_none()
        {
            return;
        }
        match result {
            Ok(addresses) => self.connect(server, addresses.into(), cx),
            Err(source) => {
                let host = self.target.servers[server].host_name();
                self.on_server_failed(server, &Error::Resolve { host, source }, cx);
            }
        }
    }

    /// Does everything that can be done without blocking.
    pub(crate) fn drive(&mut self, cx: &Context<'_>) -> Request {
        self.handle_timeouts(cx);
        self.watch_half_closed(cx);
        self.advance_attempt(cx);
        let mut request = Request::Nothing;
        // The loop ends: each failure puts another server into backoff.
        while self.should_connect(cx.now) {
            request = self.start_attempt(cx);
            self.advance_attempt(cx);
        }
        match self.deliver(cx) {
            Ok(()) => {}
            // Everything is sent, and the peer closed the connection first.
            Err(error) if self.is_drained() => {
                self.is_close_confirmed = matches!(error, Error::Closed { .. });
                self.active = None;
            }
            Err(error @ Error::Closed { .. }) => self.close_connection(Side::Peer, error, cx),
            Err(error) => self.disconnect(&error, cx),
        }
        self.replace_near_key_limit(cx);
        self.close_if_drained(cx);
        self.complete_batches();
        self.save_position(self.session.first_held());
        self.report_progress(cx);
        request
    }

    /// Closes the connection of a drained sink with a queue, and waits for the
    /// receiver to close as well: the replay buffer is not needed after that.
    fn close_if_drained(&mut self, cx: &Context<'_>) {
        if self.consumer.is_some()
            && self.is_drained()
            && let Some(active) = &self.active
        {
            let peer = active.connection.peer();
            self.close_connection(Side::Own, Error::Closed { peer }, cx);
        }
    }

    fn handle_timeouts(&mut self, cx: &Context<'_>) {
        let now = cx.now;
        if self.close_deadline.is_some_and(|deadline| now >= deadline) && self.session.is_busy() {
            self.abandon(now);
        }
        match self.session.on_timeout(now) {
            Expiry::Nothing => {}
            Expiry::Stalled => {
                if let Some(active) = &self.active {
                    let peer = active.connection.peer();
                    self.disconnect(&Error::WriteTimeout { peer }, cx);
                }
            }
            Expiry::Closed(end) => self.finish_half_closed(end, cx),
        }
    }

    /// Abandons everything that is not delivered.
    fn abandon(&mut self, now: Instant) {
        if let Some(consumer) = &mut self.consumer {
            consumer.freeze();
        }
        let replay_bytes = self.session.abandon(now);
        self.half_closed = None;
        let batches = self.complete_batches();
        if (batches, replay_bytes) != (0, 0) && self.consumer.is_none() {
            self.notify(&DeliveryEvent::ClosedUndelivered {
                batches,
                replay_bytes,
            });
        }
    }

    /// Closes the active connection, or records that the peer did. The peer may
    /// not have read what it acknowledged: the session decides how long to watch
    /// for a reset, which would show that.
    fn close_connection(&mut self, by: Side, error: Error, cx: &Context<'_>) {
        let Some(ActiveConnection {
            connection, server, ..
        }) = self.active.take()
        else {
            return;
        };
        self.half_closed = Some(HalfClosed::new(connection, server, by, error));
        if !self.session.on_closing(cx.now, by) {
            let end = match by {
                Side::Own => End::ClosedByBoth,
                Side::Peer => End::Closed,
            };
            self.finish_half_closed(end, cx);
        }
    }

    fn watch_half_closed(&mut self, cx: &Context<'_>) {
        if let Some(closed) = &mut self.half_closed
            && let Some(end) = closed.watch()
        {
            self.finish_half_closed(end, cx);
        }
    }

    fn finish_half_closed(&mut self, end: End, cx: &Context<'_>) {
        if let Some(closed) = self.half_closed.take() {
            self.is_close_confirmed = end == End::ClosedByBoth && self.close_deadline.is_some();
            self.on_connection_ended(closed.server, &closed.error, end, cx);
        }
    }

    /// Replaces a connection whose TLS keys are close to their limit.
    fn replace_near_key_limit(&mut self, cx: &Context<'_>) {
        if let Some(active) = &self.active
            && active.connection.is_near_key_limit()
            && !self.session.awaits_acknowledgement()
        {
            let peer = active.connection.peer();
            self.close_connection(Side::Own, Error::KeyLimitReached { peer }, cx);
        }
    }

    /// Drops the active connection after an error.
    fn disconnect(&mut self, error: &Error, cx: &Context<'_>) {
        if let Some(ActiveConnection {
            connection, server, ..
        }) = self.active.take()
        {
            let end = match error {
                Error::WriteTimeout { .. } => End::Stalled,
                _ => End::Broken,
            };
            connection.abort();
            self.on_connection_ended(server, error, end, cx);
        }
    }

    /// Handles the end of a connection to `server`.
    fn on_connection_ended(&mut self, server: usize, error: &Error, end: End, cx: &Context<'_>) {
        let mut retry_in = Duration::ZERO;
        let made_progress = self.session.on_connection_ended(cx.now, end);
        let unfinished = self.complete_batches();
        if let Some(consumer) = &self.consumer {
            consumer.on_disconnected();
        }
        if made_progress || end == End::ClosedByBoth {
            self.servers.reset(server);
        } else {
            if self.session.is_searching() {
                // The server accepts connections, and the search ends after a
                // bounded number of them.
                self.servers.reset(server);
            }
            self.servers.fail(server, cx.now, random());
            retry_in = self.servers.time_to_retry(cx.now);
            if !retry_in.is_zero() {
                self.session.on_failed(cx.now, retry_in);
                self.complete_batches();
            }
        }
        // After an answered close everything was read: nothing to report.
        if end != End::ClosedByBoth {
            self.notify(&DeliveryEvent::Disconnected {
                error,
                unfinished,
                retry_in,
            });
        }
    }

    /// Closes the connection in an orderly way, and abandons what is not
    /// delivered.
    pub(crate) fn shut_down(&mut self, now: Instant) {
        if self.is_close_confirmed {
            // The receiver has read everything, so no frame is kept.
            self.save_position(None);
        }
        // The kept frames are frozen from here on: only the delivered position moves.
        self.abandon(now);
        self.save_position(None);
        if let Some(mut active) = self.active.take() {
            active.connection.shut_down();
        }
        self.attempt = None;
    }

    /// Saves the queue's position.
    fn save_position(&mut self, first_held: Option<u64>) {
        if let Some(consumer) = &mut self.consumer
            && let Err(error) = consumer.save(first_held)
        {
            self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
        }
    }

    fn notify(&mut self, event: &DeliveryEvent<'_>) {
        self.observer.on_event(event);
    }
}

#[cfg(test)]
mod tests;
