//! A sink's connection, and the messages that go over it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::EventFormat;
use mapper::config::{Config, ConfigError};
use mapper::hostname;
use mapper::message::{Mapper, Workspace};
use mapper::notice::push_notice;
use syslog::{Batch, Framing, Outcome};
use tokio::sync::mpsc::UnboundedSender;
use transport::{DeliveryEvent, Destination, Error, ErrorKind, Observer, Sender};

use super::message::{TAG, push_record};
use super::outlet::Outgoing;
use super::route::Way;
use crate::names::MANAGER;
use crate::snapshot::SinkId;

/// How long the end of a connection may take, when another leader may begin.
const EXIT: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Port {
    sink: Destination,
    line: Line,
    mapper: Mapper,
    framing: Framing,
    format: EventFormat,
    hostname: String,
}

/// What is told of a port.
#[derive(Debug)]
pub(super) enum Signal {
    /// There is a connection.
    Connected,
    /// There is none, and no server that could be connected to; and why, for
    /// people.
    Failed(ErrorKind, String),
    /// A message was given up that no datagram takes.
    GivenUp,
    /// What became of the batch of this number.
    Done(u64, Outcome),
}

/// Which port: a sink has another one when its server is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) sink: SinkId,
    pub(super) number: u64,
}

/// Who is told, and of which port.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) of: Ticket,
    pub(super) to: UnboundedSender<(Ticket, Signal)>,
}

impl Line {
    fn say(&self, signal: Signal) {
        // Nobody listens any more when nobody leads any more.
        let _ = self.to.send((self.of.clone(), signal));
    }
}

impl Port {
    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// Where the plugin's keys cannot be used here: the system has no CAs.
    pub(super) fn open(way: &Way, sender: &Arc<Sender>, line: Line) -> Result<Self, ConfigError> {
        let config = Config::parse(way)?;
        let hostname = hostname::own();
        let mapper = Mapper::new(&config, hostname.clone());
        let Config {
            framing, targets, ..
        } = config;
        let target = targets.into_iter().next();
        let target = target.expect("a configuration has a server at least");
        Ok(Self {
            sink: sender.open(target, Box::new(line.clone()), EXIT),
            line,
            mapper,
            framing,
            format: way.format,
            hostname,
        })
    }

    /// Whether there is no server that could be connected to.
    pub(super) fn is_down(&self) -> bool {
        self.sink.is_down()
    }

    /// Sends a batch, and tells what became of it.
    pub(super) fn send(&self, outgoing: &Outgoing, space: &mut Workspace) {
        let batch = self.batch(outgoing, space);
        let line = self.line.clone();
        let number = outgoing.number;
        self.sink.submit(batch, outgoing.delivered, move |outcome| {
            line.say(Signal::Done(number, outcome));
        });
    }

    fn batch(&self, outgoing: &Outgoing, space: &mut Workspace) -> Batch {
        let mut batch = Batch::new(self.framing);
        if outgoing.dropped > 0 {
            let text = format!("{} events dropped: too many waited", outgoing.dropped);
            let at = SystemTime::from(outgoing.at);
            push_notice(&mut batch, &self.hostname, MANAGER, at, &text);
        }
        let mut chunk = Vec::new();
        for occurrence in &outgoing.occurrences {
            push_record(occurrence, self.format, &mut chunk);
        }
        let tally = self.mapper.map_chunk(TAG, &chunk, &mut batch, space);
        debug_assert!(tally.messages >= outgoing.occurrences.len() as u64);
        batch
    }

    /// Ends the connection, which may take a while.
    pub(super) fn close(self) {
        tokio::task::spawn_blocking(move || drop(self.sink));
    }
}

impl Observer for Line {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        match event {
            DeliveryEvent::Connected { .. } => self.say(Signal::Connected),
            DeliveryEvent::ConnectFailed { error, .. } => self.say(failed(error)),
            // Else it is made anew at once.
            DeliveryEvent::Disconnected {
                error, retry_in, ..
            } if !retry_in.is_zero() => self.say(failed(error)),
            DeliveryEvent::MessageTooLong(_) | DeliveryEvent::MessageRejected { .. } => {
                self.say(Signal::GivenUp);
            }
            DeliveryEvent::Disconnected { .. }
            | DeliveryEvent::AttemptFailed(_)
            | DeliveryEvent::Replaying { .. }
            | DeliveryEvent::WindowExceedsReplay { .. }
            | DeliveryEvent::ClosedUndelivered { .. }
            | DeliveryEvent::TlsFilesReloaded(_)
            | DeliveryEvent::Queue(_)
            | DeliveryEvent::QueueFailed(_)
            | DeliveryEvent::Delivered { .. }
            | DeliveryEvent::Progress { .. } => {}
        }
    }
}

fn failed(error: &Error) -> Signal {
    Signal::Failed(error.kind(), error.chain())
}
