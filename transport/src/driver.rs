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
use crate::closed::Closed;
use crate::connection::{Connection, Heard};
use crate::feed::{Feed, QueueState};
use crate::servers::Servers;
use crate::turn::{Turn, Wish};
use crate::{DeliveryEvent, Error, Observer, Target};

/// The most bytes that a connection is given at a time. What a peer has of a
/// batch is known in steps of this size; smaller ones cost more processor time,
/// and larger ones no less.
const PART: usize = 256 * 1024;
/// Where the kernel does not say when a peer acknowledged, it is asked: after
/// this time at first, and after twice the time each time again.
const FIRST_ASK: Duration = Duration::from_millis(1);
const LAST_ASK: Duration = Duration::from_millis(20);
/// Where it does say, it is asked all the same from time to time: its word can
/// get lost where memory for the socket is short.
const RARE_ASK: Duration = Duration::from_millis(200);

/// Who is told what became of a delivery; on the event loop's thread, so that
/// it must not block.
pub(crate) type Reply = Box<dyn FnOnce(Finished<()>) + Send>;

/// The rounds of reading from the queue and sending in a turn, at most, so that
/// other sinks have theirs.
const ROUNDS: usize = 16;

/// The receiver of a batch's outcome.
enum Waiter {
    Reply(Reply),
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
    session: Session<Waiter>,
    /// The sink's queue, if it has one.
    feed: Option<Feed>,
    /// The last turn ended before the queue did.
    has_more: bool,
    servers: Servers,
    /// Servers whose look-up is under way. It cannot be ended, so no other is
    /// begun before it has answered.
    looking_up: Vec<usize>,
    /// The connection in use.
    up: Option<Up>,
    /// The one that was, closed by a side, and watched for what follows.
    closed: Option<Closed>,
    /// The one that is being made, to have one or to have a better one.
    attempt: Option<Attempt>,
    /// The sink is being closed, and has until then.
    closing: Option<Instant>,
    /// After [`Driver::close`], the receiver has closed as well.
    is_answered: bool,
    /// What the observer was told last.
    told: (Totals, usize),
    told_queue: Option<QueueState>,
}

struct Up {
    connection: Connection,
    server: usize,
    /// When to try for a better server.
    failback: Option<Instant>,
    /// When to ask next what was acknowledged, and how long to wait then.
    ask: Option<(Instant, Duration)>,
    /// The peer said more than was read in one turn.
    read_on: bool,
}

impl Driver {
    pub(crate) fn new(target: Target, observer: Box<dyn Observer>, down: Arc<AtomicBool>) -> Self {
        Self {
            session: Session::new(target.policy),
            servers: Servers::new(target.servers.len(), &target.policy),
            feed: None,
            has_more: false,
            target,
            observer,
            down,
            looking_up: Vec::new(),
            up: None,
            closed: None,
            attempt: None,
            closing: None,
            is_answered: false,
            told: (Totals::NOTHING, 0),
            told_queue: None,
        }
    }

    /// Delivers what is in a queue from now on. What was kept there to be sent
    /// again is the first.
    pub(crate) fn attach(&mut self, queue: queue::Reader, now: Instant) {
        let mut feed = Feed::new(queue);
        let mut scratch = Vec::new();
        loop {
            match feed.read_kept(&mut scratch) {
                Ok(Some(batch)) => self.session.restore(batch, now),
                Ok(None) => break,
                Err(error) => {
                    self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
                    break;
                }
            }
        }
        self.feed = Some(feed);
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn submit(&mut self, batch: Batch, skip: usize, reply: Reply) {
        self.session.submit(batch, skip, Waiter::Reply(reply));
    }

    /// Delivers what was submitted, and sends again what is pending, until
    /// then. A server that was left alone is tried at once.
    pub(crate) fn close(&mut self, until: Instant) {
        self.closing = Some(until);
        if self.session.is_busy() && self.feed.is_none() {
            self.servers.reset_all();
            self.session.retry_now();
        }
    }

    /// Whether nothing is left to deliver after [`Driver::close`].
    fn has_said_everything(&self) -> bool {
        // The content of a queue can wait.
        let is_waiting = self.feed.is_some() && !self.session.is_up();
        self.closing.is_some() && (is_waiting || !self.session.is_busy())
    }

    /// Whether there is nothing left to do after [`Driver::close`].
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        let goodbye = match (&self.up, &self.closed) {
            (Some(up), _) => up.connection.is_closed(),
            (None, closed) => closed.is_none() || self.feed.is_none(),
        };
        let late = self.closing.is_some_and(|until| now >= until);
        self.has_said_everything() && (goodbye || late)
    }

    /// When the next turn is due, if nothing happens before.
    pub(crate) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let up = self.up.as_ref();
        let is_free = self.attempt.is_none();
        [
            self.session.poll_timeout(),
            // One that is ready waits for the end of the watch.
            self.attempt
                .as_ref()
                .filter(|attempt| !(attempt.is_ready() && self.closed.is_some()))
                .map(Attempt::next_turn),
            (self.shall_begin(now) || self.has_more).then_some(now),
            self.feed.as_ref().and_then(|feed| feed.next_turn(now)),
            self.closing,
            up.and_then(|up| up.ask).map(|(at, _)| at),
            up.and_then(|up| up.read_on.then_some(now)),
            up.and_then(|up| up.failback.filter(|_| is_free)),
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
        turn: &Turn<'_>,
    ) {
        self.looking_up.retain(|other| *other != server);
        // An answer may come after nobody waits for it any more.
        if self
            .attempt
            .take_if(|attempt| attempt.is_looking_up() && attempt.server() == server)
            .is_none()
        {
            return;
        }
        match found {
            Ok(addresses) => self.connect(server, addresses.into(), turn),
            Err(source) => {
                let host = self.target.servers[server].host_name();
                self.fail(server, &Error::Resolve { host, source }, turn);
            }
        }
    }

    /// Does everything that can be done now.
    pub(crate) fn turn(&mut self, turn: &Turn<'_>) -> Wish {
        self.expire(turn);
        self.watch_closed(turn);
        self.advance(turn);
        let mut wish = Wish::Nothing;
        // Each failure has a server rest, so that this comes to an end.
        while self.shall_begin(turn.now) {
            wish = self.begin(turn);
            self.advance(turn);
        }
        match self.deliver(turn) {
            Ok(()) => {}
            // The peer only ended first.
            Err(error) if self.has_said_everything() => {
                self.is_answered = matches!(error, Error::Closed { .. });
                self.up = None;
            }
            Err(error @ Error::Closed { .. }) => self.close_connection(Side::Peer, error, turn),
            Err(error) => self.end(&error, turn),
        }
        self.renew(turn);
        self.say_goodbye(turn);
        self.answer();
        self.tell_progress(turn);
        wish
    }

    /// A sink with a queue waits for its receiver's answer to the close: what it
    /// keeps is needed no more then.
    fn say_goodbye(&mut self, turn: &Turn<'_>) {
        if self.feed.is_some()
            && self.has_said_everything()
            && let Some(up) = &self.up
        {
            let peer = up.connection.peer();
            self.close_connection(Side::Own, Error::Closed { peer }, turn);
        }
    }

    /// A sink connects before there is anything to send, so that what is wrong
    /// with it is known early; one that is being closed only if it must.
    fn shall_begin(&self, now: Instant) -> bool {
        if self.attempt.is_some() {
            return false;
        }
        match &self.up {
            None => {
                self.session.wants_connection()
                    && (self.closing.is_none() || !self.has_said_everything())
            }
            Some(up) => self.closing.is_none() && up.failback.is_some_and(|at| now >= at),
        }
    }

    fn expire(&mut self, turn: &Turn<'_>) {
        let now = turn.now;
        if self.closing.is_some_and(|until| now >= until) && self.session.is_busy() {
            self.abandon(now);
        }
        match self.session.on_timeout(now) {
            Expiry::Nothing => {}
            Expiry::Stalled => {
                if let Some(up) = &self.up {
                    let peer = up.connection.peer();
                    self.end(&Error::WriteTimeout { peer }, turn);
                }
            }
            Expiry::Closed(end) => self.end_closed(end, turn),
        }
    }

    /// Gives up what is not delivered.
    fn abandon(&mut self, now: Instant) {
        if let Some(feed) = &mut self.feed {
            feed.freeze();
        }
        let replay_bytes = self.session.abandon(now);
        self.closed = None;
        let batches = self.answer();
        if (batches, replay_bytes) != (0, 0) && self.feed.is_none() {
            self.tell(&DeliveryEvent::ClosedUndelivered {
                batches,
                replay_bytes,
            });
        }
    }

    /// Closes the connection in use, or takes note that the peer did. What it
    /// had acknowledged may be unread: the session knows how long to watch for
    /// a sign of that.
    fn close_connection(&mut self, by: Side, error: Error, turn: &Turn<'_>) {
        let Some(Up {
            connection, server, ..
        }) = self.up.take()
        else {
            return;
        };
        self.closed = Some(Closed::new(connection, server, by, error));
        if !self.session.on_closing(turn.now, by) {
            let end = match by {
                Side::Own => End::Answered,
                Side::Peer => End::Closed,
            };
            self.end_closed(end, turn);
        }
    }

    fn watch_closed(&mut self, turn: &Turn<'_>) {
        if let Some(closed) = &mut self.closed
            && let Some(end) = closed.watch()
        {
            self.end_closed(end, turn);
        }
    }

    fn end_closed(&mut self, end: End, turn: &Turn<'_>) {
        if let Some(closed) = self.closed.take() {
            self.is_answered = end == End::Answered && self.closing.is_some();
            self.finish(closed.server, &closed.error, end, turn);
        }
    }

    /// Replaces a connection whose keys have nearly protected as much as they
    /// may.
    fn renew(&mut self, turn: &Turn<'_>) {
        if let Some(up) = &self.up
            && up.connection.is_worn()
            && !self.session.awaits_acknowledgement()
        {
            let peer = up.connection.peer();
            self.close_connection(Side::Own, Error::KeyLimitReached { peer }, turn);
        }
    }

    /// Begins to connect to a server, or to look up its addresses.
    fn begin(&mut self, turn: &Turn<'_>) -> Wish {
        let picked = match &mut self.up {
            None => self.servers.pick(turn.now),
            Some(up) => {
                up.failback = Some(turn.now + self.target.failback);
                self.servers.pick_before(up.server, turn.now)
            }
        };
        let Some(server) = picked else {
            if self.up.is_none() {
                self.session
                    .on_failed(turn.now, self.servers.wait(turn.now));
            }
            return Wish::Nothing;
        };
        if let Some(tls) = self.target.transport.tls()
            && let Some(files) = tls.refresh()
        {
            self.tell(&DeliveryEvent::TlsFilesReloaded(files.as_ref().copied()));
        }
        if let Some(address) = self.target.servers[server].address() {
            self.connect(server, [address].into(), turn);
            return Wish::Nothing;
        }
        self.attempt = Some(Attempt::look_up(&self.target, server, turn.now));
        if self.looking_up.contains(&server) {
            return Wish::Nothing;
        }
        self.looking_up.push(server);
        Wish::LookUp(server)
    }

    fn connect(&mut self, server: usize, addresses: VecDeque<SocketAddr>, turn: &Turn<'_>) {
        let observer = &mut self.observer;
        let tell = |error: &Error| observer.on_event(&DeliveryEvent::AttemptFailed(error));
        match Attempt::connect(&self.target, server, addresses, turn, tell) {
            Ok(attempt) => self.attempt = Some(attempt),
            Err(error) => self.fail(server, &error, turn),
        }
    }

    /// Goes on with the attempt.
    fn advance(&mut self, turn: &Turn<'_>) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if let Err(error) = attempt.advance(&self.target, turn.now) {
            return self.try_next(&error, turn);
        }
        if attempt.is_looking_up() && attempt.is_late(turn.now) {
            let peer = self.target.servers[attempt.server()].to_string();
            return self.try_next(&Error::ConnectTimeout { peer }, turn);
        }
        if !attempt.is_ready() {
            return;
        }
        // A better server waits for a moment in which nothing is under way.
        let moment = !self.session.is_busy() || attempt.is_late(turn.now);
        if let Some(up) = &self.up
            && moment
        {
            let peer = up.connection.peer();
            self.close_connection(Side::Own, Error::Replaced { peer }, turn);
        }
        if self.up.is_none() && self.closed.is_none() {
            self.switch(turn);
        }
    }

    /// Takes the connection of the attempt into use.
    fn switch(&mut self, turn: &Turn<'_>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let server = attempt.server();
        let Some(connection) = attempt.into_connection() else {
            return;
        };
        let bytes = self.session.on_connected(turn.now);
        self.tell(&DeliveryEvent::Connected {
            peer: connection.peer(),
            resumed: connection.is_resumed(),
        });
        if bytes > 0 {
            self.tell(&DeliveryEvent::Replaying { bytes });
        }
        self.up = Some(Up {
            connection,
            server,
            failback: (server > 0).then_some(turn.now + self.target.failback),
            ask: None,
            read_on: false,
        });
    }

    /// An address failed: on to the server's next one, if there is any.
    fn try_next(&mut self, error: &Error, turn: &Turn<'_>) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        let server = attempt.server();
        let others = attempt.into_others();
        if others.is_empty() {
            self.fail(server, error, turn);
        } else {
            self.tell(&DeliveryEvent::AttemptFailed(error));
            self.connect(server, others, turn);
        }
    }

    /// A server failed: on to the next one, if there is any that may be tried.
    fn fail(&mut self, server: usize, error: &Error, turn: &Turn<'_>) {
        self.attempt = None;
        self.servers.fail(server, turn.now, random());
        let is_in_use = self.up.is_some() || self.closed.is_some();
        if is_in_use || self.servers.pick(turn.now).is_some() {
            return self.tell(&DeliveryEvent::AttemptFailed(error));
        }
        let retry_in = self.servers.wait(turn.now);
        self.session.on_failed(turn.now, retry_in);
        self.down.store(true, Ordering::Relaxed);
        // The reason is known before anybody is told to try again.
        self.tell(&DeliveryEvent::ConnectFailed { error, retry_in });
        self.answer();
    }

    /// Delivers what the session has, and what the queue has.
    fn deliver(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let was_full = !self.has_room();
            let is_filled = self.fill(turn);
            self.pump(turn)?;
            // What has ended makes room.
            self.answer();
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
        self.feed.as_ref().is_some_and(|feed| feed.has_room(unsent))
            && self.session.is_up()
            && !self.session.is_searching()
            && self.closing.is_none()
    }

    /// Submits a batch of the queue, if there is room for one. Returns whether it
    /// did.
    fn fill(&mut self, turn: &Turn<'_>) -> bool {
        if !self.has_room() {
            return false;
        }
        let Some(feed) = &mut self.feed else {
            return false;
        };
        match feed.next(&mut turn.scratch.borrow_mut(), turn.now) {
            Ok(None) => false,
            Ok(Some(batch)) => {
                let first = batch.first();
                self.session.submit(batch, 0, Waiter::Queue { first });
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
    fn pump(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        while self.pump_once(turn)? {}
        Ok(())
    }

    /// Returns whether there is more to send, because of what the peer
    /// acknowledged: some frames wait until they are alone.
    fn pump_once(&mut self, turn: &Turn<'_>) -> Result<bool, Error> {
        let has_said_everything = self.has_said_everything();
        let Some(up) = &mut self.up else {
            return Ok(false);
        };
        let connection = &mut up.connection;
        up.read_on = connection.read()? == Heard::Part;
        connection.flush()?;
        while !connection.is_worn() {
            let bytes = if connection.takes_frames() {
                self.session.transmit_frame()
            } else {
                let bytes = self.session.transmit();
                &bytes[..bytes.len().min(PART)]
            };
            if bytes.is_empty() {
                break;
            }
            let taken = match connection.write(bytes) {
                Ok(taken) => taken,
                Err(error @ Error::DatagramTooLong { .. }) => {
                    self.observer
                        .on_event(&DeliveryEvent::MessageTooLong(&error));
                    self.session.on_refused(turn.now);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.session.on_taken(taken, connection.taken(), turn.now);
            if taken == 0 {
                break;
            }
        }
        let is_all = self.session.transmit().is_empty();
        if has_said_everything {
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
        self.session.on_acknowledged(acknowledged, turn.now);
        up.ask = if self.session.awaits_acknowledgement() {
            let wait = match up.ask {
                _ if connection.announces() => RARE_ASK,
                Some((at, wait)) if turn.now >= at => (wait * 2).min(LAST_ASK),
                Some((_, wait)) => wait,
                None => FIRST_ASK,
            };
            Some((turn.now + wait, wait))
        } else {
            None
        };
        Ok(is_all && !self.session.transmit().is_empty())
    }

    /// The connection in use broke, or has to end.
    fn end(&mut self, error: &Error, turn: &Turn<'_>) {
        if let Some(Up {
            connection, server, ..
        }) = self.up.take()
        {
            let end = match error {
                Error::WriteTimeout { .. } => End::Stalled,
                _ => End::Broken,
            };
            connection.abort();
            self.finish(server, error, end, turn);
        }
    }

    /// A connection to `server` is over.
    fn finish(&mut self, server: usize, error: &Error, end: End, turn: &Turn<'_>) {
        let mut retry_in = Duration::ZERO;
        let was_of_use = self.session.on_ended(turn.now, end);
        let unfinished = self.answer();
        if let Some(feed) = &self.feed {
            feed.rest();
        }
        if was_of_use || end == End::Answered {
            self.servers.reset(server);
        } else {
            if self.session.is_searching() {
                // The server takes connections; how many there will be is bounded.
                self.servers.reset(server);
            }
            self.servers.fail(server, turn.now, random());
            retry_in = self.servers.wait(turn.now);
            if !retry_in.is_zero() {
                self.session.on_failed(turn.now, retry_in);
                self.answer();
            }
        }
        // A better one takes over from one that has read everything.
        if end != End::Answered {
            self.tell(&DeliveryEvent::Disconnected {
                error,
                unfinished,
                retry_in,
            });
        }
    }

    /// Tells the workers what became of their batches. Says how many have to
    /// be sent again.
    fn answer(&mut self) -> usize {
        let is_down = self.session.is_down() || self.session.is_searching();
        self.down.store(is_down, Ordering::Relaxed);
        while let Some(length) = self.session.poll_rejected() {
            self.tell(&DeliveryEvent::MessageRejected { length });
        }
        let mut again = 0;
        while let Some(finished) = self.session.poll_finished() {
            match (finished.outcome, finished.took) {
                (Outcome::Retry { .. }, _) => again += 1,
                (Outcome::Delivered, Some(took)) => {
                    if let Some(up) = &self.up {
                        self.servers.reset(up.server);
                    }
                    self.tell(&DeliveryEvent::Delivered { took });
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
            match (token, &mut self.feed) {
                (Waiter::Queue { first }, Some(feed)) => feed.on_finished(first, outcome, batch),
                (Waiter::Queue { .. }, None) => {}
                (Waiter::Reply(reply), _) => reply(Finished {
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
        if self.is_answered {
            // It has read everything.
            self.save(None);
        }
        self.abandon(now);
        self.save(None);
        if let Some(mut up) = self.up.take() {
            up.connection.shut_down();
        }
        self.attempt = None;
    }

    /// Writes the queue's position down.
    fn save(&mut self, held: Option<u64>) {
        if let Some(feed) = &mut self.feed
            && let Err(error) = feed.save(held)
        {
            self.observer.on_event(&DeliveryEvent::QueueFailed(&error));
        }
    }

    fn tell(&mut self, event: &DeliveryEvent<'_>) {
        self.observer.on_event(event);
    }

    fn tell_progress(&mut self, turn: &Turn<'_>) {
        self.save(self.session.first_number());
        if let Some(feed) = &mut self.feed {
            let state = feed.state(&mut turn.scratch.borrow_mut());
            if self.told_queue.replace(state) != Some(state) {
                self.tell(&DeliveryEvent::Queue(state));
            }
        }
        let (totals, replay_bytes) = (self.session.totals(), self.session.replay_bytes());
        if self.told != (totals, replay_bytes) {
            self.told = (totals, replay_bytes);
            self.tell(&DeliveryEvent::Progress {
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
