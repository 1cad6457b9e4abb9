//! One `[OUTPUT]`: from a chunk to its delivery.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use syslog::{Batch, Framing, Outcome};
use transport::{Sender, Sink};

use crate::abi::host::Level;
use crate::config::Config;
use crate::log::Log;
use crate::message::{Mapper, Workspace};
use crate::metrics::Metrics;
use crate::report::Report;
use crate::resume::Resume;
use crate::witness::Witness;

/// Memory that the buffers between two flushes may hold on to. A larger one is
/// given back: one huge chunk must not be remembered for ever.
const KEEP: usize = 4 * 1024 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Output {
    mapper: Mapper,
    framing: Framing,
    /// One, or one for each server among which tags are shared out.
    sinks: Vec<Sink>,
    resume: Resume,
    report: Arc<Report>,
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
    #[must_use]
    pub fn open(
        config: &Config,
        sender: &Arc<Sender>,
        log: &Log,
        metrics: &Metrics,
        hostname: String,
    ) -> Self {
        for warning in &config.warnings {
            log.write(Level::Warn, warning);
        }
        let report = Arc::new(Report::new(log.clone(), metrics.clone(), hostname.clone()));
        let open = |target| {
            let witness = Witness::new(log.clone(), metrics.clone(), Arc::clone(&report));
            sender.open(target, Box::new(witness), config.exit_timeout)
        };
        Self {
            mapper: Mapper::new(config, hostname),
            framing: config.framing,
            sinks: config.targets.iter().cloned().map(open).collect(),
            resume: Resume::default(),
            report,
            buffers: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// Delivers a chunk: [`Outcome::Delivered`] once the receiver has every
    /// byte of it.
    #[must_use]
    pub fn flush(&self, tag: &str, chunk: &[u8]) -> Outcome {
        let sink = self.sink_of(tag);
        if sink.is_down() {
            return Outcome::Retry { delivered: 0 };
        }
        let Buffers {
            mut batch,
            mut space,
        } = self.take_buffers();
        let (bytes, frames) = *self.last.lock();
        batch.reserve(bytes.min(KEEP), frames);
        let tally = self.mapper.map_chunk(tag, chunk, &mut batch, &mut space);
        *self.last.lock() = (batch.bytes().len(), batch.frames());
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

    /// A tag has always the same sink, which keeps the order of its records.
    fn sink_of(&self, tag: &str) -> &Sink {
        match self.sinks.as_slice() {
            [sink] => sink,
            sinks => {
                let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(tag);
                &sinks[hash as usize % sinks.len()]
            }
        }
    }

    fn take_buffers(&self) -> Buffers {
        self.buffers.lock().pop().unwrap_or_else(|| Buffers {
            batch: Batch::new(self.framing),
            space: Workspace::default(),
        })
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
        if let Some(sink) = self.sinks.first()
            && !batch.is_empty()
        {
            sink.deliver_last(batch);
        }
    }
}
