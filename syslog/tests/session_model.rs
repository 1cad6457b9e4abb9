//! A session compared with a model of receivers that read slowly, crash, close with
//! unread bytes, discard what they read, and reject some messages, in any order. Each
//! delivered message was read, in order, or was reported as rejected.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use syslog::session::{End, Expiry, Side};
use syslog::{Batch, Framing, Outcome, Policy, ReplayBuffer, Session};

const POLICY: Policy = Policy {
    connect_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(10),
    close_timeout: Duration::from_secs(2),
    backoff_min: Duration::from_millis(500),
    backoff_max: Duration::from_secs(30),
    // No frame is dropped because of its age or the size of the buffer.
    replay_buffer: ReplayBuffer::Fixed(1 << 20),
    replay_age: Duration::from_secs(1_000_000),
};

/// The number of connections that must end during a message before it is given up.
const ENDS: u32 = 5;

#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Connect,
    FailToConnect,
    Send(usize),
    Acknowledge(usize),
    Read(usize),
    /// The receiver crashes, and its kernel resets the connection.
    Crash,
    /// The receiver closes the connection. A reset follows if bytes are unread.
    HangUp,
    /// The receiver reads and discards all bytes before it closes the connection.
    HangUpAfterDiscarding,
    /// This side closes the connection. The receiver reads everything, or crashes.
    Close {
        crashes: bool,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5_usize).prop_map(Step::Submit),
        4 => Just(Step::Connect),
        1 => Just(Step::FailToConnect),
        6 => (1..40_usize).prop_map(Step::Send),
        6 => (1..40_usize).prop_map(Step::Acknowledge),
        6 => (1..40_usize).prop_map(Step::Read),
        1 => Just(Step::Crash),
        1 => Just(Step::HangUp),
        1 => Just(Step::HangUpAfterDiscarding),
        1 => any::<bool>().prop_map(|crashes| Step::Close { crashes }),
        3 => (1..4000_u64).prop_map(Step::Wait),
    ]
}

/// A connection from the receiver's point of view.
#[derive(Default)]
struct Connection {
    /// The bytes that the sender's kernel has accepted.
    sent: Vec<u8>,
    /// The number of bytes that the receiver's kernel has acknowledged, with the time of
    /// each acknowledgement.
    acknowledged: Vec<(usize, Instant)>,
    /// The number of bytes that the receiver's program has read.
    read: usize,
    /// The number of bytes in the complete messages that it has read.
    parsed: usize,
}

impl Connection {
    fn acknowledged(&self) -> usize {
        self.acknowledged.last().map_or(0, |(count, _)| *count)
    }
}

struct World {
    now: Instant,
    session: Session<()>,
    connection: Option<Connection>,
    /// The messages at which the receiver ends the connection.
    poison: BTreeSet<usize>,
    /// The messages that the receiver's program has read.
    read: Vec<usize>,
    /// The number of the next message to be submitted.
    next: usize,
    /// The current batch, and the number of its messages that were delivered before.
    batch: Option<(Vec<usize>, usize)>,
    /// Whether the current batch must be submitted again.
    retry: bool,
    delivered: Vec<usize>,
    rejected: usize,
    /// For each message, the number of connections that ended while it was the first
    /// unacknowledged message of a batch.
    cut: BTreeMap<usize, u32>,
}

impl World {
    fn new(poison: BTreeSet<usize>) -> Self {
        Self {
            now: Instant::now(),
            session: Session::new(POLICY),
            connection: None,
            poison,
            read: Vec::new(),
            next: 0,
            batch: None,
            retry: false,
            delivered: Vec::new(),
            rejected: 0,
            cut: BTreeMap::new(),
        }
    }

    fn run_all(&mut self, steps: &[Step]) {
        for step in steps {
            self.run(step);
        }
    }

    fn run(&mut self, step: &Step) {
        // During a search, a random failure of the receiver can make a good message
        // look bad.
        let may_fail = !self.session.is_searching();
        match *step {
            Step::Submit(count) => self.submit(count),
            Step::Connect => self.connect(),
            Step::FailToConnect if self.session.wants_connection() => {
                self.session.on_failed(self.now, Duration::from_secs(1));
            }
            Step::Send(count) => self.send(count),
            Step::Acknowledge(count) => self.acknowledge(count),
            Step::Read(count) => self.read(count),
            Step::Crash if may_fail => self.end(End::Broken),
            Step::HangUp if may_fail => self.hang_up(false),
            Step::HangUpAfterDiscarding if may_fail => self.hang_up(true),
            Step::Close { crashes } if may_fail => self.close(crashes),
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
            _ => {}
        }
        self.collect();
    }

    fn submit(&mut self, count: usize) {
        let (lines, skip) = match self.batch.take() {
            None => {
                let lines = (self.next..self.next + count).collect();
                self.next += count;
                (lines, 0)
            }
            Some(batch) if self.retry => batch,
            current => {
                self.batch = current;
                return;
            }
        };
        self.retry = false;
        let mut batch = Batch::new(Framing::OctetCounting);
        for line in &lines {
            let mut frame = batch.frame();
            frame.bytes().extend_from_slice(line.to_string().as_bytes());
            frame.finish();
        }
        self.batch = Some((lines, skip));
        self.session.submit(batch, skip, ());
    }

    fn connect(&mut self) {
        if self.session.wants_connection() {
            self.session.on_connected(self.now);
            self.connection = Some(Connection::default());
        }
    }

    fn send(&mut self, count: usize) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let bytes = self.session.transmit();
        let count = count.min(bytes.len());
        if count > 0 {
            connection.sent.extend_from_slice(&bytes[..count]);
            let wire = connection.sent.len() as u64;
            self.session.on_accepted(count, wire, self.now);
        }
    }

    fn acknowledge(&mut self, count: usize) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let all = (connection.acknowledged() + count).min(connection.sent.len());
        connection.acknowledged.push((all, self.now));
        self.session.on_acknowledged(all as u64, self.now);
    }

    fn read(&mut self, count: usize) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        connection.read = (connection.read + count).min(connection.acknowledged());
        loop {
            let rest = &connection.sent[connection.parsed..connection.read];
            let Some((line, length)) = parse(rest) else {
                return;
            };
            connection.parsed += length;
            if self.poison.contains(&line) {
                return self.end(End::Broken);
            }
            self.read.push(line);
        }
    }

    fn end(&mut self, end: End) {
        if self.connection.take().is_some() {
            self.count_cut();
            self.session.on_connection_ended(self.now, end);
        }
    }

    /// Counts the end of the connection for the first message of the batch.
    fn count_cut(&mut self) {
        if let Some((lines, skip)) = &self.batch
            && !self.retry
            && let Some(line) = lines.get(*skip)
        {
            *self.cut.entry(*line).or_default() += 1;
        }
    }

    fn hang_up(&mut self, discards: bool) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        self.count_cut();
        let unread = connection.acknowledged() - connection.read;
        let is_recent = |(count, at): &(usize, Instant)| {
            *count <= connection.read || *at + POLICY.close_timeout > self.now
        };
        let all_recent = connection.acknowledged.iter().all(is_recent);
        let is_watched = self.session.on_closing(self.now, Side::Peer);
        if !is_watched {
            self.session.on_connection_ended(self.now, End::Closed);
        } else if unread > 0 && !(discards && all_recent) {
            self.now += POLICY.close_timeout / 2;
            self.session.on_connection_ended(self.now, End::Broken);
        } else {
            self.end_watch(End::Closed);
        }
    }

    fn close(&mut self, crashes: bool) {
        if self.connection.is_none() || self.session.awaits_acknowledgement() {
            return;
        }
        let is_watched = self.session.on_closing(self.now, Side::Own);
        if !is_watched {
            self.connection = None;
            self.session
                .on_connection_ended(self.now, End::ClosedByBoth);
            return;
        }
        if crashes {
            // The receiver does not close its side.
            self.connection = None;
            self.end_watch(End::Broken);
            return;
        }
        self.read(usize::MAX / 2);
        // Reading a poison message may have ended the connection.
        if self.connection.take().is_some() {
            self.session
                .on_connection_ended(self.now, End::ClosedByBoth);
        }
    }

    fn end_watch(&mut self, expected: End) {
        self.now += POLICY.close_timeout;
        assert_eq!(self.session.on_timeout(self.now), Expiry::Closed(expected));
        self.session.on_connection_ended(self.now, expected);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.session.on_timeout(self.now) == Expiry::Stalled {
            self.end(End::Stalled);
        }
    }

    fn collect(&mut self) {
        while self.session.poll_rejected().is_some() {
            self.rejected += 1;
        }
        while let Some(finished) = self.session.poll_ended() {
            let (lines, skip) = self.batch.take().unwrap();
            match finished.outcome {
                Outcome::Delivered => self.delivered.extend(lines),
                Outcome::Retry { skip: delivered } => {
                    assert!(delivered >= skip && delivered <= lines.len());
                    self.batch = Some((lines, delivered));
                    self.retry = true;
                }
            }
        }
    }

    /// Delivers everything, without failures except those caused by poison messages.
    fn deliver_all(&mut self) {
        // A search may begin some time after the last delivery.
        let mut idle_rounds = 0;
        for _ in 0..20_000 {
            let is_busy = self.batch.is_some() || self.session.is_busy();
            idle_rounds = if is_busy { 0 } else { idle_rounds + 1 };
            if idle_rounds == 50 {
                return;
            }
            for step in [
                Step::Connect,
                Step::Submit(1),
                Step::Send(100),
                Step::Acknowledge(100),
                Step::Read(100),
                Step::Wait(500),
            ] {
                if !matches!(step, Step::Submit(_)) || self.retry {
                    self.run(&step);
                }
            }
        }
        panic!("not delivered: {:?}, {:?}", self.batch, self.session);
    }

    fn check(&self) {
        let read: BTreeSet<usize> = self.read.iter().copied().collect();
        let missing: Vec<usize> = self
            .delivered
            .iter()
            .filter(|line| !read.contains(line))
            .copied()
            .collect();
        let suspicious = |line: &usize| {
            self.poison.contains(line) || self.cut.get(line).is_some_and(|cut| *cut >= ENDS)
        };
        assert!(missing.iter().all(suspicious), "lost: {missing:?}");
        assert!(missing.len() <= self.rejected, "not reported: {missing:?}");
        if self.poison.is_empty() && self.rejected == 0 {
            let mut seen = BTreeSet::new();
            let first: Vec<usize> = self
                .read
                .iter()
                .filter(|line| seen.insert(**line))
                .copied()
                .collect();
            assert!(first.is_sorted(), "out of order: {first:?}");
        }
    }
}

/// Parses the first message in `bytes`. Returns the message and the length of its frame.
fn parse(bytes: &[u8]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(bytes).unwrap();
    let (length, rest) = text.split_once(' ')?;
    let message = rest.get(..length.parse().unwrap())?;
    let frame = length.len() + 1 + message.len();
    Some((message.parse().unwrap(), frame))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_delivered_message_is_lost(steps in proptest::collection::vec(step(), 0..200)) {
        let mut world = World::new(BTreeSet::new());
        world.run_all(&steps);
        world.deliver_all();
        world.check();
    }

    #[test]
    fn only_poison_messages_are_given_up(
        steps in proptest::collection::vec(step(), 0..100),
        poison in proptest::collection::btree_set(0..20_usize, 1..4),
    ) {
        let mut world = World::new(poison);
        world.run_all(&steps);
        // A message without a later one is set aside until there is one.
        world.next = world.next.max(20);
        for _ in 0..3 {
            world.deliver_all();
            world.run(&Step::Submit(1));
        }
        world.deliver_all();
        world.check();
    }
}

#[test]
fn the_check_finds_a_lost_message() {
    let mut world = World::new(BTreeSet::new());
    world.delivered = vec![1];
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
    assert!(lost.is_err());
}
