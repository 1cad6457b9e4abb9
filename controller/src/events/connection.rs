//! The connection to a sink's server, and the messages sent over it.

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

use super::message::push_event;
use super::route::EventOutput;
use super::sink_queue::EventBatch;
use crate::names::MANAGER;
use crate::snapshot::SinkId;

/// The time for closing a connection, after which another leader may start.
const EXIT: Duration = Duration::from_secs(2);

/// The connection to a sink's server.
#[derive(Debug)]
pub(super) struct Connection {
    sink: Destination,
    notifier: Notifier,
    mapper: Mapper,
    framing: Framing,
    format: EventFormat,
    hostname: String,
}

/// A change of a connection's state.
#[derive(Debug)]
pub(super) enum Signal {
    /// The connection is established.
    Connected,
    /// No server could be connected to. The text explains why, for people.
    Failed(ErrorKind, String),
    /// The receiver does not take a message, for example one too long for a datagram.
    GivenUp,
    /// The batch with this number was delivered, or was not.
    Done(u64, Outcome),
}

/// The identity of a connection: a sink whose server changes gets a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub(super) sink: SinkId,
    pub(super) number: u64,
}

/// Sends the signals of one connection to the relay.
#[derive(Clone, Debug)]
pub(super) struct Notifier {
    pub(super) id: ConnectionId,
    pub(super) signals: UnboundedSender<(ConnectionId, Signal)>,
}

impl Notifier {
    fn notify(&self, signal: Signal) {
        // Without a relay this controller no longer leads.
        let _ = self.signals.send((self.id.clone(), signal));
    }
}

impl Connection {
    /// Starts to connect.
    ///
    /// # Errors
    ///
    /// Returns an error if the sink relies on the system's CAs, and this system has none.
    pub(super) fn open(
        output: &EventOutput,
        sender: &Arc<Sender>,
        notifier: Notifier,
    ) -> Result<Self, ConfigError> {
        let config = Config::parse(output)?;
        let hostname = hostname::own();
        let mapper = Mapper::new(&config, hostname.clone());
        let Config {
            framing, targets, ..
        } = config;
        let target = targets.into_iter().next();
        let target = target.expect("a configuration has a server at least");
        Ok(Self {
            sink: sender.open(target, Box::new(notifier.clone()), EXIT),
            notifier,
            mapper,
            framing,
            format: output.format,
            hostname,
        })
    }

    /// Returns whether no server could be connected to.
    pub(super) fn is_down(&self) -> bool {
        self.sink.is_down()
    }

    /// Sends a batch. [`Signal::Done`] reports its outcome.
    pub(super) fn send(&self, outgoing: &EventBatch, space: &mut Workspace) {
        let batch = self.batch(outgoing, space);
        let notifier = self.notifier.clone();
        let number = outgoing.number;
        self.sink.submit(batch, outgoing.delivered, move |outcome| {
            notifier.notify(Signal::Done(number, outcome));
        });
    }

    fn batch(&self, outgoing: &EventBatch, space: &mut Workspace) -> Batch {
        let mut batch = Batch::new(self.framing);
        if outgoing.dropped > 0 {
            let text = format!("{} events dropped: too many waited", outgoing.dropped);
            let at = SystemTime::from(outgoing.at);
            push_notice(&mut batch, &self.hostname, MANAGER, at, &text);
        }
        for occurrence in &outgoing.occurrences {
            let tally = push_event(occurrence, self.format, &self.mapper, &mut batch, space);
            debug_assert!(tally.messages > 0, "an event has a message");
        }
        batch
    }

    /// Closes the connection in the background, which may take [`EXIT`].
    pub(super) fn close(self) {
        tokio::task::spawn_blocking(move || drop(self.sink));
    }
}

impl Observer for Notifier {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        match event {
            DeliveryEvent::Connected { .. } => self.notify(Signal::Connected),
            DeliveryEvent::ConnectFailed { error, .. } => self.notify(failed(error)),
            // Otherwise it reconnects at once.
            DeliveryEvent::Disconnected {
                error, retry_in, ..
            } if !retry_in.is_zero() => self.notify(failed(error)),
            DeliveryEvent::MessageTooLong(_) | DeliveryEvent::MessageRejected { .. } => {
                self.notify(Signal::GivenUp);
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
