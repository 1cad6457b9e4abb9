//! The thread that drives all sinks.

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

/// The waker's token; sinks count from zero.
pub(crate) const WAKER: Token = Token(usize::MAX);
const EVENTS: usize = 256;
/// A sink that is closed this long after another was is of another series.
const CLOSE_GROUP_GAP: Duration = Duration::from_secs(1);
/// How long the end of the thread waits for name look-ups that do not end.
const LOOK_UP_JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Something to be run on the event loop's thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What the other threads tell the loop.
pub(crate) enum Command {
    Open(usize, Box<Driver>),
    Deliver {
        sink: usize,
        batch: Batch,
        /// How many frames of it were delivered before.
        skip: usize,
        reply: Reply,
    },
    /// The sink's queue has grown.
    Wake(usize),
    /// Runs something once, at that time or later. It must not block.
    RunAt(Instant, Job),
    Resolved {
        sink: usize,
        server: usize,
        found: io::Result<Vec<SocketAddr>>,
    },
    Close {
        sink: usize,
        timeout: Duration,
        /// Dropped when the sink is closed.
        done: Sender<()>,
    },
    Stop,
}

pub(crate) struct EventLoop {
    poll: Poll,
    waker: Arc<Waker>,
    commands: Receiver<Command>,
    /// For those who answer from threads of their own.
    command_sender: Sender<Command>,
    sinks: HashMap<usize, SinkEntry>,
    /// When which sink's turn is due.
    timers: BTreeSet<(Instant, usize)>,
    look_ups: Vec<JoinHandle<()>>,
    /// Few, in any order.
    jobs: Vec<(Instant, Job)>,
    /// Sinks that are closed one after the other share one bound.
    close_group: Option<CloseGroup>,
    /// Memory that all sinks use in turn.
    scratch: RefCell<Vec<u8>>,
}

/// A series of sinks that are closed.
#[derive(Clone, Copy)]
struct CloseGroup {
    /// When the first was asked to close.
    start: Instant,
    /// When the last of them had closed, or was asked to.
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

    /// Runs until it is told to stop.
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
            // The descriptor is ours and open: only a signal can end the wait.
            debug_assert_eq!(error.kind(), io::ErrorKind::Interrupted);
            events.clear();
        }
    }

    /// Does what the other threads want; `due` gets the sinks they want it for.
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
                    found,
                }) => {
                    if let Some(entry) = self.sinks.get_mut(&sink) {
                        let cx = Context {
                            now: Instant::now(),
                            registry: self.poll.registry(),
                            token: Token(sink),
                            scratch: &self.scratch,
                        };
                        entry.driver.on_addresses(server, found, &cx);
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

    /// When the series began that a sink closed now belongs to.
    fn close_group_start(&mut self, now: Instant) -> Instant {
        let group = self.close_group.get_or_insert(CloseGroup {
            start: now,
            last: now,
        });
        let is_pause = now.saturating_duration_since(group.last) >= CLOSE_GROUP_GAP;
        if is_pause && !self.sinks.values().any(|entry| entry.closed.is_some()) {
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
            // Dropping `closed` wakes who waits for it.
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
        let done = move |found| {
            // After the loop's end nobody wants to know.
            let _ = command_sender.send(Command::Resolved {
                sink,
                server,
                found,
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
                    found: Err(error),
                });
                let _ = self.waker.wake();
            }
        }
    }

    /// Waits for the look-ups under way, but not for ever. One that is left
    /// behind touches nothing but its own channel when it ends.
    fn join_look_ups(&mut self) {
        let until = Instant::now() + LOOK_UP_JOIN_TIMEOUT;
        while self.look_ups.iter().any(|thread| !thread.is_finished()) {
            // Each ends right after its answer.
            match self.commands.recv_deadline(until) {
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
    fn sinks_closed_one_after_the_other_share_a_bound_and_later_ones_do_not() {
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
