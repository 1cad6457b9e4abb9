//! An `[OUTPUT]`: maps chunks, and delivers or queues their messages.
//!
//! A sink that is down fails fast: once an attempt has failed, flushes return a retry
//! before anything is encoded, until there is a connection. The sink connects by
//! itself, with backoff, so that the connection exists when the chunk is retried. The
//! first chunks after the start wait for the first attempt.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fluent_bit::{Level, Limiter, Log};
use mapper::chunk::is_of_pod_logs;
use mapper::config::Config;
use mapper::identity::Source;
use mapper::message::{Mapper, Tally, Workspace};
use parking_lot::Mutex;
use positions::{Group, Ledger};
use syslog::{Batch, Framing, Outcome};
use transport::{Destination, Sender};

use crate::announcement::{Announced, announce};
use crate::connection_log::ConnectionLog;
use crate::loss_report::{LossReport, Notice};
use crate::metrics::Metrics;
use crate::orphaned_queues::Cleanup;
use crate::partial_deliveries::PartialDeliveries;
use crate::route::{Queued, Route};

/// The maximum size of buffers to keep between flushes. Larger buffers are freed, so that
/// a single huge chunk does not occupy memory forever.
const MAX_KEPT: usize = 4 * 1024 * 1024;

/// The time between two attempts to open a queue.
const REOPEN: Duration = Duration::from_secs(1);
/// The time for which chunks of pod logs wait in Fluent Bit for a queue with an error. The
/// input stops when they fill its memory, for all outputs.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open output.
#[derive(Debug)]
pub(crate) struct Output {
    /// The cleanup of orphaned queues in the folder of this output's queue.
    _cleanup: Option<Arc<Cleanup>>,
    /// The announcement to the input that reads pod logs.
    announced: Option<Announced>,
    mapper: Mapper,
    framing: Framing,
    /// The route of batches, set once all queues are open.
    route: OnceLock<Route>,
    /// The record of the groups that the queue has, set before the route; none without a queue or
    /// with identities that are not those of groups.
    ledger: OnceLock<Mutex<Ledger>>,
    opening: Mutex<Option<Opening>>,
    partial_deliveries: PartialDeliveries,
    loss_report: Arc<LossReport>,
    log: Log,
    metrics: Metrics,
    /// The rate limit of log lines about queue errors.
    queue_errors: Mutex<Limiter>,
    failure: Mutex<Failure>,
    /// Unused buffers. Each concurrent flush uses one.
    buffers: Mutex<Vec<Buffers>>,
    /// The numbers of bytes and frames of the last batch, an estimate for the next one.
    last: Mutex<(usize, usize)>,
}

/// The state of an output whose route is not open yet.
#[derive(Debug)]
struct Opening {
    config: Config,
    sender: Arc<Sender>,
    /// The time of the next attempt.
    next: Instant,
}

/// The failure of the queue, if it has one.
#[derive(Debug, Default)]
struct Failure {
    /// The time since which appends fail.
    since: Option<Instant>,
    /// Whether chunks were given back to the input.
    has_given_back: bool,
}

#[derive(Debug)]
struct Buffers {
    batch: Batch,
    space: Workspace,
}

impl Output {
    /// Opens an output. If its queue cannot be opened, later flushes retry, because an
    /// error of one output must not prevent the start of the others.
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
        let loss_report = LossReport::new(log.clone(), metrics.clone(), hostname.clone());
        let queue = config.queue.as_ref();
        metrics.set_queue_limit(queue.map_or(0, |queue| queue.limit));
        let this = Self {
            _cleanup: queue.map(|queue| {
                Cleanup::register(&queue.path, &queue.name, queue.orphan_age, log, sender)
            }),
            announced: announce(&config),
            route: OnceLock::new(),
            ledger: OnceLock::new(),
            mapper: Mapper::new(&config, hostname),
            framing: config.framing,
            opening: Mutex::new(Some(Opening {
                config,
                sender: Arc::clone(sender),
                next: Instant::now(),
            })),
            partial_deliveries: PartialDeliveries::default(),
            loss_report: Arc::new(loss_report),
            log: log.clone(),
            metrics: metrics.clone(),
            queue_errors: Mutex::default(),
            failure: Mutex::default(),
            buffers: Mutex::default(),
            last: Mutex::default(),
        };
        this.open_route();
        this
    }

    /// Returns the route. If it is not open, tries to open it, at most once per
    /// [`REOPEN`].
    fn open_route(&self) -> Option<&Route> {
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
            let observer = || {
                let loss_report = Arc::clone(&self.loss_report);
                ConnectionLog::new(self.log.clone(), self.metrics.clone(), loss_report)
            };
            let opened = Route::open(config, sender, observer)
                .map_err(|error| error.chain())
                .and_then(|route| {
                    self.open_ledger(config)?;
                    Ok(route)
                });
            match opened {
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

    /// Opens the record of what the queue has, in the queue's folder.
    fn open_ledger(&self, config: &Config) -> Result<(), String> {
        let queue = config.queue.as_ref();
        let Some(queue) = queue.filter(|_| config.identity == Source::Group) else {
            return Ok(());
        };
        let folder = queue.path.join(&queue.name);
        let (ledger, damaged) = Ledger::open(&folder).map_err(|error| {
            format!("cannot open the positions in {}: {error}", folder.display())
        })?;
        if damaged > 0 {
            let line = format!(
                "the positions of {damaged} containers in {} are damaged and set aside; their \
                 logs are read from where this output began",
                folder.display()
            );
            self.log.write(Level::Error, &line);
        }
        let _ = self.ledger.set(Mutex::new(ledger));
        Ok(())
    }

    /// Delivers or queues a chunk. Returns [`Outcome::Delivered`] once the receiver has
    /// acknowledged all of its messages, or the queue has stored them.
    #[must_use]
    pub(crate) fn flush(&self, tag: &str, chunk: &[u8]) -> Outcome {
        match self.open_route() {
            Some(Route::Direct(destinations)) => {
                self.deliver(Route::destination(destinations, tag), tag, chunk)
            }
            Some(Route::Queued(queues)) => self.enqueue(queues, tag, chunk),
            None => self.after_queue_error(chunk),
        }
    }

    /// Returns the outcome of a chunk that could not be queued. Chunks of pod logs are given
    /// back after a while: the input reads them again once the queue works.
    fn after_queue_error(&self, chunk: &[u8]) -> Outcome {
        if let Some(ledger) = self.ledger.get() {
            ledger.lock().keep_gaps();
        }
        let mut failure = self.failure.lock();
        let since = *failure.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE && is_of_pod_logs(chunk) {
            failure.has_given_back = true;
            Outcome::Delivered
        } else {
            Outcome::Retry { skip: 0 }
        }
    }

    fn deliver(&self, destination: &Destination, tag: &str, chunk: &[u8]) -> Outcome {
        if destination.is_down() {
            return Outcome::Retry { skip: 0 };
        }
        let (tally, Buffers { mut batch, space }) = self.map(tag, chunk, |_| true);
        let skip = self.partial_deliveries.take(tag, chunk, Instant::now());
        let notice = self.loss_report.append_notice(&tally, &mut batch);

        let (outcome, batch) = destination.deliver(batch, skip);
        if let Outcome::Retry { skip } = outcome {
            let now = Instant::now();
            self.partial_deliveries.remember(tag, chunk, skip, now);
        }
        self.report_losses(outcome, &tally, notice.as_ref());
        self.keep_buffers(Buffers {
            batch: batch.unwrap_or_else(|| Batch::new(self.framing)),
            space,
        });
        outcome
    }

    /// Queues a chunk. The queue is that of its tag, or in a chunk of pod logs that of each
    /// group's container.
    fn enqueue(&self, queues: &[Queued], tag: &str, chunk: &[u8]) -> Outcome {
        if queues.len() == 1 || !is_of_pod_logs(chunk) {
            return self.enqueue_groups(Queued::of_tag(queues, tag), tag, chunk, |_| true);
        }
        for (number, queue) in queues.iter().enumerate() {
            let is_own = |group: &Group<'_>| Queued::index_of(group, queues.len()) == number;
            let outcome = self.enqueue_groups(queue, tag, chunk, is_own);
            // The next attempt skips the groups that other queues have.
            if outcome != Outcome::Delivered {
                return outcome;
            }
        }
        Outcome::Delivered
    }

    /// Queues the groups of a chunk that belong to a queue, and all records without a group.
    fn enqueue_groups(
        &self,
        queue: &Queued,
        tag: &str,
        chunk: &[u8],
        is_own: impl Fn(&Group<'_>) -> bool,
    ) -> Outcome {
        let mut groups = Vec::new();
        let (tally, mut buffers) = self.map(tag, chunk, |group| {
            let ledger = self.ledger.get();
            let is_new = || ledger.is_none_or(|ledger| ledger.lock().wants(group));
            let is_wanted = is_own(group) && is_new();
            if is_wanted {
                groups.push(*group);
            }
            is_wanted
        });
        let notice = self.loss_report.append_notice(&tally, &mut buffers.batch);
        let outcome = match queue.append(&mut buffers.batch) {
            Ok(()) => {
                self.take(&groups);
                Outcome::Delivered
            }
            Err(error) => {
                self.report_queue_error(&error.chain());
                Outcome::Retry { skip: 0 }
            }
        };
        self.report_losses(outcome, &tally, notice.as_ref());
        self.keep_buffers(buffers);
        match outcome {
            Outcome::Delivered => outcome,
            Outcome::Retry { .. } => self.after_queue_error(chunk),
        }
    }

    fn report_losses(&self, outcome: Outcome, tally: &Tally, notice: Option<&Notice>) {
        match outcome {
            Outcome::Delivered => self.loss_report.on_delivered(tally, notice),
            Outcome::Retry { .. } => self.loss_report.on_retry(notice),
        }
    }

    /// Reports that nothing can be added to the queue.
    fn report_queue_error(&self, error: &str) {
        let then = match &self.announced {
            Some(_) => "pod logs are read again once it works",
            None => "chunks wait in Fluent Bit",
        };
        self.count_queue_error(&format!("{error}; {then}"));
    }

    /// Counts an error of the queue, and logs it unless there are too many.
    fn count_queue_error(&self, line: &str) {
        self.metrics.count_queue_error();
        if self.queue_errors.lock().admit(Instant::now()).is_some() {
            self.log.write(Level::Error, line);
        }
    }

    /// Records that the queue has these groups.
    fn take(&self, groups: &[Group<'_>]) {
        let failure = std::mem::take(&mut *self.failure.lock());
        let Some(ledger) = self.ledger.get().filter(|_| !groups.is_empty()) else {
            return;
        };
        let mut ledger = ledger.lock();
        if failure.since.is_some() {
            ledger.keep_gaps();
        }
        let mut taken = ledger.take(groups, Instant::now());
        if failure.has_given_back {
            taken = taken.and(ledger.ask_again());
        }
        drop(ledger);
        if let Err(error) = taken {
            self.count_queue_error(&format!(
                "cannot write the positions of the queue: {error}; after a restart, lines will \
                 be sent again"
            ));
        }
    }

    /// Maps a chunk into the batch of free buffers.
    fn map<'c>(
        &self,
        tag: &str,
        chunk: &'c [u8],
        wants: impl FnMut(&Group<'c>) -> bool,
    ) -> (Tally, Buffers) {
        let mut buffers = self.buffers.lock().pop().unwrap_or_else(|| Buffers {
            batch: Batch::new(self.framing),
            space: Workspace::default(),
        });
        let Buffers { batch, space } = &mut buffers;
        let (bytes, frames) = *self.last.lock();
        batch.reserve(bytes.min(MAX_KEPT), frames);
        let tally = self.mapper.map_groups(tag, chunk, batch, space, wants);
        *self.last.lock() = (batch.bytes().len(), batch.frames());
        (tally, buffers)
    }

    fn keep_buffers(&self, mut buffers: Buffers) {
        if buffers.batch.capacity() + buffers.space.capacity() <= MAX_KEPT {
            buffers.batch.clear();
            self.buffers.lock().push(buffers);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut batch = Batch::new(self.framing);
        self.loss_report.append_final_notice(&mut batch);
        if batch.is_empty() {
            return;
        }
        match self.route.get() {
            None => {}
            Some(Route::Direct(destinations)) => {
                if let Some(destination) = destinations.first() {
                    destination.deliver_last(batch);
                }
            }
            Some(Route::Queued(queues)) => {
                if let Err(error) = Queued::of_tag(queues, "").append(&mut batch) {
                    self.log.write(Level::Error, &error.chain());
                }
            }
        }
    }
}
