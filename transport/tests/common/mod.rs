//! Helpers for the tests over real sockets.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test uses only some helpers, and a panic fails the test"
)]

pub(crate) mod tls;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use queue::Writer;
use receiver::Receiver;
use syslog::{Batch, Framing, Outcome, Policy, ReplayBuffer};
use transport::{
    DeliveryEvent, Destination, Endpoint, Observer, QueueState, Sender, Setting, Target, Transport,
};

pub(crate) const BOUND: Duration = Duration::from_secs(30);
pub(crate) const POLICY: Policy = Policy {
    connect_timeout: Duration::from_secs(1),
    write_timeout: Duration::from_millis(500),
    close_timeout: Duration::from_millis(500),
    backoff_min: Duration::from_millis(20),
    backoff_max: Duration::from_millis(100),
    replay_buffer: ReplayBuffer::Fixed(1024 * 1024),
    replay_age: Duration::from_secs(300),
};

/// Returns the placeholder for a setting in the text of hints.
const fn name(setting: Setting) -> &'static str {
    match setting {
        Setting::Transport => "TRANSPORT",
        Setting::Ca => "CA",
        Setting::ClientCertificate => "CLIENT-CERTIFICATE",
        Setting::ClientIdentity => "CLIENT-IDENTITY",
        Setting::ServerName => "SERVER-NAME",
        Setting::Pins => "PINS",
        Setting::MinVersion => "MIN-VERSION",
        Setting::MaxMessageSize => "MAX-MESSAGE-SIZE",
    }
}

/// An observer that sends each event to the test as text.
struct EventSender(mpsc::Sender<String>);

impl Observer for EventSender {
    fn on_event(&mut self, event: &DeliveryEvent<'_>) {
        let text = match event {
            DeliveryEvent::Connected {
                peer,
                resumed: false,
            } => format!("connected to {peer}"),
            DeliveryEvent::Connected { peer, .. } => format!("connected to {peer}, resumed"),
            DeliveryEvent::AttemptFailed(error) => format!("attempt failed: {}", error.chain()),
            DeliveryEvent::ConnectFailed { error, .. } => {
                let hint = error.hint().map(|hint| hint.text(name));
                format!("failed: {} {}", error.chain(), hint.unwrap_or_default())
            }
            DeliveryEvent::Disconnected { error, .. } => format!("ended: {}", error.chain()),
            DeliveryEvent::Replaying { bytes } => format!("replaying {bytes} bytes"),
            DeliveryEvent::MessageTooLong(error) => format!("too long: {}", error.chain()),
            DeliveryEvent::MessageRejected { length } => format!("rejected: {length} bytes"),
            DeliveryEvent::WindowExceedsReplay { .. } => "window exceeds replay".to_owned(),
            DeliveryEvent::ClosedUndelivered {
                batches,
                replay_bytes,
            } => format!("undelivered: {batches} batches, {replay_bytes} bytes"),
            DeliveryEvent::TlsFilesReloaded(Ok(())) => "reloaded the TLS files".to_owned(),
            DeliveryEvent::TlsFilesReloaded(Err(error)) => format!("TLS files: {error}"),
            DeliveryEvent::QueueFailed(error) => format!("queue: {error}"),
            DeliveryEvent::Queue(QueueState {
                status,
                oldest: Some(oldest),
            }) => {
                let age = oldest.elapsed().unwrap_or_default();
                format!("queue: {} waiting, oldest {age:?}", status.waiting)
            }
            DeliveryEvent::Delivered { .. }
            | DeliveryEvent::Progress { .. }
            | DeliveryEvent::Queue(_) => return,
        };
        // Fails if the test has already ended.
        let _ = self.0.send(text);
    }
}

pub(crate) struct Fixture {
    pub(crate) sink: Destination,
    pub(crate) events: mpsc::Receiver<String>,
}

impl Fixture {
    /// Waits for an event whose text contains `text`, and returns it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        let deadline = Instant::now() + BOUND;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(remaining) {
                Ok(event) if event.contains(text) => return event,
                Ok(_) => {}
                Err(error) => panic!("no event {text:?}: {error}"),
            }
        }
    }

    /// Retries until the batch is delivered.
    pub(crate) fn deliver(&self, texts: &[&str]) {
        let deadline = Instant::now() + BOUND;
        while self.sink.deliver(batch(texts), 0).0 != Outcome::Delivered {
            assert!(Instant::now() < deadline, "not delivered");
            std::thread::yield_now();
        }
    }
}

/// The outcome of a batch of which nothing was delivered.
pub(crate) const RETRY: Outcome = Outcome::Retry { skip: 0 };

pub(crate) fn open(sender: &Arc<Sender>, address: &str, transport: Transport) -> Fixture {
    let address: SocketAddr = address.parse().unwrap();
    open_name(sender, &address.ip().to_string(), address.port(), transport)
}

pub(crate) fn open_name(
    sender: &Arc<Sender>,
    host: &str,
    port: u16,
    transport: Transport,
) -> Fixture {
    open_target(
        sender,
        target(vec![Endpoint::new(host, port).unwrap()], transport),
    )
}

pub(crate) fn target(servers: Vec<Endpoint>, transport: Transport) -> Target {
    Target {
        servers,
        failback: Duration::from_secs(300),
        transport,
        policy: POLICY,
        keepalive: Duration::from_secs(60),
        user_timeout: Duration::from_secs(30),
    }
}

/// Opens a sink with a queue in `folder`. Returns the sink and the queue's writer.
pub(crate) fn open_queue(
    sender: &Arc<Sender>,
    folder: &Path,
    port: u16,
    policy: Policy,
) -> (Fixture, Writer) {
    let options = queue::Options {
        framing: Framing::OctetCounting,
        limit: 64 * 1024 * 1024,
        sync: false,
    };
    let (writer, reader) = queue::open(folder, options).unwrap();
    let servers = vec![Endpoint::new("127.0.0.1", port).unwrap()];
    let target = Target {
        policy,
        ..target(servers, Transport::Tcp)
    };
    let (events, receiver) = mpsc::channel();
    let fixture = Fixture {
        sink: sender.open_queue(target, Box::new(EventSender(events)), reader),
        events: receiver,
    };
    (fixture, writer)
}

pub(crate) fn open_target(sender: &Arc<Sender>, target: Target) -> Fixture {
    let (events, receiver) = mpsc::channel();
    Fixture {
        sink: sender.open(
            target,
            Box::new(EventSender(events)),
            Duration::from_secs(5),
        ),
        events: receiver,
    }
}

pub(crate) fn batch(texts: &[&str]) -> Batch {
    let mut batch = Batch::new(Framing::OctetCounting);
    for text in texts {
        let mut frame = batch.frame();
        write!(frame.bytes(), "<14>1 - - - - - - {text}").unwrap();
        frame.finish();
    }
    batch
}

pub(crate) fn texts(receiver: &Receiver, count: u64) -> Vec<String> {
    let received = receiver.wait_for(count, BOUND).unwrap();
    received
        .into_iter()
        .map(|received| received.message.unwrap().text().to_owned())
        .collect()
}
