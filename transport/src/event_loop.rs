//! The event loop, whose thread drives all sinks.
//!
//! The loop consists of a poll (mio), a channel and timers. An asynchronous runtime
//! would add more than it saves in a library that runs inside another program.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use mio::{Events, Poll, Token, Waker};
use syslog::Batch;

use crate::context::{Context, Request};
use crate::driver::{Driver, Reply};
use crate::resolve;

/// The waker's token. The tokens of sinks count from zero.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// The maximum number of events per poll.
const EVENTS: usize = 256;
/// The pause after which a sink that is closed starts a new [`CloseGroup`].
const CLOSE_GROUP_GAP: Duration = Duration::from_secs(1);
/// The maximum time that the loop waits for unfinished look-ups when it stops.
const LOOK_UP_JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A closure to run on the event loop's thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A command from another thread to the event loop.
pub(crate) enum Command {
    /// Adds a sink.
    Open(usize, Box<Driver>),
    /// Delivers a batch.
    Deliver {
        sink: usize,
        batch: Batch,
        /// The number of the batch's frames that were delivered before.
        skip: usize,
        reply: Reply,
    },
    /// Makes a sink read its queue, to which batches were appended.
    Wake(usize),
    /// Runs a job once, at the given time or later. The job must not block.
    RunAt(Instant, Job),
    /// Passes the result of a look-up to a sink.
    Resolved {
        sink: usize,
        server: usize,
        result: io::Result<Vec<SocketAddr>>,
    },
    /// Closes a sink.
    Close {
        sink: usize,
        timeout: Duration,
        /// Dropped once the sink is closed.
        done: Sender<()>,
    },
    /// Stops the loop.
    Stop,
}

pub(crate) struct EventLoop {
    poll: Poll,
    waker: Arc<Waker>,
    commands: Receiver<Command>,
    /// The sender for the threads that look up names.
    command_sender: Sender<Command>,
    sinks: HashMap<usize, SinkEntry>,
    /// The times at which sinks are due, in order.
    timers: BTreeSet<(Instant, usize)>,
    look_ups: Vec<JoinHandle<()>>,
    /// The jobs that are not due yet, in any order: there are few.
    jobs: Vec<(Instant, Job)>,
    /// The group of sinks that are being closed together.
    close_group: Option<CloseGroup>,
    /// A buffer that all sinks share.
    scratch: RefCell<Vec<u8>>,
}

/// A group of sinks that are closed one after the other and share one timeout.
#[derive(Clone, Copy)]
struct CloseGroup {
    /// The time at which the first sink began to close.
    start: Instant,
    /// The time at which a sink last began to close or was closed.
    last: Instant,
}

struct SinkEntry {
    driver: Box<Driver>,
    timer: Option<Instant>,
    closed: Option<Sender<()>>,
}

impl EventLoop {
    pub(crate) fn new(
        poll: Poll,
        waker: Arc<Waker>,
        commands: Receiver<Command>,
        command_sender: Sender<Command>,
    ) -> Self {
        Self {
            poll,
            waker,
            commands,
            command_sender,
            sinks: HashMap::new(),
            timers: BTreeSet::new(),
            look_ups: Vec::new(),
            jobs: Vec::new(),
            close_group: None,
            scratch: RefCell::default(),
        }
    }

    /// Runs the loop until [`Command::Stop`] arrives or all senders are dropped.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Vec::new();
        loop {
            self.wait(&mut events);
            due.extend(events.iter().map(|event| event.token().0));
            if self.take_commands(&mut due).is_break() {
                break;
            }
            let now = Instant::now();
            for (_, job) in self.jobs.extract_if(.., |(at, _)| *at <= now) {
                job();
            }
            due.extend(
                self.timers
                    .range(..=(now, usize::MAX))
                    .map(|(_, sink)| *sink),
            );
            due.sort_unstable();
            due.dedup();
            for sink in due.drain(..) {
                self.drive(sink, now);
            }
        }
        self.join_look_ups();
    }

    fn wait(&mut self, events: &mut Events) {
        let timer = self.timers.first().map(|(at, _)| *at);
        let next = self.jobs.iter().map(|(at, _)| *at).chain(timer).min();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        if let Err(error) = self.poll.poll(events, timeout) {
            // The descriptor is valid, so only a signal can interrupt the wait.
            debug_assert_eq!(error.kind(), io::ErrorKind::Interrupted);
            events.clear();
        }
    }

    /// Executes the pending commands, and adds the affected sinks to `due`.
    fn take_commands(&mut self, due: &mut Vec<usize>) -> std::ops::ControlFlow<()> {
        loop {
            let sink = match self.commands.try_recv() {
                Ok(Command::Open(sink, driver)) => {
                    self.sinks.insert(
                        sink,
                        SinkEntry {
                            driver,
                            timer: None,
                            closed: None,
                        },
                    );
                    sink
                }
                Ok(Command::Deliver {
                    sink,
                    batch,
                    skip,
                    reply,
                }) => {
                    if let Some(entry) = self.sinks.get_mut(&sink) {
                        entry.driver.submit(batch, skip, reply);
                    }
                    sink
                }
                Ok(Command::Wake(sink)) => sink,
                Ok(Command::RunAt(at, job)) => {
                    self.jobs.push((at, job));
                    continue;
                }
                Ok(Command::Resolved {
                    sink,
                    server,
                    result,
                }) => {
                    if let Some(entry) = self.sinks.get_mut(&sink) {
                        let cx = Context {
                            now: Instant::now(),
                            registry: self.poll.registry(),
                            token: Token(sink),
                            scratch: &self.scratch,
                        };
                        entry.driver.on_addresses(server, result, &cx);
                    }
                    sink
                }
                Ok(Command::Close {
                    sink,
                    timeout,
                    done,
                }) => {
                    let since = self.close_group_start(Instant::now());
                    if let Some(entry) = self.sinks.get_mut(&sink) {
                        entry.driver.close(since + timeout);
                        entry.closed = Some(done);
                    }
                    sink
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    return std::ops::ControlFlow::Break(());
                }
                Err(TryRecvError::Empty) => return std::ops::ControlFlow::Continue(()),
            };
            due.push(sink);
        }
    }

    /// Returns the start of the close group that a sink closed at `now` joins.
    fn close_group_start(&mut self, now: Instant) -> Instant {
        let group = self.close_group.get_or_insert(CloseGroup {
            start: now,
            last: now,
        });
        let is_new_group = now.saturating_duration_since(group.last) >= CLOSE_GROUP_GAP;
        if is_new_group && !self.sinks.values().any(|entry| entry.closed.is_some()) {
            group.start = now;
        }
        group.last = now;
        group.start
    }

    fn drive(&mut self, sink: usize, now: Instant) {
        let Some(entry) = self.sinks.get_mut(&sink) else {
            return;
        };
        let cx = Context {
            now,
            registry: self.poll.registry(),
            token: Token(sink),
            scratch: &self.scratch,
        };
        let request = entry.driver.drive(&cx);

        if let Some(at) = entry.timer.take() {
            self.timers.remove(&(at, sink));
        }
        if entry.driver.is_closed(now) {
            entry.driver.shut_down(now);
            // Dropping `closed` wakes the thread that waits for the end of the sink.
            self.sinks.remove(&sink);
            if let Some(group) = &mut self.close_group {
                group.last = Instant::now();
            }
            return;
        }
        entry.timer = entry.driver.next_deadline(now);
        if let Some(at) = entry.timer {
            self.timers.insert((at, sink));
        }
        if let Request::LookUp(server) = request {
            self.look_up(sink, server);
        }
    }

    fn look_up(&mut self, sink: usize, server: usize) {
        let Some(entry) = self.sinks.get(&sink) else {
            return;
        };
        let endpoint = &entry.driver.target().servers[server];
        let command_sender = self.command_sender.clone();
        let waker = Arc::clone(&self.waker);
        let done = move |result| {
            // Fails only after the end of the loop.
            let _ = command_sender.send(Command::Resolved {
                sink,
                server,
                result,
            });
            let _ = waker.wake();
        };
        self.look_ups.retain(|thread| !thread.is_finished());
        match resolve::look_up(endpoint.host_name(), endpoint.port(), done) {
            Ok(thread) => self.look_ups.push(thread),
            Err(error) => {
                let _ = self.command_sender.send(Command::Resolved {
                    sink,
                    server,
                    result: Err(error),
                });
                let _ = self.waker.wake();
            }
        }
    }

    /// Waits for unfinished look-ups, up to a timeout. A look-up that finishes later
    /// only uses its own channel.
    fn join_look_ups(&mut self) {
        let deadline = Instant::now() + LOOK_UP_JOIN_TIMEOUT;
        while self.look_ups.iter().any(|thread| !thread.is_finished()) {
            // A thread ends directly after sending its result.
            match self.commands.recv_deadline(deadline) {
                Ok(_) => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        for thread in self.look_ups.drain(..) {
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_closed_shortly_after_each_other_share_a_timeout() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let (command_sender, commands) = crossbeam_channel::unbounded();
        let mut event_loop = EventLoop::new(poll, waker, commands, command_sender);
        let start = Instant::now();
        assert_eq!(event_loop.close_group_start(start), start);
        let soon = start + CLOSE_GROUP_GAP / 2;
        assert_eq!(event_loop.close_group_start(soon), start);
        assert_eq!(
            event_loop.close_group_start(soon + CLOSE_GROUP_GAP / 2),
            start
        );
        let later = soon + CLOSE_GROUP_GAP * 2;
        assert_eq!(event_loop.close_group_start(later), later);
    }
}
