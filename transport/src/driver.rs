//! One sink: does on sockets what its session decides.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use syslog::session::{End, Expiry, Finished, Side};
use syslog::{Batch, Outcome, Session, Totals};

use crate::attempt::Attempt;
use crate::connection::{Connection, ReadProgress};
use crate::consumer::{Consumer, QueueState};
use crate::context::{Context, Request};
use crate::half_closed::HalfClosed;
use crate::servers::Servers;
use crate::{DeliveryEvent, Error, Observer, Target};

/// The most bytes that a connection is given at a time. What a peer has of a
/// batch is known in steps of this size; smaller ones cost more processor time,
/// and larger ones no less.
const MAX_WRITE: usize = 256 * 1024;
/// Where the kernel does not say when a peer acknowledged, it is asked: after
/// this time at first, and after twice the time each time again.
const MIN_ACK_POLL: Duration = Duration::from_millis(1);
const MAX_ACK_POLL: Duration = Duration::from_millis(20);
/// Where it does say, it is asked all the same from time to time: its word can
/// get lost where memory for the socket is short.
const FALLBACK_ACK_POLL: Duration = Duration::from_millis(200);

/// Who is told what became of a delivery; on the event loop's thread, so that
/// it must not block.
pub(crate) type Reply = Box<dyn FnOnce(Finished<()>) + Send>;

/// The rounds of reading from the queue and sending in a turn, at most, so that
/// other sinks have theirs.
const MAX_ROUNDS: usize = 16;

/// The receiver of a batch's outcome.
enum BatchSource {
    Caller(Reply),
    /// The sink's queue, in which the batch begins with the frame of this number.
    Queue {
        first: u64,
    },
}

pub(crate) struct Driver {
    target: Target,
    observer: Box<dyn Observer>,
    /// Read by the workers, so that they do not encode in vain.
    down: Arc<AtomicBool>,
    session: Session<BatchSource>,
    /// The sink's queue, if it has one.
    consumer: Option<Consumer>,
    /// The last turn ended before the queue did.
    has_more: bool,
    servers: Servers,
    /// Servers whose look-up is under way. It cannot be ended, so no other is
    /// begun before it has answered.
    pending_look_ups: Vec<usize>,
    /// The connection in use.
    active: Option<ActiveConnection>,
    /// The one that was, closed by a side, and watched for what follows.
    half_closed: Option<HalfClosed>,
    /// The one that is being made, to have one or to have a better one.
    attempt: Option<Attempt>,
    /// The sink is being closed, and has until then.
    close_deadline: Option<Instant>,
    /// After [`Driver::close`], the receiver has closed as well.
    is_close_confirmed: bool,
    /// What the observer was told last.
    last_progress: (Totals, usize),
    last_queue_state: Option<QueueState>,
}

struct ActiveConnection {
    connection: Connection,
    server: usize,
    /// When to try for a better server.
    failback: Option<Instant>,
    /// When to ask next what was acknowledged, and how long to wait then.
    ack_poll: Option<(Instant, Duration)>,
    /// The peer said more than was read in one turn.
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

    /// Delivers what is in a queue from now on. What was kept there to be sent
    /// again is the first.
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

    /// Delivers what was submitted, and sends again what is pending, until
    /// then. A server that was left alone is tried at once.
    pub(crate) fn close(&mut self, until: Instant) {
        self.close_deadline = Some(until);
        if self.session.is_busy() && self.consumer.is_none() {
            self.servers.reset_all();
            self.session.retry_now();
        }
    }

    /// Whether nothing is left to deliver after [`Driver::close`].
    fn is_drained(&self) -> bool {
        // The content of a queue can wait.
        let is_waiting = self.consumer.is_some() && !self.session.is_up();
        self.close_deadline.is_some() && (is_waiting || !self.session.is_busy())
    }

    /// Whether there is nothing left to do after [`Driver::close`].
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        let goodbye = match (&self.active, &self.half_closed) {
            (Some(active), _) => active.connection.is_closed(),
            (None, closed) => closed.is_none() || self.consumer.is_none(),
        };
        let late = self.close_deadline.is_some_and(|until| now >= until);
        self.is_drained() && (goodbye || late)
    }

    /// When the next turn is due, if nothing happens before.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let active = self.active.as_ref();
        let is_free = self.attempt.is_none();
        [
            self.session.poll_timeout(),
            // One that is ready waits for the end of the watch.
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

    /// The name of a server is looked up.
    pub(crate) fn on_addresses(
        &mut self,
        server: usize,
        found: io::Result<Vec<SocketAddr>>,
        cx: &Context<'_>,
    ) {
        self.pending_look_ups.retain(|other| *other != server);
        // An answer may come after nobody waits for it any more.
        if self
            .attempt
            .take_if(|attempt| attempt.is_looking_up() && attempt.server() == server)
            .is_none()
        {
            return;
        }
        match found {
            Ok(addresses) => self.connect(server, addresses.into(), cx),
            Err(source) => {
                let host = self.target.servers[server].host_name();
                self.on_server_failed(server, &Error::Resolve { host, source }, cx);
            }
        }
    }

    /// Does everything that can be done now.
    pub(crate) fn drive(&mut self, cx: &Context<'_>) -> Request {
        self.handle_timeouts(cx);
        self.watch_closed(cx);
        self.advance(cx);
        let mut request = Request::Nothing;
        // Each failure has a server rest, so that this comes to an end.
        while self.should_connect(cx.now) {
            request = self.start_attempt(cx);
            self.advance(cx);
        }
        match self.deliver(cx) {
            Ok(()) => {}
            // The peer only ended first.
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
        self.report_progress(cx);
        request
    }

    /// A sink with a queue waits for its receiver's answer to the close: what it
    /// keeps is needed no more then.
    fn close_if_drained(&mut self, cx: &Context<'_>) {
        if self.consumer.is_some()
            && self.is_drained()
            && let Some(active) = &self.active
        {
            let peer = active.connection.peer();
            self.close_connection(Side::Own, Error::Closed { peer }, cx);
        }
    }

    /// A sink connects before there is anything to send, so that what is wrong
    /// with it is known early; one that is being closed only if it must.
    fn should_connect(&self, now: Instant) -> bool {
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

    fn handle_timeouts(&mut self, cx: &Context<'_>) {
        let now = cx.now;
        if self.close_deadline.is_some_and(|until| now >= until) && self.session.is_busy() {
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

    /// Gives up what is not delivered.
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

    /// Closes the connection in use, or takes note that the peer did. What it
    /// had acknowledged may be unread: the session knows how long to watch for
    /// a sign of that.
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
                Side::Own => End::Answered,
                Side::Peer => End::Closed,
            };
            self.finish_half_closed(end, cx);
        }
    }

    fn watch_closed(&mut self, cx: &Context<'_>) {
        if let Some(closed) = &mut self.half_closed
            && let Some(end) = closed.watch()
        {
            self.finish_half_closed(end, cx);
        }
    }

    fn finish_half_closed(&mut self, end: End, cx: &Context<'_>) {
        if let Some(closed) = self.half_closed.take() {
            self.is_close_confirmed = end == End::Answered && self.close_deadline.is_some();
            self.on_connection_ended(closed.server, &closed.error, end, cx);
        }
    }

    /// Replaces a connection whose keys have nearly protected as much as they
    /// may.
    fn replace_near_key_limit(&mut self, cx: &Context<'_>) {
        if let Some(active) = &self.active
            && active.connection.is_near_key_limit()
            && !self.session.awaits_acknowledgement()
        {
            let peer = active.connection.peer();
            self.close_connection(Side::Own, Error::KeyLimitReached { peer }, cx);
        }
    }

    /// Begins to connect to a server, or to look up its addresses.
    fn start_attempt(&mut self, cx: &Context<'_>) -> Request {
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

    fn connect(&mut self, server: usize, addresses: VecDeque<SocketAddr>, cx: &Context<'_>) {
        let observer = &mut self.observer;
        let tell = |error: &Error| observer.on_event(&DeliveryEvent::AttemptFailed(error));
        match Attempt::connect(&self.target, server, addresses, cx, tell) {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(error) => self.on_server_failed(server, &error, cx),
        }
    }

    /// Goes on with the attempt.
    fn advance(&mut self, cx: &Context<'_>) {
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
        // A better server waits for a moment in which nothing is under way.
        let moment = !self.session.is_busy() || attempt.is_timed_out(cx.now);
        if let Some(active) = &self.active
            && moment
        {
            let peer = active.connection.peer();
            self.close_connection(Side::Own, Error::Replaced { peer }, cx);
        }
        if self.active.is_none() && self.half_closed.is_none() {
            self.activate(cx);
        }
    }

    /// Takes the connection of the attempt into use.
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

    /// An address failed: on to the server's next one, if there is any.
    fn try_next(&mut self, error: &Error, cx: &Context<'_>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let server = attempt.server();
        let others = attempt.into_remaining();
        if others.is_empty() {
            self.on_server_failed(server, error, cx);
        } else {
            self.notify(&DeliveryEvent::AttemptFailed(error));
            self.connect(server, others, cx);
        }
    }

    /// A server failed: on to the next one, if there is any that may be tried.
    fn on_server_failed(&mut self, server: usize, error: &Error, cx: &Context<'_>) {
        self.attempt = None;
        self.servers.fail(server, cx.now, random());
        let is_in_use = self.active.is_some() || self.half_closed.is_some();
        if is_in_use || self.servers.pick(cx.now).is_some() {
            return self.notify(&DeliveryEvent::AttemptFailed(error));
        }
        let retry_in = self.servers.time_to_retry(cx.now);
        self.session.on_failed(cx.now, retry_in);
        self.down.store(true, Ordering::Relaxed);
        // The reason is known before anybody is told to try again.
        self.notify(&DeliveryEvent::ConnectFailed { error, retry_in });
        self.complete_batches();
    }

    /// Delivers what the session has, and what the queue has.
    fn deliver(&mut self, cx: &Context<'_>) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            let was_full = !self.has_room();
            let is_filled = self.submit_from_queue(cx);
            self.pump(cx)?;
            // What has ended makes room.
            self.complete_batches();
            self.has_more = is_filled || was_full && self.has_room();
            if !self.has_more {
                break;
            }
        }
        Ok(())
    }

    /// Whether the session takes another batch of the queue.
    fn has_room(&self) -> bool {
        let unsent = self.session.unsent_bytes();
        self.consumer
            .as_ref()
            .is_some_and(|consumer| consumer.has_room(unsent))
            && self.session.is_up()
            && !self.session.is_searching()
            && self.close_deadline.is_none()
    }

    /// Submits a batch of the queue, if there is room for one. Returns whether it
    /// did.
    fn submit_from_queue(&mut self, cx: &Context<'_>) -> bool {
        if !self.has_room() {
            return false;
        }
        let Some(consumer) = &mut self.consumer else {
            return false;
        };
        match consumer.next(&mut cx.scratch.borrow_mut(), cx.now) {
            Ok(None) => false,
            Ok(Some(batch)) => {
                let first = batch.first();
                self.session.submit(batch, 0, BatchSource::Queue { first });
                true
            }
            Err(error) => {
                self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
                false
            }
        }
    }

    /// Moves bytes from the session to the connection, and learns what the
    /// peer acknowledged, until there is nothing to do.
    fn pump(&mut self, cx: &Context<'_>) -> Result<(), Error> {
        while self.pump_once(cx)? {}
        Ok(())
    }

    /// Returns whether there is more to send, because of what the peer
    /// acknowledged: some frames wait until they are alone.
    fn pump_once(&mut self, cx: &Context<'_>) -> Result<bool, Error> {
        let is_drained = self.is_drained();
        let Some(active) = &mut self.active else {
            return Ok(false);
        };
        let connection = &mut active.connection;
        active.has_unread_data = connection.read()? == ReadProgress::MorePending;
        connection.flush()?;
        while !connection.is_near_key_limit() {
            let bytes = if connection.is_message_based() {
                self.session.transmit_frame()
            } else {
                let bytes = self.session.transmit();
                &bytes[..bytes.len().min(MAX_WRITE)]
            };
            if bytes.is_empty() {
                break;
            }
            let taken = match connection.write(bytes) {
                Ok(taken) => taken,
                Err(error @ Error::DatagramTooLong { .. }) => {
                    self.observer
                        .on_event(&DeliveryEvent::MessageTooLong(&error));
                    self.session.on_refused(cx.now);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.session.on_taken(taken, connection.accepted(), cx.now);
            if taken == 0 {
                break;
            }
        }
        let is_all = self.session.transmit().is_empty();
        if is_drained {
            connection.close();
        }
        connection.flush()?;
        // Before anything is acknowledged: it says how much of that to keep.
        if self.session.awaits_acknowledgement()
            && let Some(window) = connection.window()
            && self.session.on_window(window)
        {
            let kept = self.session.replay_limit();
            self.observer
                .on_event(&DeliveryEvent::WindowExceedsReplay { window, kept });
        }
        let acknowledged = connection.acknowledged()?;
        self.session.on_acknowledged(acknowledged, cx.now);
        active.ack_poll = if self.session.awaits_acknowledgement() {
            let wait = match active.ack_poll {
                _ if connection.signals_acknowledgements() => FALLBACK_ACK_POLL,
                Some((at, wait)) if cx.now >= at => (wait * 2).min(MAX_ACK_POLL),
                Some((_, wait)) => wait,
                None => MIN_ACK_POLL,
            };
            Some((cx.now + wait, wait))
        } else {
            None
        };
        Ok(is_all && !self.session.transmit().is_empty())
    }

    /// The connection in use broke, or has to end.
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

    /// A connection to `server` is over.
    fn on_connection_ended(&mut self, server: usize, error: &Error, end: End, cx: &Context<'_>) {
        let mut retry_in = Duration::ZERO;
        let was_of_use = self.session.on_ended(cx.now, end);
        let unfinished = self.complete_batches();
        if let Some(consumer) = &self.consumer {
            consumer.on_disconnected();
        }
        if was_of_use || end == End::Answered {
            self.servers.reset(server);
        } else {
            if self.session.is_searching() {
                // The server takes connections; how many there will be is bounded.
                self.servers.reset(server);
            }
            self.servers.fail(server, cx.now, random());
            retry_in = self.servers.time_to_retry(cx.now);
            if !retry_in.is_zero() {
                self.session.on_failed(cx.now, retry_in);
                self.complete_batches();
            }
        }
        // A better one takes over from one that has read everything.
        if end != End::Answered {
            self.notify(&DeliveryEvent::Disconnected {
                error,
                unfinished,
                retry_in,
            });
        }
    }

    /// Tells the workers what became of their batches. Says how many have to
    /// be sent again.
    fn complete_batches(&mut self) -> usize {
        let is_down = self.session.is_down() || self.session.is_searching();
        self.down.store(is_down, Ordering::Relaxed);
        while let Some(length) = self.session.poll_rejected() {
            self.notify(&DeliveryEvent::MessageRejected { length });
        }
        let mut again = 0;
        while let Some(finished) = self.session.poll_finished() {
            match (finished.outcome, finished.took) {
                (Outcome::Retry { .. }, _) => again += 1,
                (Outcome::Delivered, Some(took)) => {
                    if let Some(active) = &self.active {
                        self.servers.reset(active.server);
                    }
                    self.notify(&DeliveryEvent::Delivered { took });
                }
                // It was delivered before.
                (Outcome::Delivered, None) => {}
            }
            let Finished {
                batch,
                token,
                outcome,
                took,
            } = finished;
            match (token, &mut self.consumer) {
                (BatchSource::Queue { first }, Some(consumer)) => {
                    consumer.on_finished(first, outcome, batch)
                }
                (BatchSource::Queue { .. }, None) => {}
                (BatchSource::Caller(reply), _) => reply(Finished {
                    batch,
                    token: (),
                    outcome,
                    took,
                }),
            }
        }
        again
    }

    /// Ends the connection in an orderly way. Frames that were set aside are
    /// given up.
    pub(crate) fn shut_down(&mut self, now: Instant) {
        if self.is_close_confirmed {
            // It has read everything.
            self.save(None);
        }
        self.abandon(now);
        self.save(None);
        if let Some(mut active) = self.active.take() {
            active.connection.shut_down();
        }
        self.attempt = None;
    }

    /// Writes the queue's position down.
    fn save(&mut self, held: Option<u64>) {
        if let Some(consumer) = &mut self.consumer
            && let Err(error) = consumer.save(held)
        {
            self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
        }
    }

    fn notify(&mut self, event: &DeliveryEvent<'_>) {
        self.observer.on_event(event);
    }

    fn report_progress(&mut self, cx: &Context<'_>) {
        self.save(self.session.first_number());
        if let Some(consumer) = &mut self.consumer {
            let state = consumer.state(&mut cx.scratch.borrow_mut());
            if self.last_queue_state.replace(state) != Some(state) {
                self.notify(&DeliveryEvent::Queue(state));
            }
        }
        let (totals, replay_bytes) = (self.session.totals(), self.session.replay_bytes());
        if self.last_progress != (totals, replay_bytes) {
            self.last_progress = (totals, replay_bytes);
            self.notify(&DeliveryEvent::Progress {
                totals,
                replay_bytes,
            });
        }
    }
}

/// Spreads the sinks' backoffs; no secret depends on it.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests;
