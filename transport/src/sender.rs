//! The handles of the event loop: a [`Sender`] for the process, and a
//! [`Destination`] for each sink.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use mio::{Poll, Waker};
use parking_lot::Mutex;
use syslog::session::EndedBatch;
use syslog::{Batch, Outcome};

use crate::driver::{Driver, Reply};
use crate::event_loop::{Command, EventLoop, WAKER};
use crate::{Observer, Target};

/// The maximum time for closing a sink with a queue.
const QUEUE_EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle to the event loop's thread, which delivers the batches of all sinks.
/// The thread is stopped and joined when the last handle is dropped, including the
/// handles that [`Destination`]s hold.
///
/// ```no_run
/// use std::time::Duration;
///
/// use syslog::{Batch, Framing, Outcome, Policy};
/// use transport::{DeliveryEvent, Endpoint, Observer, Sender, Target, Transport};
///
/// struct Stderr;
///
/// impl Observer for Stderr {
///     fn on_event(&mut self, event: &DeliveryEvent<'_>) {
///         eprintln!("{event:?}");
///     }
/// }
///
/// let target = Target {
///     servers: vec![Endpoint::new("logs.example", 514).unwrap()],
///     failback: Duration::from_secs(300),
///     transport: Transport::Tcp,
///     policy: Policy::default(),
///     keepalive: Duration::from_secs(60),
///     user_timeout: Duration::from_secs(30),
/// };
/// let sender = Sender::start()?;
/// let destination = sender.open(target, Box::new(Stderr), Duration::from_secs(5));
///
/// let mut batch = Batch::new(Framing::OctetCounting);
/// let mut frame = batch.frame();
/// frame.bytes().extend_from_slice(b"<14>1 - - - - - - hello");
/// frame.finish();
/// match destination.deliver(batch, 0) {
///     (Outcome::Delivered, _) => {}
///     (Outcome::Retry { skip }, _) => eprintln!("try again, without the first {skip} messages"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    commands: crossbeam_channel::Sender<Command>,
    waker: Arc<Waker>,
    next_sink: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sender {
    /// Starts the event loop's thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has reached its limit of threads or file
    /// descriptors.
    pub fn start() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, receiver) = unbounded();
        let event_loop = EventLoop::new(poll, Arc::clone(&waker), receiver, commands.clone());
        let thread = Builder::new()
            .name("syslog-sender".to_owned())
            .spawn(move || event_loop.run())?;
        Ok(Arc::new(Self {
            commands,
            waker,
            next_sink: AtomicUsize::new(0),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Opens a sink, which starts to connect at once. `exit_timeout` is the maximum
    /// time for closing the sink and all others that are closed together with it.
    #[must_use]
    pub fn open(
        self: &Arc<Self>,
        target: Target,
        observer: Box<dyn Observer>,
        exit_timeout: Duration,
    ) -> Destination {
        self.add(target, observer, None, exit_timeout)
    }

    /// Opens a sink that delivers the content of a queue. Closing the sink takes at
    /// most a second: undelivered batches stay in the queue.
    #[must_use]
    pub fn open_queue(
        self: &Arc<Self>,
        target: Target,
        observer: Box<dyn Observer>,
        queue: queue::Reader,
    ) -> Destination {
        self.add(target, observer, Some(queue), QUEUE_EXIT_TIMEOUT)
    }

    /// Runs a job once on the event loop's thread, at the time `at` or later. The job
    /// must not block. A job that is not due when the loop ends is dropped.
    pub fn run_at(&self, at: Instant, job: impl FnOnce() + Send + 'static) {
        self.send(Command::RunAt(at, Box::new(job)));
    }

    fn add(
        self: &Arc<Self>,
        target: Target,
        observer: Box<dyn Observer>,
        queue: Option<queue::Reader>,
        exit_timeout: Duration,
    ) -> Destination {
        let down = Arc::new(AtomicBool::new(false));
        let id = self.next_sink.fetch_add(1, Ordering::Relaxed);
        let mut driver = Driver::new(target, observer, Arc::clone(&down));
        if let Some(queue) = queue {
            driver.attach(queue, Instant::now());
        }
        self.send(Command::Open(id, Box::new(driver)));
        Destination {
            id,
            sender: Arc::clone(self),
            down,
            exit_timeout,
        }
    }

    /// Sends a command to the event loop. Returns whether the loop is running.
    fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread has already been reported.
            let _ = thread.join();
        }
    }
}

/// A handle to an open sink. Dropping the handle delivers the pending batches,
/// within the timeout given when the sink was opened, and closes the connection in
/// an orderly way.
#[derive(Debug)]
pub struct Destination {
    id: usize,
    sender: Arc<Sender>,
    down: Arc<AtomicBool>,
    exit_timeout: Duration,
}

impl Destination {
    /// Returns whether the receiver is known to be unreachable. A delivery would
    /// return [`Outcome::Retry`] at once.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notifies the sink that batches were appended to its queue.
    pub fn wake(&self) {
        self.sender.send(Command::Wake(self.id));
    }

    /// Delivers a batch and waits for the outcome, which timeouts bound. The first
    /// `skip` frames, which were delivered before, are not sent. Returns the outcome
    /// and, if available, a batch whose memory can be reused.
    #[must_use]
    pub fn deliver(&self, batch: Batch, skip: usize) -> (Outcome, Option<Batch>) {
        let (reply, finished) = bounded(1);
        self.send_batch(
            batch,
            skip,
            Box::new(move |finished| drop(reply.send(finished))),
        );
        match finished.recv() {
            Ok(EndedBatch { batch, outcome, .. }) => (outcome, batch),
            // The event loop has ended and dropped the batch.
            Err(_) => (Outcome::Retry { skip }, None),
        }
    }

    /// Delivers a batch like [`Destination::deliver`], but does not wait. The outcome
    /// is passed to `done` on the event loop's thread, where `done` must not block.
    /// If the event loop has ended, `done` is dropped without being called.
    pub fn submit(&self, batch: Batch, skip: usize, done: impl FnOnce(Outcome) + Send + 'static) {
        let done = move |EndedBatch { outcome, .. }: EndedBatch<()>| done(outcome);
        self.send_batch(batch, skip, Box::new(done));
    }

    /// Delivers a batch without reporting the outcome. The batch is lost if it cannot
    /// be delivered before the sink is closed.
    pub fn deliver_last(&self, batch: Batch) {
        self.submit(batch, 0, |_| ());
    }

    fn send_batch(&self, batch: Batch, skip: usize, reply: Reply) {
        self.sender.send(Command::Deliver {
            sink: self.id,
            batch,
            skip,
            reply,
        });
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        let (done, closed) = bounded::<()>(0);
        self.sender.send(Command::Close {
            sink: self.id,
            timeout: self.exit_timeout,
            done,
        });
        // Nothing is ever sent: the event loop drops `done` once the sink is closed.
        let _ = closed.recv();
    }
}
