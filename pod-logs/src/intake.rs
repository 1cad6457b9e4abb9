//! The way of a container's texts from the reader to encoded records.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fluent_bit::{Level, Limiter, Log};
use reader::begin::{self, Begin, Gone, Wants};
use reader::container_log::Missing;
use reader::labels::Labels;
use reader::line::{Stream, Time};
use reader::{ContainerId, Event, Item, LogFolder, Passage, Position, Receiver};

use crate::config::{Config, StartFrom};
use crate::metrics::Counts;
use crate::queues::Queues;
use crate::records::{Encoder, From};

/// Receives what is read.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) queues: Queues,
    pub(crate) counts: Counts,
    /// The containers that are read.
    containers: BTreeSet<ContainerId>,
    labels: Option<Labels>,
    labels_wait: Duration,
    /// The times since which containers wait for their labels.
    waiting: BTreeMap<ContainerId, Instant>,
    /// The point from which new outputs want the containers that were there before.
    new_outputs: begin::From,
    encoder: Encoder,
    log: Log,
    /// The rate limit of log lines about errors that are tried again.
    failures: Limiter,
    /// The time of the current turn.
    now: Instant,
    /// The beginnings of a container that are not recorded yet.
    begun: Option<(ContainerId, Vec<(begin::From, Position)>)>,
    passage: Option<Encoded>,
}

/// The records of a passage.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) id: ContainerId,
    pub(crate) passage: Passage,
    pub(crate) tag: String,
    pub(crate) records: Vec<u8>,
}

impl Intake {
    pub(crate) fn new(config: &Config, queues: Queues, log: &Log, now: Instant) -> Self {
        Self {
            queues,
            counts: Counts::default(),
            containers: BTreeSet::new(),
            labels: config.labels_path.clone().map(Labels::new),
            labels_wait: config.labels_wait,
            waiting: BTreeMap::new(),
            new_outputs: match config.start {
                StartFrom::Beginning => begin::From::Beginning,
                StartFrom::End => begin::From::End,
                StartFrom::Last(time) => begin::From::Since(earlier(now_on_clock(), time)),
            },
            encoder: Encoder::new(config.records, config.node_name.clone()),
            log: log.clone(),
            failures: Limiter::default(),
            now,
            begun: None,
            passage: None,
        }
    }

    /// Sets the time of the next turn.
    pub(crate) const fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Returns the passage of the last turn, if there is one, after everything was recorded
    /// that has to be on the disk before its records are appended.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be recorded. The next call tries again.
    pub(crate) fn take(&mut self) -> io::Result<Option<Encoded>> {
        if let Some((id, begun)) = &self.begun {
            self.queues.begin(id, begun, self.new_outputs)?;
            self.begun = None;
        }
        Ok(self.passage.take())
    }

    /// Returns the labels of a container's pod, if they are known.
    fn labels_of(&mut self, id: &ContainerId) -> Option<Arc<BTreeMap<String, String>>> {
        self.labels.as_mut()?.of(&id.pod, self.now)
    }

    /// Returns whether a container has to wait for its labels.
    fn has_to_wait(&mut self, id: &ContainerId) -> bool {
        if self.labels.is_none() || self.labels_of(id).is_some() {
            return false;
        }
        let since = *self.waiting.entry(id.clone()).or_insert(self.now);
        self.now.saturating_duration_since(since) < self.labels_wait
    }

    fn push(&mut self, id: &ContainerId, item: Item<'_>) {
        let labels = if self.encoder.is_flat() {
            self.labels_of(id)
        } else {
            None
        };
        let from = From {
            id,
            labels: labels.as_deref(),
        };
        let (text, time, stream, is_cut) = match item {
            Item::Text(text) => (text.text, text.time, text.stream, text.is_cut),
            Item::Invalid(line) => {
                self.counts.invalid += 1;
                (line, now_on_clock(), Stream::Stdout, true)
            }
        };
        self.encoder.push(from, text, time, stream, is_cut);
        self.counts.lines += 1;
        self.counts.bytes += text.len() as u64;
        self.counts.cut += u64::from(is_cut);
    }

    fn finish(&mut self, id: &ContainerId, passage: Passage) {
        let labels = self.labels_of(id);
        let from = From {
            id,
            labels: labels.as_deref(),
        };
        let records = self.encoder.finish(from, &passage);
        if passage.is_last {
            self.containers.remove(id);
            self.counts.containers -= 1;
            if let Some(labels) = &mut self.labels {
                labels.forget(&id.pod);
            }
        }
        self.passage = Some(Encoded {
            id: id.clone(),
            tag: self.encoder.tag(id),
            passage,
            records,
        });
    }

    fn report_gone(&mut self, id: &ContainerId, bytes: Option<u64>, what: &str) {
        self.counts.missing += 1;
        self.counts.missing_bytes += bytes.unwrap_or(0);
        let size = bytes.map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"));
        self.report(id, &format!("{what}{size}"));
    }

    fn report(&self, id: &ContainerId, what: &str) {
        let ContainerId { pod, container } = id;
        let line = format!("{}/{}/{container}: {what}", pod.namespace, pod.pod);
        self.log.write(Level::Warn, &line);
    }
}

impl Receiver for Intake {
    fn begin(
        &mut self,
        id: &ContainerId,
        folder: &LogFolder,
        is_old: bool,
    ) -> io::Result<Option<Begin>> {
        if self.has_to_wait(id) {
            return Ok(None);
        }
        self.waiting.remove(id);
        let wants = Wants {
            scale: scale(now_on_clock()),
            ..self.queues.wants(id, is_old, self.new_outputs)
        };
        begin::begin(folder, &wants).map(Some)
    }

    fn receive(&mut self, id: &ContainerId, event: Event<'_>) {
        match event {
            Event::Begun { new, gone } => {
                if self.containers.insert(id.clone()) {
                    self.counts.containers += 1;
                }
                self.begun = (!new.is_empty()).then(|| (id.clone(), new));
                if let Some(Gone { bytes }) = gone {
                    self.report_gone(id, bytes, "log files were deleted before they were read");
                }
            }
            Event::Item(item) => self.push(id, item),
            Event::Passage(passage) => self.finish(id, passage),
            Event::Missing(missing) => {
                let what = match missing {
                    Missing::Deleted => {
                        "log files were deleted, perhaps before all of them were read".to_owned()
                    }
                    Missing::Truncated => {
                        "the log was truncated, perhaps before all of it was read".to_owned()
                    }
                    Missing::Unreadable(why) => format!("a log file cannot be read: {why}"),
                };
                self.report_gone(id, None, &what);
            }
            Event::Failed(error) => {
                if let Some(others) = self.failures.admit(self.now) {
                    let line = format!("cannot read the log: {error} ({others} others before)");
                    self.report(id, &line);
                }
            }
        }
    }
}

/// Returns the time of the node's clock.
fn now_on_clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Time {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos(),
    }
}

/// Returns the number from which the bytes of a container are counted that is begun at a time.
/// It grows faster than any container writes.
const fn scale(time: Time) -> u64 {
    (time.seconds as u64) << 30
}

fn earlier(time: Time, by: Duration) -> Time {
    Time {
        seconds: time.seconds - by.as_secs() as i64,
        ..time
    }
}
