//! One `[OUTPUT]`: from a chunk to its delivery, or to its queue.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use syslog::{Batch, Framing, Outcome};
use transport::{Sender, Sink};

use crate::abi::host::Level;
use crate::config::Config;
use crate::log::{Limiter, Log};
use crate::message::{Mapper, Tally, Workspace};
use crate::metrics::Metrics;
use crate::orphans::Sweep;
use crate::report::Report;
use crate::resume::Resume;
use crate::route::{Queued, Route};
use crate::witness::Witness;

/// Memory that the buffers between two flushes may hold on to. A larger one is
/// given back: one huge chunk must not be remembered forever.
const KEEP: usize = 4 * 1024 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Output {
    /// Sees to the queues beside this output's.
    _sweep: Option<Arc<Sweep>>,
    mapper: Mapper,
    framing: Framing,
    route: Route,
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

#[derive(Debug)]
struct Buffers {
    batch: Batch,
    space: Workspace,
}

impl Output {
    /// Opens the sinks.
    ///
    /// # Errors
    ///
    /// If the queue cannot be opened.
    pub fn open(
        config: &Config,
        sender: &Arc<Sender>,
        log: &Log,
        metrics: &Metrics,
        hostname: String,
    ) -> Result<Self, queue::Error> {
        for warning in &config.warnings {
            log.write(Level::Warn, warning);
        }
        let report = Arc::new(Report::new(log.clone(), metrics.clone(), hostname.clone()));
        let witness = || Witness::new(log.clone(), metrics.clone(), Arc::clone(&report));
        let queue = config.queue.as_ref();
        metrics.show_queue_limit(queue.map_or(0, |queue| queue.limit));
        Ok(Self {
            _sweep: queue.map(|queue| {
                Sweep::beside(&queue.path, &queue.name, queue.orphan_age, log, sender)
            }),
            route: Route::open(config, sender, witness)?,
            mapper: Mapper::new(config, hostname),
            framing: config.framing,
            resume: Resume::default(),
            report,
            log: log.clone(),
            metrics: metrics.clone(),
            queue_errors: Mutex::default(),
            buffers: Mutex::default(),
            last: Mutex::default(),
        })
    }

    /// Takes a chunk: [`Outcome::Delivered`] once the receiver has every byte of
    /// it, or the queue has.
    #[must_use]
    pub fn flush(&self, tag: &str, chunk: &[u8]) -> Outcome {
        match &self.route {
            Route::Direct(sinks) => self.deliver(Route::direct(sinks, tag), tag, chunk),
            Route::Queued(queued) => self.enqueue(queued, tag, chunk),
        }
    }

    fn deliver(&self, sink: &Sink, tag: &str, chunk: &[u8]) -> Outcome {
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
        let outcome = match Queued::append(queued, tag, &buffers.batch) {
            Ok(()) => {
                self.report.delivered(&tally, notice.as_ref());
                Outcome::Delivered
            }
            Err(error) => {
                self.report.returned(notice.as_ref());
                self.metrics.count_queue_error();
                if self.queue_errors.lock().admit(Instant::now()).is_some() {
                    let line = format!("{}; chunks wait in Fluent Bit", error.chain());
                    self.log.write(Level::Error, &line);
                }
                Outcome::Retry { delivered: 0 }
            }
        };
        self.keep_buffers(buffers);
        outcome
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
        match &self.route {
            Route::Direct(sinks) => {
                if let Some(sink) = sinks.first() {
                    sink.deliver_last(batch);
                }
            }
            Route::Queued(queued) => {
                if let Err(error) = Queued::append(queued, "", &batch) {
                    self.log.write(Level::Error, &error.chain());
                }
            }
        }
    }
}
