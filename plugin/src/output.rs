//! One `[OUTPUT]`: from a chunk to its delivery.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use syslog::{Batch, Framing, Outcome};
use transport::{Sender, Sink};

use crate::abi::host::Level;
use crate::config::Config;
use crate::log::{ConnectionLog, Limiter, Log};
use crate::message::{Mapper, Reason, Tally, Workspace};

/// Memory that the buffers between two flushes may hold on to. A larger one is
/// given back: one huge chunk must not be remembered for ever.
const KEEP: usize = 4 * 1024 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Output {
    mapper: Mapper,
    framing: Framing,
    sink: Sink,
    log: Log,
    /// One for each worker that flushes at the same time.
    buffers: Mutex<Vec<Buffers>>,
    report: Mutex<Report>,
}

#[derive(Debug)]
struct Buffers {
    batch: Batch,
    space: Workspace,
}

#[derive(Debug, Default)]
struct Report {
    limiter: Limiter,
    /// What was not told yet.
    untold: Tally,
}

impl Output {
    /// Opens the sink.
    #[must_use]
    pub fn open(config: &Config, sender: &Arc<Sender>, log: Log, hostname: String) -> Self {
        for warning in &config.warnings {
            log.write(Level::Warn, warning);
        }
        let observer = Box::new(ConnectionLog::new(log.clone()));
        Self {
            mapper: Mapper::new(config, hostname),
            framing: config.framing,
            sink: sender.open(config.target.clone(), observer, config.exit_timeout),
            log,
            buffers: Mutex::default(),
            report: Mutex::default(),
        }
    }

    /// Delivers a chunk: [`Outcome::Delivered`] once the receiver has every
    /// byte of it.
    #[must_use]
    pub fn flush(&self, tag: &str, chunk: &[u8]) -> Outcome {
        if self.sink.is_down() {
            return Outcome::Retry;
        }
        let Buffers {
            mut batch,
            mut space,
        } = self.take_buffers();
        let tally = self.mapper.map_chunk(tag, chunk, &mut batch, &mut space);
        let (outcome, batch) = self.sink.deliver(batch);
        self.keep_buffers(Buffers {
            batch: batch.unwrap_or_else(|| Batch::new(self.framing)),
            space,
        });
        if outcome == Outcome::Delivered {
            self.report(&tally);
        }
        outcome
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

    /// Tells of records that did not become one whole message.
    fn report(&self, tally: &Tally) {
        if tally.is_clean() {
            return;
        }
        let told = {
            let mut report = self.report.lock();
            report.untold.merge(tally);
            match report.limiter.admit(Instant::now()) {
                Some(_) => std::mem::take(&mut report.untold),
                None => return,
            }
        };
        self.tell(&told);
    }

    fn tell(&self, tally: &Tally) {
        for reason in Reason::ALL {
            let count = tally.count(reason);
            if count > 0 {
                self.log
                    .write(Level::Warn, &format!("{}: {count}", reason.text()));
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let untold = std::mem::take(&mut self.report.get_mut().untold);
        self.tell(&untold);
    }
}
