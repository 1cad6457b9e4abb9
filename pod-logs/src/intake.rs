//! The way of a container's texts from the reader to encoded records.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fluent_bit::{Level, Limiter, Log};
use positions::Container;
use reader::begin::{self, Begin, Wants};
use reader::container_log::Missing;
use reader::labels::Labels;
use reader::line::{Stream, Time};
use reader::{ContainerId, Event, Item, LogFolder, Passage, Position, Receiver};

use crate::config::{Config, StartFrom};
use crate::metrics::Counts;
use crate::queues::{Gone, Queues};
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
    /// The passages that wait for their containers' labels, one for each container.
    waiting: BTreeMap<ContainerId, Waiting>,
    /// The containers whose labels did not come in time.
    unlabelled: BTreeSet<ContainerId>,
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
    /// The containers that were deleted while the input did not run.
    gone: Vec<Gone>,
}

/// A passage that waits for labels.
#[derive(Debug)]
struct Waiting {
    passage: Passage,
    records: Vec<u8>,
    since: Instant,
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
            unlabelled: BTreeSet::new(),
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
            gone: Vec::new(),
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
        Ok(self.passage.take().or_else(|| self.take_waiting()))
    }

    /// Forgets the containers that are no longer on the node. The queues learn it with the next
    /// passages that they get, because Fluent Bit delivers no chunk without records.
    pub(crate) fn forget(&mut self, is_there: impl Fn(&Container) -> bool) {
        self.gone = self.queues.remove_gone(is_there);
        if !self.gone.is_empty() {
            let line = format!(
                "{} positions are those of containers that were deleted while this input did not \
                 run; lines that these wrote last may be missing",
                self.gone.len()
            );
            self.log.write(Level::Info, &line);
        }
    }

    /// Adds the last passages of containers that are gone to a passage that the same queues
    /// get.
    pub(crate) fn add_gone(&mut self, encoded: &mut Encoded) {
        if self.encoder.is_flat() || self.gone.is_empty() {
            return;
        }
        let namespace = &encoded.id.pod.namespace;
        let gone = self
            .gone
            .extract_if(.., |gone| gone.output.wants(namespace));
        for Gone { id, passage, .. } in gone {
            let from = From {
                id: &id,
                labels: None,
            };
            let mut records = self.encoder.finish(from, &passage, Vec::new());
            records.append(&mut encoded.records);
            encoded.records = records;
        }
    }

    /// Returns a passage that does not have to wait any more.
    fn take_waiting(&mut self) -> Option<Encoded> {
        let Self {
            labels,
            waiting,
            now,
            labels_wait,
            ..
        } = self;
        let labels = labels.as_mut()?;
        let (id, _) = waiting.iter().find(|(id, waiting)| {
            let is_late = now.saturating_duration_since(waiting.since) >= *labels_wait;
            is_late || labels.of(&id.pod, *now).is_some()
        })?;
        let id = id.clone();
        let Waiting {
            passage, records, ..
        } = self.waiting.remove(&id)?;
        if self.labels_of(&id).is_none() {
            self.unlabelled.insert(id.clone());
        }
        Some(self.encode(&id, passage, records))
    }

    /// Returns whether a passage waits for its container's labels.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether a queue lacks something of a container before a place. Then it is read
    /// again, with what waits.
    pub(crate) fn is_behind(&mut self, id: &ContainerId, passed: u64) -> bool {
        let is_behind = self.queues.lack(id, passed);
        if is_behind {
            self.waiting.remove(id);
        }
        is_behind
    }

    /// Returns the labels of a container's pod, if they are known.
    fn labels_of(&mut self, id: &ContainerId) -> Option<Arc<BTreeMap<String, String>>> {
        self.labels.as_mut()?.of(&id.pod, self.now)
    }

    /// Returns whether a container has to wait for its labels.
    fn has_to_wait(&mut self, id: &ContainerId) -> bool {
        if self.labels.is_none() || self.encoder.is_flat() {
            return false;
        }
        if self.labels_of(id).is_some() {
            self.unlabelled.remove(id);
            return false;
        }
        !self.unlabelled.contains(id)
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
        let records = self.encoder.take();
        if self.has_to_wait(id) {
            let waiting = Waiting {
                passage,
                records,
                since: self.now,
            };
            self.waiting.insert(id.clone(), waiting);
        } else {
            self.passage = Some(self.encode(id, passage, records));
        }
    }

    fn encode(&mut self, id: &ContainerId, passage: Passage, records: Vec<u8>) -> Encoded {
        let labels = self.labels_of(id);
        let from = From {
            id,
            labels: labels.as_deref(),
        };
        let records = self.encoder.finish(from, &passage, records);
        if passage.is_last {
            self.containers.remove(id);
            self.unlabelled.remove(id);
            self.counts.containers -= 1;
            if let Some(labels) = &mut self.labels {
                labels.forget(&id.pod);
            }
        }
        Encoded {
            id: id.clone(),
            tag: self.encoder.tag(id),
            passage,
            records,
        }
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
    fn begin(&mut self, id: &ContainerId, folder: &LogFolder, is_old: bool) -> io::Result<Begin> {
        let wants = Wants {
            scale: scale(now_on_clock()),
            ..self.queues.wants(id, is_old, self.new_outputs)
        };
        begin::begin(folder, &wants)
    }

    fn holds(&self, id: &ContainerId) -> bool {
        self.waiting.contains_key(id)
    }

    fn receive(&mut self, id: &ContainerId, event: Event<'_>) {
        match event {
            Event::Begun { new, gone } => {
                if self.containers.insert(id.clone()) {
                    self.counts.containers += 1;
                }
                self.begun = (!new.is_empty()).then(|| (id.clone(), new));
                if let Some(begin::Gone { bytes }) = gone {
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

#[cfg(test)]
mod tests {
    use fluent_bit::{Host, Kind, Plugin};
    use mapper::chunk::{LogEvent, LogEvents, Value};
    use reader::assembler::Text;
    use reader::pod_folder::PodFolder;
    use tempfile::TempDir;

    use super::*;

    const UID: &str = "2f6b0c9e-0000-4000-8000-000000000001";

    struct World {
        folder: TempDir,
        intake: Intake,
        now: Instant,
        to: u64,
    }

    impl World {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            let labels = folder.path().to_str().unwrap().to_owned();
            let get = |key: &str| (key == "labels_path").then(|| labels.clone());
            let config = Config::parse(get).unwrap();
            let plugin = Plugin {
                kind: Kind::Input,
                name: c"pod_logs",
                description: c"",
            };
            let log = Log::new(Host::find(), plugin, "pods");
            let now = Instant::now();
            Self {
                folder,
                intake: Intake::new(&config, Queues::none(), &log, now),
                now,
                to: 0,
            }
        }

        fn id() -> ContainerId {
            ContainerId {
                pod: PodFolder::parse(&format!("shop_web_{UID}")).unwrap(),
                container: "app".to_owned(),
            }
        }

        /// The container writes a line.
        fn write(&mut self) {
            let text = Text {
                time: now_on_clock(),
                stream: Stream::Stdout,
                text: b"a line",
                is_cut: false,
            };
            self.to += 1;
            self.intake.set_now(self.now);
            let passage = Passage {
                begin: 0,
                from: 0,
                to: Position::beginning(self.to, 0),
                is_last: false,
            };
            self.intake
                .receive(&Self::id(), Event::Item(Item::Text(text)));
            self.intake.receive(&Self::id(), Event::Passage(passage));
        }

        /// Returns the value of the label `app` in the next passage, if there is one; empty if
        /// there is no label.
        fn take(&mut self) -> Option<String> {
            self.intake.set_now(self.now);
            let encoded = self.intake.take().unwrap()?;
            let mut events = LogEvents::new(&encoded.records, b"log");
            let Some(LogEvent::GroupStart(start)) = events.next() else {
                panic!("no group");
            };
            assert!(matches!(events.next(), Some(LogEvent::Record(_))));
            let label = match start.kubernetes.unwrap().get(b"labels") {
                Some(Value::Map(labels)) => labels.get(b"app"),
                _ => None,
            };
            Some(match label {
                Some(Value::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
                Some(other) => panic!("{other:?}"),
                None => String::new(),
            })
        }

        fn write_labels(&self) {
            let text = format!(r#"{{"metadata":{{"uid":"{UID}","labels":{{"app":"web"}}}}}}"#);
            std::fs::write(self.folder.path().join("shop_web.meta"), text).unwrap();
        }
    }

    #[test]
    fn a_container_waits_for_its_labels_with_an_open_file() {
        let mut world = World::new();
        world.write();
        assert_eq!(world.take(), None);
        assert!(world.intake.holds(&World::id()));
        world.write_labels();
        world.now += Duration::from_millis(100);
        assert_eq!(world.take(), Some("web".to_owned()));
        assert!(!world.intake.holds(&World::id()));
        world.write();
        assert_eq!(world.take(), Some("web".to_owned()));
    }

    #[test]
    fn a_container_waits_for_its_labels_once() {
        let mut world = World::new();
        world.write();
        assert_eq!(world.take(), None);
        world.now += Duration::from_secs(5);
        assert_eq!(world.take(), Some(String::new()));
        world.write();
        assert_eq!(world.take(), Some(String::new()));
        world.write_labels();
        world.now += Duration::from_millis(100);
        world.write();
        assert_eq!(world.take(), Some("web".to_owned()));
    }
}
