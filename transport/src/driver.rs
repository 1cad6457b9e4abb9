//! One sink: does on sockets what its session decides.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use syslog::session::{End, Expired, Finished};
use syslog::{Batch, Session};

use crate::connection::{Connection, Heard, Progress};
use crate::{Error, Event, Observer, Target};

/// How long a TLS 1.3 peer that sends no session ticket has to refuse our
/// certificate, before it counts as content.
const CONFIRM: Duration = Duration::from_millis(500);
/// Where the kernel does not say when a peer acknowledged, it is asked: after
/// this time at first, and after twice the time each time again.
const FIRST_ASK: Duration = Duration::from_millis(1);
const LAST_ASK: Duration = Duration::from_millis(20);
/// Where it does say, it is asked all the same from time to time: its word can
/// get lost where memory for the socket is short.
const RARE_ASK: Duration = Duration::from_millis(200);

/// Where the answer to a delivery goes.
pub(crate) type Reply = crossbeam_channel::Sender<Finished<()>>;

/// What the event loop gives a driver for one turn.
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    pub(crate) token: Token,
}

/// What a driver needs from the event loop after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    /// The target's name looked up.
    LookUp,
}

pub(crate) struct Driver {
    target: Target,
    observer: Box<dyn Observer>,
    /// Read by the workers, so that they do not encode in vain.
    down: Arc<AtomicBool>,
    session: Session<Reply>,
    stage: Stage,
    /// A look-up of the name is under way. It cannot be ended, so no other is
    /// begun before it has answered.
    looking_up: bool,
    /// When to ask next what was acknowledged, and how long to wait then.
    ask: Option<(Instant, Duration)>,
    /// The peer said more than was read in one turn.
    read_on: bool,
    /// The sink is being closed, and has until then.
    closing: Option<Instant>,
}

enum Stage {
    Unconnected,
    LookingUp,
    Connecting {
        connection: Connection,
        others: VecDeque<SocketAddr>,
        confirm_until: Option<Instant>,
    },
    Up(Connection),
}

impl Driver {
    pub(crate) fn new(target: Target, observer: Box<dyn Observer>, down: Arc<AtomicBool>) -> Self {
        Self {
            session: Session::new(target.policy),
            target,
            observer,
            down,
            stage: Stage::Unconnected,
            looking_up: false,
            ask: None,
            read_on: false,
            closing: None,
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn submit(&mut self, batch: Batch, reply: Reply) {
        self.session.submit(batch, reply);
    }

    /// Delivers what was submitted within `bound`, and connects no more.
    pub(crate) fn close(&mut self, now: Instant, bound: Duration) {
        self.closing = Some(now + bound);
    }

    /// Whether there is nothing left to do after [`Driver::close`].
    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_some() && !self.session.is_busy()
    }

    /// When the next turn is due, if nothing happens before.
    pub(crate) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let confirm = match &self.stage {
            Stage::Connecting { confirm_until, .. } => *confirm_until,
            _ => None,
        };
        let read_on = self.read_on.then_some(now);
        let begin = self.shall_connect().then_some(now);
        let ask = self.ask.map(|(at, _)| at);
        [
            self.session.poll_timeout(),
            confirm,
            ask,
            read_on,
            begin,
            self.closing,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The names are looked up.
    pub(crate) fn on_addresses(&mut self, found: io::Result<Vec<SocketAddr>>, turn: &Turn<'_>) {
        self.looking_up = false;
        // An answer that came after the session gave up waiting.
        if !matches!(self.stage, Stage::LookingUp) {
            return;
        }
        let host = self.target.endpoint.host();
        match found {
            Ok(addresses) if addresses.is_empty() => {
                self.fail(&Error::NoAddress { host }, turn);
            }
            Ok(addresses) => self.connect(addresses.into(), turn),
            Err(source) => self.fail(&Error::Resolve { host, source }, turn),
        }
    }

    /// Does everything that can be done now.
    pub(crate) fn turn(&mut self, turn: &Turn<'_>) -> Wish {
        self.expire(turn);
        let mut wish = Wish::Nothing;
        if self.shall_connect() {
            wish = self.begin(turn);
        }
        self.advance(turn);
        if let Stage::Up(_) = self.stage
            && let Err(error) = self.pump(turn)
        {
            self.end(&error, turn);
        }
        self.answer();
        wish
    }

    /// A sink connects before there is anything to send, so that what is wrong
    /// with it is known early; one that is being closed only if it must.
    fn shall_connect(&self) -> bool {
        self.session.wants_connection() && (self.closing.is_none() || self.session.is_busy())
    }

    fn expire(&mut self, turn: &Turn<'_>) {
        if self.closing.is_some_and(|until| turn.now >= until) && self.session.is_busy() {
            self.session.fail_all(turn.now);
            let batches = self.answer();
            self.tell(&Event::ClosedUndelivered { batches });
        }
        match self.session.on_timeout(turn.now) {
            None => {}
            Some(Expired::Connect) => self.on_connect_timeout(turn),
            Some(Expired::Write) => {
                if let Stage::Up(connection) = &self.stage {
                    let peer = connection.peer();
                    self.end(&Error::WriteTimeout { peer }, turn);
                }
            }
        }
    }

    fn on_connect_timeout(&mut self, turn: &Turn<'_>) {
        let peer = match &self.stage {
            Stage::Connecting { connection, .. } => connection.peer().to_string(),
            _ => self.target.endpoint.to_string(),
        };
        self.try_next(&Error::ConnectTimeout { peer }, turn);
    }

    /// Begins to connect, or to look up what to connect to.
    fn begin(&mut self, turn: &Turn<'_>) -> Wish {
        if let Some(address) = self.target.endpoint.address() {
            self.connect([address].into(), turn);
            Wish::Nothing
        } else {
            self.session.on_attempt(turn.now);
            self.stage = Stage::LookingUp;
            if std::mem::replace(&mut self.looking_up, true) {
                Wish::Nothing
            } else {
                Wish::LookUp
            }
        }
    }

    /// Begins to connect to the first of `addresses` that does not fail at once.
    fn connect(&mut self, mut addresses: VecDeque<SocketAddr>, turn: &Turn<'_>) {
        while let Some(address) = addresses.pop_front() {
            self.session.on_attempt(turn.now);
            match self.open(address, turn) {
                Ok(connection) => {
                    self.stage = Stage::Connecting {
                        connection,
                        others: addresses,
                        confirm_until: None,
                    };
                    return;
                }
                Err(error) if addresses.is_empty() => return self.fail(&error, turn),
                Err(error) => self.tell(&Event::AttemptFailed(&error)),
            }
        }
    }

    fn open(&self, address: SocketAddr, turn: &Turn<'_>) -> Result<Connection, Error> {
        let mut connection = Connection::open(&self.target, address)?;
        turn.registry
            .register(
                connection.source(),
                turn.token,
                Interest::READABLE | Interest::WRITABLE,
            )
            .map_err(|source| Error::Connect {
                peer: address,
                source,
            })?;
        Ok(connection)
    }

    /// Goes on with the handshakes.
    fn advance(&mut self, turn: &Turn<'_>) {
        let Stage::Connecting {
            connection,
            confirm_until,
            ..
        } = &mut self.stage
        else {
            return;
        };
        match connection.advance() {
            Ok(Progress::Connecting) => {}
            Ok(Progress::Unconfirmed) => {
                let until = *confirm_until.get_or_insert(turn.now + CONFIRM);
                if turn.now >= until {
                    self.on_ready(turn);
                }
            }
            Ok(Progress::Ready) => self.on_ready(turn),
            Err(error) => self.try_next(&error, turn),
        }
    }

    fn on_ready(&mut self, turn: &Turn<'_>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Unconnected);
        if let Stage::Connecting { connection, .. } = stage {
            let bytes = self.session.on_connected(turn.now);
            self.tell(&Event::Connected(connection.peer()));
            if bytes > 0 {
                self.tell(&Event::SendingAgain { bytes });
            }
            self.stage = Stage::Up(connection);
        }
    }

    /// This address failed: on to the next one, if there is any.
    fn try_next(&mut self, error: &Error, turn: &Turn<'_>) {
        let others = match &mut self.stage {
            Stage::Connecting { others, .. } => std::mem::take(others),
            _ => VecDeque::new(),
        };
        self.stage = Stage::Unconnected;
        if others.is_empty() {
            self.fail(error, turn);
        } else {
            self.tell(&Event::AttemptFailed(error));
            self.connect(others, turn);
        }
    }

    /// Moves bytes from the session to the connection, and learns what the
    /// peer acknowledged.
    fn pump(&mut self, turn: &Turn<'_>) -> Result<(), Error> {
        let Stage::Up(connection) = &mut self.stage else {
            return Ok(());
        };
        self.read_on = connection.read()? == Heard::Part;
        connection.flush()?;
        loop {
            let bytes = if connection.is_datagram() {
                self.session.transmit_frame()
            } else {
                self.session.transmit()
            };
            if bytes.is_empty() {
                break;
            }
            let taken = match connection.write(bytes) {
                Ok(taken) => taken,
                Err(error @ Error::DatagramTooLong { length, .. }) => {
                    self.observer.on_event(&Event::MessageRefused(&error));
                    length
                }
                Err(error) => return Err(error),
            };
            self.session.on_taken(taken, connection.taken(), turn.now);
            if taken == 0 {
                break;
            }
        }
        self.session
            .on_acknowledged(connection.acknowledged()?, turn.now);
        self.ask = if self.session.awaits_acknowledgement() {
            let wait = match self.ask {
                _ if connection.announces() => RARE_ASK,
                Some((at, wait)) if turn.now >= at => (wait * 2).min(LAST_ASK),
                Some((_, wait)) => wait,
                None => FIRST_ASK,
            };
            Some((turn.now + wait, wait))
        } else {
            None
        };
        Ok(())
    }

    fn fail(&mut self, error: &Error, turn: &Turn<'_>) {
        self.stage = Stage::Unconnected;
        let retry_in = self.session.on_failed(turn.now, random());
        self.answer();
        self.tell(&Event::ConnectFailed { error, retry_in });
    }

    fn end(&mut self, error: &Error, turn: &Turn<'_>) {
        self.stage = Stage::Unconnected;
        self.ask = None;
        self.read_on = false;
        let end = match error {
            Error::Closed { .. } => End::Clean,
            _ => End::Unclean,
        };
        let retry_in = self.session.on_ended(turn.now, random(), end);
        let unfinished = self.answer();
        self.tell(&Event::Disconnected {
            error,
            unfinished,
            retry_in,
        });
    }

    /// Tells the workers what became of their batches. Says how many have to
    /// be sent again.
    fn answer(&mut self) -> usize {
        self.down.store(self.session.is_down(), Ordering::Relaxed);
        let mut again = 0;
        while let Some(Finished {
            batch,
            tag,
            outcome,
        }) = self.session.poll_finished()
        {
            again += usize::from(outcome == syslog::Outcome::Retry);
            // The worker waits for it; if it does not any more, nobody needs it.
            let _ = tag.send(Finished {
                batch,
                tag: (),
                outcome,
            });
        }
        again
    }

    /// Ends the connection in an orderly way.
    pub(crate) fn shut_down(&mut self) {
        match &mut self.stage {
            Stage::Up(connection) | Stage::Connecting { connection, .. } => connection.shut_down(),
            Stage::Unconnected | Stage::LookingUp => {}
        }
        self.stage = Stage::Unconnected;
    }

    fn tell(&self, event: &Event<'_>) {
        self.observer.on_event(event);
    }
}

/// Spreads the sinks' backoffs; no secret depends on it.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests;
