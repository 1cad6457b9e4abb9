//! An `[INPUT]`: reads containers, and appends their records.
//!
//! Fluent Bit calls [`PodLogs::work`] on a thread of the input's own, once a second or at once
//! if the last call took longer than that. Calls therefore take a little more than a second,
//! so that the input reads all the time, and between two calls Fluent Bit pauses, resumes or
//! ends the input.

use std::collections::BTreeSet;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fluent_bit::{Input, Level, Limiter, Log};
use positions::PositionFile;
use positions::outputs::{self, ListId};
use reader::Reader;
use reader::discovery::{Namespaces, Scope};
use reader::pod_folder::PodFolder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::flow::{Change, Flow};
use crate::intake::{Encoded, Intake};
use crate::metrics::Metrics;
use crate::position;
use crate::queues::{Queues, container};

/// The time for which a call works.
const WORK: Duration = Duration::from_millis(1050);
/// The time between two looks at changes, so that several lines are read at a time.
const GATHER: Duration = Duration::from_millis(50);
/// The time between two attempts of something that did not succeed.
const RETRY: Duration = Duration::from_millis(100);
/// The time between two looks at what the queues have, while too much is on its way.
const LOOK: Duration = Duration::from_millis(10);
/// The time between two looks at other times.
const LOOK_ALWAYS: Duration = Duration::from_secs(1);
/// The size of the buffer in bytes, which limits the length of a line in a file: Docker
/// escapes parts of 16 KiB.
const BUFFER: usize = 128 * 1024;
/// The time after which missing outputs are reported.
const OUTPUTS: Duration = Duration::from_secs(30);

/// An open input.
#[derive(Debug)]
pub(crate) struct PodLogs {
    config: Config,
    input: Input,
    log: Log,
    metrics: Metrics,
    problems: Limiter,
    opened: Instant,
    /// The list of an earlier process's outputs.
    earlier: Option<ListId>,
    running: Option<Running>,
}

/// An input whose outputs are known.
#[derive(Debug)]
struct Running {
    reader: Reader,
    buffer: Vec<u8>,
    intake: Intake,
    /// The input's own positions, for outputs without queues.
    own: Option<PositionFile>,
    /// A passage that is not appended yet.
    pending: Option<Encoded>,
    /// Whether containers were forgotten that are gone.
    has_forgotten: bool,
    flow: Flow,
    /// Whether a queue lacks something that was appended: an output was late, or Fluent Bit
    /// has dropped it.
    has_to_rewind: bool,
    next_look: Instant,
    next_update: Instant,
}

impl PodLogs {
    /// Opens an input.
    pub(crate) fn open(config: Config, input: Input, log: Log, metrics: Metrics) -> Self {
        if let Err(error) = raise_file_limit() {
            let line = format!("cannot raise the limit of open files: {error}");
            log.write(Level::Warn, &line);
        }
        if config.queue_path.is_none() && config.position_path.is_none() {
            log.write(
                Level::Warn,
                "without queue_path and position_path, each start is the first one: lines that \
                 were written while Fluent Bit did not run are read only as far as `start` says",
            );
        }
        Self {
            earlier: config.queue_path.as_deref().and_then(outputs::list_id),
            config,
            input,
            log,
            metrics,
            problems: Limiter::default(),
            opened: Instant::now(),
            running: None,
        }
    }

    /// Reads and appends for a little more than a second.
    pub(crate) fn work(&mut self) {
        let end = Instant::now() + WORK;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            if self.running.is_none() && !self.start(now) {
                sleep(RETRY);
                continue;
            }
            let Some(running) = &mut self.running else {
                continue;
            };
            let stepped = running.step(&self.config, &self.input, now, end);
            if let Err(problem) = stepped {
                self.report(&problem);
                sleep(RETRY);
            }
        }
        if let Some(running) = &mut self.running {
            self.metrics
                .add(&std::mem::take(&mut running.intake.counts));
            self.metrics.set_backlog(running.reader.backlog());
        }
    }

    /// Begins to read, once the outputs are known. Returns whether it has begun.
    fn start(&mut self, now: Instant) -> bool {
        match Running::new(&self.config, &self.log, self.earlier, now) {
            Ok(Some(running)) => {
                self.running = Some(running);
                return true;
            }
            Ok(None) => {
                if now.saturating_duration_since(self.opened) > OUTPUTS {
                    self.report(
                        "no output with identity group has this queue_path, waiting for one",
                    );
                }
            }
            Err(error) => self.report(&format!("cannot begin to read: {error}")),
        }
        false
    }

    fn report(&mut self, problem: &str) {
        if self.problems.admit(Instant::now()).is_some() {
            self.log.write(Level::Error, problem);
        }
    }
}

impl Running {
    fn new(
        config: &Config,
        log: &Log,
        earlier: Option<ListId>,
        now: Instant,
    ) -> io::Result<Option<Self>> {
        let queues = match &config.queue_path {
            Some(folder) => Queues::load(folder, earlier)?,
            None => Some(Queues::none()),
        };
        let Some(mut queues) = queues else {
            return Ok(None);
        };
        let mut own = None;
        if let Some(path) = &config.position_path {
            queues = queues.with_own(path)?;
            own = Some(PositionFile::open(path)?.0);
        }
        let scope = Scope {
            namespaces: namespaces(config, &queues),
            excluded_pods: config.exclude_pods.clone(),
        };
        Ok(Some(Self {
            reader: Reader::new(config.logs(), scope, config.max_line_size)?,
            buffer: vec![0; BUFFER],
            flow: Flow::new(&queues),
            intake: Intake::new(config, queues, log, now),
            own,
            pending: None,
            has_forgotten: false,
            has_to_rewind: false,
            next_look: now,
            next_update: now,
        }))
    }

    /// Does one thing: appends what is pending, reads some, or waits.
    fn step(
        &mut self,
        config: &Config,
        input: &Input,
        now: Instant,
        end: Instant,
    ) -> Result<(), String> {
        if self.pending.is_none() {
            let taken = self.intake.take();
            self.pending =
                taken.map_err(|error| format!("cannot record where outputs begin: {error}"))?;
            if let Some(pending) = &mut self.pending {
                self.intake.add_gone(pending);
            }
        }
        if let Some(pending) = self.pending.take() {
            return self.append(pending, input, now);
        }
        if self.flow.is_full() || self.has_to_rewind || now >= self.next_look {
            self.next_look = now + LOOK_ALWAYS;
            self.look_at_queues(now)?;
        }
        if self.flow.is_full() || self.has_to_rewind {
            sleep(LOOK);
            return Ok(());
        }
        if now >= self.next_update {
            let updated = self.reader.update(now);
            updated.map_err(|error| format!("cannot read {}: {error}", config.path.display()))?;
            self.next_update = now + GATHER;
            // After an error, they are forgotten after the next start.
            if !std::mem::replace(&mut self.has_forgotten, true) {
                let _ = self.forget(config);
            }
        }
        self.intake.set_now(now);
        if self.reader.turn(&mut self.buffer, now, &mut self.intake) {
            return Ok(());
        }
        if self.intake.queues.has_new() && self.reader.has_begun_old() {
            let completed = self.intake.queues.complete();
            completed.map_err(|error| format!("cannot record where outputs begin: {error}"))?;
        }
        self.wait(now, end);
        Ok(())
    }

    /// Forgets the containers of pods that were deleted while Fluent Bit did not run.
    fn forget(&mut self, config: &Config) -> io::Result<()> {
        let mut pods = BTreeSet::new();
        for entry in config.path.read_dir()? {
            let name = entry?.file_name();
            pods.extend(name.to_str().and_then(PodFolder::parse).map(|pod| pod.uid));
        }
        self.intake
            .forget(|container| pods.contains(&container.uid));
        Ok(())
    }

    /// Appends a passage. If Fluent Bit does not take it, it stays pending.
    fn append(&mut self, encoded: Encoded, input: &Input, now: Instant) -> Result<(), String> {
        let Encoded {
            id,
            passage,
            tag,
            records,
        } = &encoded;
        if !records.is_empty() && !input.append(tag, records) {
            // Fluent Bit has waited for a second.
            self.pending = Some(encoded);
            return Ok(());
        }
        let container = container(id);
        let recorded = match &mut self.own {
            None => Ok(()),
            Some(own) if passage.is_last => own.remove(&container),
            Some(own) => own.set(&container, &position::entry(&passage.to)),
        };
        self.flow.add(id, passage, records.len(), now);
        recorded.map_err(|error| format!("cannot write the positions: {error}"))
    }

    /// Looks at what the queues have. If an output asks for records again, the containers of
    /// which it lacks something are read again. The other outputs skip what they have, so they
    /// must have all that is on its way before.
    fn look_at_queues(&mut self, now: Instant) -> Result<(), String> {
        let queues = &mut self.intake.queues;
        let mut problem = queues.open_unreadable();
        self.has_to_rewind |= queues.take_opened();
        match self.flow.update(queues, now) {
            Change::None => {}
            Change::Late(file) => {
                problem = Some(format!(
                    "an output takes no records, see its log and its match: {} has not changed \
                     for 10 s; the others no longer wait for it",
                    file.display()
                ));
            }
            Change::Asked => self.has_to_rewind = true,
        }
        if self.has_to_rewind && self.flow.is_empty() {
            queues.refresh();
            let intake = &mut self.intake;
            self.reader
                .rewind(|id, passed| intake.is_behind(id, passed));
            self.has_to_rewind = false;
        }
        problem.map_or(Ok(()), Err)
    }

    /// Waits for changes.
    fn wait(&self, now: Instant, end: Instant) {
        let deadline = self.reader.deadline().map_or(end, |at| at.min(end));
        let deadline = if self.intake.has_waiting() {
            deadline.min(now + RETRY)
        } else {
            deadline
        };
        let timeout = deadline.saturating_duration_since(now);
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut changes = [PollFd::new(self.reader.descriptor(), PollFlags::IN)];
        // A signal ends the wait early, which does no harm.
        let _ = poll(&mut changes, Some(&timeout));
        sleep(
            self.next_update
                .min(end)
                .saturating_duration_since(Instant::now()),
        );
    }
}

/// Raises the limit of open files as far as is allowed: each container has one.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Returns the namespaces whose containers are read: those of the configuration that an
/// output wants.
fn namespaces(config: &Config, queues: &Queues) -> Namespaces {
    let Config {
        namespaces: only,
        exclude_namespaces: excluded,
        ..
    } = config;
    let wanted = queues.namespaces();
    if wanted.is_none() && only.is_empty() {
        return Namespaces::AllBut(excluded.clone());
    }
    let is_wanted = |namespace: &&String| {
        let wanted = wanted.as_ref();
        !excluded.contains(*namespace) && wanted.is_none_or(|wanted| wanted.contains(*namespace))
    };
    let all = if only.is_empty() {
        wanted.iter().flatten().cloned().collect()
    } else {
        only.clone()
    };
    Namespaces::Only(all.iter().filter(is_wanted).cloned().collect())
}
