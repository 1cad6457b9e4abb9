//! The handles: a [`Sender`] for the process, a [`Destination`] for each receiver.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};
use mio::{Poll, Waker};
use parking_lot::Mutex;
use syslog::session::Finished;
use syslog::{Batch, Outcome};

use crate::driver::{Driver, Reply};
use crate::event_loop::{Command, EventLoop, WAKER};
use crate::{Observer, Target};

/// The time that the end of a sink with a queue may take.
const QUEUE_EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The event loop's thread. It ends, and is joined, when the last handle to it
/// is dropped.
#[derive(Debug)]
pub struct Sender {
    commands: crossbeam_channel::Sender<Command>,
    waker: Arc<Waker>,
    next_sink: AtomicUsize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sender {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Where the process may have no more threads or descriptors.
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

    /// Opens a sink, which begins to connect at once. `exit_timeout` bounds
    /// how long the end of all sinks may take that are closed together.
    #[must_use]
    pub fn open(
        self: &Arc<Self>,
        target: Target,
        observer: Box<dyn Observer>,
        exit_timeout: Duration,
    ) -> Destination {
        self.add(target, observer, None, exit_timeout)
    }

    /// Opens a sink that delivers what is appended to a queue. It ends within a
    /// second: what is not delivered then waits in the queue.
    #[must_use]
    pub fn open_queue(
        self: &Arc<Self>,
        target: Target,
        observer: Box<dyn Observer>,
        queue: queue::Reader,
    ) -> Destination {
        self.add(target, observer, Some(queue), QUEUE_EXIT_TIMEOUT)
    }

    /// Runs something once, on the event loop's thread and at that time or later. It
    /// must not block. It is dropped if the loop ends before.
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

    /// Whether the loop is there to take the command.
    fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// One receiver. Dropping it delivers what is under way, within the bound
/// that it was opened with, and says goodbye to the receiver.
#[derive(Debug)]
pub struct Destination {
    id: usize,
    sender: Arc<Sender>,
    down: Arc<AtomicBool>,
    exit_timeout: Duration,
}

impl Destination {
    /// Whether the receiver is known not to be reachable now: a delivery would
    /// end at once with [`Outcome::Retry`].
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Has the sink look for more in its queue.
    pub fn wake(&self) {
        self.sender.send(Command::Wake(self.id));
    }

    /// Delivers a batch, without its first `skip` frames, which were delivered
    /// before, and waits for its end, which timeouts bound. Gives a batch back,
    /// if there is one to spare, for its memory to be used again.
    #[must_use]
    pub fn deliver(&self, batch: Batch, skip: usize) -> (Outcome, Option<Batch>) {
        let (reply, answer) = bounded(1);
        // Whoever does not wait any more needs no answer.
        self.send_batch(
            batch,
            skip,
            Box::new(move |finished| drop(reply.send(finished))),
        );
        match answer.recv() {
            Ok(Finished { batch, outcome, .. }) => (outcome, batch),
            // The loop is gone, and with it the batch.
            Err(_) => (Outcome::Retry { delivered: skip }, None),
        }
    }

    /// Delivers a batch like [`Destination::deliver`], and does not wait: `done` is
    /// told what became of it, on the event loop's thread, and must not block.
    /// It is dropped untold where the loop is gone.
    pub fn submit(&self, batch: Batch, skip: usize, done: impl FnOnce(Outcome) + Send + 'static) {
        let done = move |Finished { outcome, .. }: Finished<()>| done(outcome);
        self.send_batch(batch, skip, Box::new(done));
    }

    /// Delivers a batch if that is possible before the sink's end, and does not
    /// wait for it.
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
        let (done, closed) = bounded(0);
        self.sender.send(Command::Close {
            sink: self.id,
            timeout: self.exit_timeout,
            done,
        });
        // Nothing is ever sent: the end of the channel is the message.
        let _ = closed.recv();
    }
}
