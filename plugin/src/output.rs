//! One `[OUTPUT]`: from a chunk to its delivery, or to its queue.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mapper::config::Config;
use mapper::message::{Mapper, Tally, Workspace};
use parking_lot::Mutex;
use syslog::{Batch, Framing, Outcome};
use transport::{Destination, Sender};

use crate::abi::host::Level;
use crate::log::{Limiter, Log};
use crate::metrics::Metrics;
use crate::orphans::Sweep;
use crate::report::Report;
use crate::resume::Resume;
use crate::route::{Queued, Route};
use crate::witness::Witness;

/// Memory that the buffers between two flushes may hold on to. A larger one is
/// given back: one huge chunk must not be remembered forever.
const KEEP: usize = 4 * 1024 * 1024;

/// The time between two attempts to open a queue.
const REOPEN: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Output {
    /// Sees to the queues beside this output's.
    _sweep: Option<Arc<Sweep>>,
    mapper: Mapper,
    framing: Framing,
    /// Set once the queue is open.
    route: OnceLock<Route>,
    opening: Mutex<Option<Opening>>,
    resume: Resume,
    report: Arc<Report>,
    log: Log,
    metrics: Metrics,
    /// Limits the log's lines about the queue.
    queue_errors: Mutex<Limiter>,
    /// One for each worker that flushes at the same time.
    buffers: Mutex<Vec<Buffers>>,
    /// Bytes and frames of the last batch: the next one will be alike.
    last: Mutex<(usize, usize)>,
}

/// Opens a route, until that has succeeded.
#[derive(Debug)]
struct Opening {
    config: Config,
    sender: Arc<Sender>,
    next: Instant,
}

#[derive(Debug)]
struct Buffers {
    batch: Batch,
    space: Workspace,
}

impl Output {
    /// Opens the sinks. Where the queue cannot be opened, that is tried again with the
    /// chunks that come: an error of one output must not keep the others from starting.
    #[must_use]
    pub(crate) fn open(
        config: Config,
        sender: &Arc<Sender>,
        log: &Log,
        metrics: &Metrics,
        hostname: String,
    ) -> Self {
        for warning in &config.warnings {
            log.write(Level::Warn, warning);
        }
        let report = Arc::new(Report::new(log.clone(), metrics.clone(), hostname.clone()));
        let queue = config.queue.as_ref();
        metrics.show_queue_limit(queue.map_or(0, |queue| queue.limit));
        let this = Self {
            _sweep: queue.map(|queue| {
                Sweep::beside(&queue.path, &queue.name, queue.orphan_age, log, sender)
            }),
            route: OnceLock::new(),
            mapper: Mapper::new(&config, hostname),
            framing: config.framing,
            opening: Mutex::new(Some(Opening {
                config,
                sender: Arc::clone(sender),
                next: Instant::now(),
            })),
            resume: Resume::default(),
            report,
            log: log.clone(),
            metrics: metrics.clone(),
            queue_errors: Mutex::default(),
            buffers: Mutex::default(),
            last: Mutex::default(),
        };
        this.route();
        this
    }

    /// Returns the route, and tries to open it if it is not open.
    fn route(&self) -> Option<&Route> {
        if let Some(route) = self.route.get() {
            return Some(route);
        }
        let mut opening = self.opening.lock();
        let now = Instant::now();
        if let Some(Opening {
            config,
            sender,
            next,
        }) = &mut *opening
            && *next <= now
        {
            let witness = || {
                let report = Arc::clone(&self.report);
                Witness::new(self.log.clone(), self.metrics.clone(), report)
            };
            match Route::open(config, sender, witness) {
                Ok(route) => {
                    let _ = self.route.set(route);
                    *opening = None;
                }
                Err(error) => {
                    *next = now + REOPEN;
                    self.report_queue_error(&error);
                }
            }
        }
        self.route.get()
    }

    /// Takes a chunk: [`Outcome::Delivered`] once the receiver has every byte of
    /// it, or the queue has.
    #[must_use]
    pub(crate) fn flush(&self, tag: &str, chunk: &[u8]) -> Outcome {
        match self.route() {
            Some(Route::Direct(sinks)) => self.deliver(Route::direct(sinks, tag), tag, chunk),
            Some(Route::Queued(queued)) => self.enqueue(queued, tag, chunk),
            None => Outcome::Retry { delivered: 0 },
        }
    }

    fn deliver(&self, sink: &Destination, tag: &str, chunk: &[u8]) -> Outcome {
        if sink.is_down() {
            return Outcome::Retry { delivered: 0 };
        }
        let (tally, Buffers { mut batch, space }) = self.map(tag, chunk);
        let skip = self.resume.take(tag, chunk, Instant::now());
        let notice = self.report.tell(&tally, &mut batch);

        let (outcome, batch) = sink.deliver(batch, skip);
        match outcome {
            Outcome::Delivered => self.report.delivered(&tally, notice.as_ref()),
            Outcome::Retry { delivered } => {
                self.resume.keep(tag, chunk, delivered, Instant::now());
                self.report.returned(notice.as_ref());
            }
        }
        self.keep_buffers(Buffers {
            batch: batch.unwrap_or_else(|| Batch::new(self.framing)),
            space,
        });
        outcome
    }

    fn enqueue(&self, queued: &[Queued], tag: &str, chunk: &[u8]) -> Outcome {
        let (tally, mut buffers) = self.map(tag, chunk);
        let notice = self.report.tell(&tally, &mut buffers.batch);
        let outcome = match Queued::append(queued, tag, &mut buffers.batch) {
            Ok(()) => {
                self.report.delivered(&tally, notice.as_ref());
                Outcome::Delivered
            }
            Err(error) => {
                self.report.returned(notice.as_ref());
                self.report_queue_error(&error);
                Outcome::Retry { delivered: 0 }
            }
        };
        self.keep_buffers(buffers);
        outcome
    }

    fn report_queue_error(&self, error: &queue::Error) {
        self.metrics.count_queue_error();
        if self.queue_errors.lock().admit(Instant::now()).is_some() {
            let line = format!("{}; chunks wait in Fluent Bit", error.chain());
            self.log.write(Level::Error, &line);
        }
    }

    /// Makes a chunk's messages.
    fn map(&self, tag: &str, chunk: &[u8]) -> (Tally, Buffers) {
        let mut buffers = self.buffers.lock().pop().unwrap_or_else(|| Buffers {
            batch: Batch::new(self.framing),
            space: Workspace::default(),
        });
        let Buffers { batch, space } = &mut buffers;
        let (bytes, frames) = *self.last.lock();
        batch.reserve(bytes.min(KEEP), frames);
        let tally = self.mapper.map_chunk(tag, chunk, batch, space);
        *self.last.lock() = (batch.bytes().len(), batch.frames());
        (tally, buffers)
    }

    fn keep_buffers(&self, mut buffers: Buffers) {
        if buffers.batch.capacity() + buffers.space.capacity() <= KEEP {
            buffers.batch.clear();
            self.buffers.lock().push(buffers);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut batch = Batch::new(self.framing);
        self.report.last_words(&mut batch);
        if batch.is_empty() {
            return;
        }
        match self.route.get() {
            None => {}
            Some(Route::Direct(sinks)) => {
                if let Some(sink) = sinks.first() {
                    sink.deliver_last(batch);
                }
            }
            Some(Route::Queued(queued)) => {
                if let Err(error) = Queued::append(queued, "", &mut batch) {
                    self.log.write(Level::Error, &error.chain());
                }
            }
        }
    }
}
