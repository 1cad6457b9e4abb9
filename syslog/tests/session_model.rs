//! A session in a world of receivers that read slowly, crash, hang up with
//! bytes unread, throw away what they read, and cannot take some messages, in
//! any order: whatever was delivered has been read, in order, or was reported
//! as given up.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

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
    // Nothing is lost for want of room or because it is old.
    replay_buffer: ReplayBuffer::Fixed(1 << 20),
    replay_age: Duration::from_secs(1_000_000),
};

/// How often connections may end within a message before it is given up.
const ENDS: u32 = 5;

#[derive(Clone, Debug)]
enum Step {
    Submit(usize),
    Connect,
    FailToConnect,
    Send(usize),
    Acknowledge(usize),
    Read(usize),
    /// The receiver dies: a reset.
    Crash,
    /// It says goodbye and closes: a reset follows where bytes are unread.
    HangUp,
    /// It says goodbye, and reads what there is before it closes, for nothing.
    HangUpAfterThrowingAway,
    /// This side closes; the receiver reads everything, or dies.
    Close {
        dies: bool,
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
        1 => Just(Step::HangUpAfterThrowingAway),
        1 => any::<bool>().prop_map(|dies| Step::Close { dies }),
        3 => (1..4000_u64).prop_map(Step::Wait),
    ]
}

/// One connection, as the receiver sees it.
#[derive(Default)]
struct Connection {
    /// What the sender's kernel took.
    sent: Vec<u8>,
    /// How much of it the receiver's kernel has acknowledged, and when.
    acknowledged: Vec<(usize, Instant)>,
    /// How much of that its program has read.
    read: usize,
    /// How much of that was whole messages.
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
    /// The messages that the receiver ends the connection at.
    poison: BTreeSet<usize>,
    /// The messages that its program has read.
    read: Vec<usize>,
    /// Lines are numbered; these were not submitted yet.
    next: usize,
    /// The batch under way, and how many of its messages need not be sent.
    batch: Option<(Vec<usize>, usize)>,
    /// It has to be submitted again.
    retry: bool,
    delivered: Vec<usize>,
    rejected: usize,
    /// How often a connection ended within the first message of a batch.
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

    fn take_all(&mut self, steps: &[Step]) {
        for step in steps {
            self.take(step);
        }
    }

    fn take(&mut self, step: &Step) {
        // What happens to a receiver by chance while a message is searched for
        // can make an innocent one look guilty.
        let chance = !self.session.is_searching();
        match *step {
            Step::Submit(count) => self.submit(count),
            Step::Connect => self.connect(),
            Step::FailToConnect if self.session.wants_connection() => {
                self.session.on_failed(self.now, Duration::from_secs(1));
            }
            Step::Send(count) => self.send(count),
            Step::Acknowledge(count) => self.acknowledge(count),
            Step::Read(count) => self.read(count),
            Step::Crash if chance => self.end(End::Broken),
            Step::HangUp if chance => self.hang_up(false),
            Step::HangUpAfterThrowingAway if chance => self.hang_up(true),
            Step::Close { dies } if chance => self.close(dies),
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
            under_way => {
                self.batch = under_way;
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
            self.session.on_taken(count, wire, self.now);
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
            self.note_cut();
            self.session.on_ended(self.now, end);
        }
    }

    /// The first message of the batch may look guilty from now on.
    fn note_cut(&mut self) {
        if let Some((lines, skip)) = &self.batch
            && !self.retry
            && let Some(line) = lines.get(*skip)
        {
            *self.cut.entry(*line).or_default() += 1;
        }
    }

    fn hang_up(&mut self, throws_away: bool) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        self.note_cut();
        let unread = connection.acknowledged() - connection.read;
        let is_recent = |(count, at): &(usize, Instant)| {
            *count <= connection.read || *at + POLICY.close_timeout > self.now
        };
        let all_recent = connection.acknowledged.iter().all(is_recent);
        let is_watched = self.session.on_closing(self.now, Side::Peer);
        if !is_watched {
            self.session.on_ended(self.now, End::Closed);
        } else if unread > 0 && !(throws_away && all_recent) {
            self.now += POLICY.close_timeout / 2;
            self.session.on_ended(self.now, End::Broken);
        } else {
            self.end_watch(End::Closed);
        }
    }

    fn close(&mut self, dies: bool) {
        if self.connection.is_none() || self.session.awaits_acknowledgement() {
            return;
        }
        let is_watched = self.session.on_closing(self.now, Side::Own);
        if !is_watched {
            self.connection = None;
            self.session.on_ended(self.now, End::Answered);
            return;
        }
        if dies {
            // Without a word: nobody answers.
            self.connection = None;
            self.end_watch(End::Broken);
            return;
        }
        self.read(usize::MAX / 2);
        // Reading poison ended the connection by itself.
        if self.connection.take().is_some() {
            self.session.on_ended(self.now, End::Answered);
        }
    }

    fn end_watch(&mut self, expected: End) {
        self.now += POLICY.close_timeout;
        assert_eq!(self.session.on_timeout(self.now), Expiry::Closed(expected));
        self.session.on_ended(self.now, expected);
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
        while let Some(finished) = self.session.poll_finished() {
            let (lines, skip) = self.batch.take().unwrap();
            match finished.outcome {
                Outcome::Delivered => self.delivered.extend(lines),
                Outcome::Retry { delivered } => {
                    assert!(delivered >= skip && delivered <= lines.len());
                    self.batch = Some((lines, delivered));
                    self.retry = true;
                }
            }
        }
    }

    /// Everything goes well from now on, but for the poison.
    fn heal(&mut self) {
        // A verdict comes some time after the last delivery.
        let mut quiet = 0;
        for _ in 0..20_000 {
            let waits = self.batch.is_some() || self.session.is_busy();
            quiet = if waits { 0 } else { quiet + 1 };
            if quiet == 50 {
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
                    self.take(&step);
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

/// The message that `bytes` begin with, and the length of its frame.
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
    fn nothing_delivered_is_lost(steps in proptest::collection::vec(step(), 0..200)) {
        let mut world = World::new(BTreeSet::new());
        world.take_all(&steps);
        world.heal();
        world.check();
    }

    #[test]
    fn poison_is_given_up_and_nothing_else(
        steps in proptest::collection::vec(step(), 0..100),
        poison in proptest::collection::btree_set(0..20_usize, 1..4),
    ) {
        let mut world = World::new(poison);
        world.take_all(&steps);
        // A message that no other follows is set aside until one does.
        world.next = world.next.max(20);
        for _ in 0..3 {
            world.heal();
            world.take(&Step::Submit(1));
        }
        world.heal();
        world.check();
    }
}

#[test]
fn a_loss_is_found() {
    let mut world = World::new(BTreeSet::new());
    world.delivered = vec![1];
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
    assert!(lost.is_err());
}
