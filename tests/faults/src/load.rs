//! Numbered lines: what is sent, and what came of it.

use std::collections::HashSet;

use host::Host;
use receiver::{Received, Receiver};
use rig::event::{container_tag, event, map};
use rig::syslogd::Syslogd;
use rig::wait::{self, BOUND};

/// Lines of one container, in chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) chunks: usize,
    pub(crate) lines: usize,
    /// How long a line is, in bytes.
    pub(crate) length: usize,
}

/// When a chunk counts as taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Once the receiver has acknowledged it.
    Direct,
    /// Once it is in the output's queue on disk.
    Queued,
}

/// What came of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sent: usize,
    /// Messages that never arrived.
    pub lost: usize,
    /// How often a message arrived that had before.
    pub duplicated: usize,
    /// How often that may be, by what is documented.
    pub may_be_duplicated: usize,
    /// Whether messages arrived in their order, those sent again aside; none
    /// where the order is not the plugin's to keep.
    pub in_order: Option<bool>,
}

impl Load {
    /// As many lines as the peers were measured with would take minutes; these
    /// are enough to be under way whenever something happens.
    pub(crate) const USUAL: Self = Self {
        chunks: 300,
        lines: 100,
        length: 100,
    };

    /// How many lines there are.
    pub(crate) const fn total(&self) -> usize {
        self.chunks * self.lines
    }

    /// The line of this number.
    pub(crate) fn line(&self, number: usize) -> String {
        let mut line = format!("{number} ");
        line.extend(std::iter::repeat_n(
            'x',
            self.length.saturating_sub(line.len()),
        ));
        line
    }

    /// The chunks, as Fluent Bit would have them.
    pub(crate) fn chunks(&self) -> Vec<(String, Vec<u8>)> {
        let tag = container_tag("shop", "web-0", "nginx");
        let chunk = |chunk: usize| {
            let lines = chunk * self.lines..(chunk + 1) * self.lines;
            let events = lines.flat_map(|line| {
                let log = self.line(line).into();
                event(1_772_366_400, 0, map(vec![("log", log)]))
            });
            (tag.clone(), events.collect())
        };
        (0..self.chunks).map(chunk).collect()
    }

    /// Delivers all chunks to an output with these options while `happens`
    /// happens, and gives the host's log. Every chunk has to end with OK.
    pub(crate) fn deliver(
        &self,
        delivery: Delivery,
        options: &[(&str, &str)],
        happens: impl FnOnce(),
    ) -> String {
        self.deliver_by(Host::new(), delivery, options, happens)
    }

    /// The same with a host of one's own.
    pub(crate) fn deliver_by(
        &self,
        host: Host,
        delivery: Delivery,
        options: &[(&str, &str)],
        happens: impl FnOnce(),
    ) -> String {
        deliver(host, delivery, &self.chunks(), options, happens)
    }

    /// The same with these chunks.
    pub(crate) fn deliver_chunks(
        chunks: &[(String, Vec<u8>)],
        delivery: Delivery,
        options: &[(&str, &str)],
        happens: impl FnOnce(),
    ) -> String {
        deliver(Host::new(), delivery, chunks, options, happens)
    }

    /// Waits until all lines have arrived, or no more do. Without a queue, chunks
    /// end once they have.
    pub(crate) fn wait_for_all(&self, delivery: Delivery, arrived: impl Fn() -> Vec<String>) {
        if matches!(delivery, Delivery::Queued) {
            let complete = || (self.compare(arrived()).lost == 0).then_some(());
            // What is lost is counted by the scenario.
            let _ = wait::until(BOUND, complete);
        }
    }

    /// Compares with the texts that arrived, in their order.
    pub(crate) fn compare(&self, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Counts {
        self.compare_by(1, texts)
    }

    /// The same for so many containers that wrote the lines in turn: each has an
    /// order of its own.
    pub(crate) fn compare_by(
        &self,
        containers: usize,
        texts: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Counts {
        let mut seen = HashSet::new();
        let mut counts = Counts {
            sent: self.total(),
            lost: 0,
            duplicated: 0,
            may_be_duplicated: 0,
            in_order: Some(true),
        };
        let mut last = vec![None; containers];
        for text in texts {
            let text = text.as_ref();
            let number = number_of(text);
            assert_eq!(text, self.line(number), "not whole");
            if seen.insert(number) {
                let last = &mut last[number % containers];
                if *last >= Some(number) {
                    counts.in_order = Some(false);
                }
                *last = Some(number);
            } else {
                counts.duplicated += 1;
            }
        }
        counts.lost = self.total() - seen.len();
        counts
    }

    /// The same, where lines of other numbers may have arrived as well.
    pub(crate) fn compare_own(&self, texts: &[String]) -> Counts {
        let own = |text: &&String| number_of(text) < self.total();
        self.compare(texts.iter().filter(own))
    }

    /// The same for chunks that did not fail; lines of the others may have
    /// arrived as well.
    pub(crate) fn compare_delivered(&self, texts: &[String], failed: &[usize]) -> Counts {
        let delivered = |text: &&String| !failed.contains(&(number_of(text) / self.lines));
        let mut counts = self.compare(texts.iter().filter(delivered));
        counts.sent -= failed.len() * self.lines;
        counts.lost -= failed.len() * self.lines;
        counts
    }

    /// The same with what a receiver has, once all connections are closed.
    pub(crate) fn arrived(&self, receiver: &Receiver) -> Counts {
        receiver.wait_for_the_end();
        self.compare(texts(&receiver.received()))
    }

    /// The same with what a daemon has written, once that is all or it takes
    /// too long.
    pub(crate) fn arrived_at(&self, daemon: &Syslogd) -> Counts {
        let counts = || self.compare(daemon.messages().iter().map(|message| &message.msg));
        let complete = || Some(counts()).filter(|counts| counts.lost == 0);
        wait::until(BOUND, complete).unwrap_or_else(|_| counts())
    }
}

fn deliver(
    host: Host,
    delivery: Delivery,
    chunks: &[(String, Vec<u8>)],
    options: &[(&str, &str)],
    happens: impl FnOnce(),
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let queue = [
        ("queue_path", folder.path().to_str().unwrap()),
        ("queue_name", "sink"),
    ];
    let (host, queue): (Host, &[_]) = match delivery {
        Delivery::Direct => (host, &[]),
        Delivery::Queued => (host.hold(), &queue),
    };
    let options = [
        &[("backoff_min", "50ms"), ("backoff_max", "200ms")],
        queue,
        options,
    ]
    .concat();
    let host = host.retries(1000).output("sink", &options);
    let run = host.run_while(chunks, happens);
    assert!(run.intact);
    assert_eq!(run.outputs.len(), 1, "{}", run.log);
    assert_eq!(run.outputs[0].ok as usize, chunks.len(), "{}", run.log);
    run.log
}

impl Counts {
    /// So many unclean ends may each have sent again what is kept for a receiver
    /// with a small window, and the chunk under way.
    #[must_use]
    pub(crate) fn with_replays(self, unclean_ends: usize, load: &Load) -> Self {
        self.with_replays_of(SMALL_REPLAY, unclean_ends, load)
    }

    /// So many unclean ends may each have so many bytes sent again, and the chunk
    /// or the batch under way.
    #[must_use]
    pub(crate) fn with_replays_of(self, kept: usize, unclean_ends: usize, load: &Load) -> Self {
        let frames = (kept + BATCH) / (load.length + HEADER) + load.lines;
        self.with_duplicates(unclean_ends * frames.min(load.total()))
    }

    /// The order is not the plugin's to keep.
    #[must_use]
    pub const fn in_any_order(mut self) -> Self {
        self.in_order = None;
        self
    }

    /// So many messages may arrive more than once.
    #[must_use]
    pub const fn with_duplicates(mut self, count: usize) -> Self {
        self.may_be_duplicated = count;
        self
    }
}

/// The bytes that `replay_buffer auto` keeps for a receiver with a receive buffer
/// of 64 KiB.
pub(crate) const SMALL_REPLAY: usize = 1024 * 1024;
/// The bytes that it keeps for a receiver with Linux's default on the loopback.
pub(crate) const LOOPBACK_REPLAY: usize = 8 * 1024 * 1024;

/// The bytes that are under way from a queue: what a kernel's send buffer takes, and
/// what the connection has not taken yet.
pub(crate) const UNDER_WAY: usize = 5 * 1024 * 1024;

/// The bytes of a queue's batch, each of which is kept as a whole.
const BATCH: usize = 256 * 1024;
/// The bytes of a frame before its line, at least.
const HEADER: usize = 130;

/// The number of a line; what is none stops the test.
fn number_of(text: &str) -> usize {
    text.split_once(' ')
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or_else(|| panic!("not a line of a load: {text:?}"))
}

/// The texts of all messages; what is none stops the test.
pub(crate) fn texts(received: &[Received]) -> Vec<String> {
    received
        .iter()
        .map(|received| match &received.message {
            Ok(message) => message.text().to_owned(),
            Err(error) => panic!("not a message: {error}"),
        })
        .collect()
}
