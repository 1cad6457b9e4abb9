//! Numbered lines that are sent, and the counts of the messages that arrived.

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
    /// The length of a line, in bytes.
    pub(crate) length: usize,
}

/// The event after which a chunk counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The receiver has acknowledged the chunk.
    Direct,
    /// The chunk is in the output's queue on disk.
    Queued,
}

/// The results of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sent: usize,
    /// Messages that never arrived.
    pub lost: usize,
    /// The number of messages that arrived again.
    pub duplicated: usize,
    /// The maximum number of duplicates according to the documentation.
    pub may_be_duplicated: usize,
    /// Whether messages arrived in order, ignoring duplicates; `None` if the plugin
    /// does not guarantee the order.
    pub in_order: Option<bool>,
}

impl Load {
    /// A load that takes much less time than the one of the peer benchmarks, but long
    /// enough to be in progress whenever a fault happens.
    pub(crate) const USUAL: Self = Self {
        chunks: 300,
        lines: 100,
        length: 100,
    };

    /// Returns the number of lines.
    pub(crate) const fn total(&self) -> usize {
        self.chunks * self.lines
    }

    /// Returns the line with this number.
    pub(crate) fn line(&self, number: usize) -> String {
        let mut line = format!("{number} ");
        line.extend(std::iter::repeat_n(
            'x',
            self.length.saturating_sub(line.len()),
        ));
        line
    }

    /// Returns the chunks, as Fluent Bit would pass them.
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

    /// Delivers all chunks to an output with these options, calls `happens` meanwhile,
    /// and returns the host's log. Every chunk must end with OK.
    pub(crate) fn deliver(
        &self,
        delivery: Delivery,
        options: &[(&str, &str)],
        happens: impl FnOnce(),
    ) -> String {
        self.deliver_by(Host::new(), delivery, options, happens)
    }

    /// Delivers like [`Load::deliver`], with the caller's host.
    pub(crate) fn deliver_by(
        &self,
        host: Host,
        delivery: Delivery,
        options: &[(&str, &str)],
        happens: impl FnOnce(),
    ) -> String {
        deliver(host, delivery, &self.chunks(), options, happens)
    }

    /// Delivers like [`Load::deliver`], with the caller's chunks.
    pub(crate) fn deliver_chunks(
        chunks: &[(String, Vec<u8>)],
        delivery: Delivery,
        options: &[(&str, &str)],
        happens: impl FnOnce(),
    ) -> String {
        deliver(Host::new(), delivery, chunks, options, happens)
    }

    /// Waits until all lines have arrived, or no more arrive. Without a queue, chunks
    /// end when they have arrived.
    pub(crate) fn wait_for_all(&self, delivery: Delivery, arrived: impl Fn() -> Vec<String>) {
        if matches!(delivery, Delivery::Queued) {
            let complete = || (self.compare(arrived()).lost == 0).then_some(());
            // The scenario counts the lost messages.
            let _ = wait::until(BOUND, complete);
        }
    }

    /// Compares the load with the texts that arrived, in order of arrival.
    pub(crate) fn compare(&self, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Counts {
        self.compare_by(1, texts)
    }

    /// Compares like [`Load::compare`], for a number of containers that wrote the lines
    /// in turn. The order is checked for each container.
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

    /// Compares like [`Load::compare`], and ignores lines with other numbers.
    pub(crate) fn compare_own(&self, texts: &[String]) -> Counts {
        let own = |text: &&String| number_of(text) < self.total();
        self.compare(texts.iter().filter(own))
    }

    /// Compares like [`Load::compare`] for the chunks that did not fail. Lines of
    /// failed chunks may have arrived too.
    pub(crate) fn compare_delivered(&self, texts: &[String], failed: &[usize]) -> Counts {
        let delivered = |text: &&String| !failed.contains(&(number_of(text) / self.lines));
        let mut counts = self.compare(texts.iter().filter(delivered));
        counts.sent -= failed.len() * self.lines;
        counts.lost -= failed.len() * self.lines;
        counts
    }

    /// Compares with the messages of a receiver, once all connections are closed.
    pub(crate) fn arrived(&self, receiver: &Receiver) -> Counts {
        receiver.wait_for_the_end();
        self.compare(texts(&receiver.received()))
    }

    /// Compares with the messages that a daemon has written, once all have arrived or
    /// the time limit is reached.
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
    /// Allows the duplicates of this many unclean connection ends: each may resend the
    /// replay buffer for a receiver with a small window, and the chunk being sent.
    #[must_use]
    pub(crate) fn with_replays(self, unclean_ends: usize, load: &Load) -> Self {
        self.with_replays_of(SMALL_REPLAY, unclean_ends, load)
    }

    /// Allows the duplicates of this many unclean connection ends: each may resend this
    /// many bytes, and the chunk or batch being sent.
    #[must_use]
    pub(crate) fn with_replays_of(self, kept: usize, unclean_ends: usize, load: &Load) -> Self {
        let frames = (kept + BATCH) / (load.length + HEADER) + load.lines;
        self.with_duplicates(unclean_ends * frames.min(load.total()))
    }

    /// Ignores the order, which the plugin does not guarantee here.
    #[must_use]
    pub const fn in_any_order(mut self) -> Self {
        self.in_order = None;
        self
    }

    /// Allows this number of duplicates.
    #[must_use]
    pub const fn with_duplicates(mut self, count: usize) -> Self {
        self.may_be_duplicated = count;
        self
    }
}

/// The bytes that `replay_buffer auto` keeps for a receiver with a receive buffer of 64
/// KiB.
pub(crate) const SMALL_REPLAY: usize = 1024 * 1024;
/// The bytes that `replay_buffer auto` keeps for a receiver with Linux's default
/// buffers on the loopback.
pub(crate) const LOOPBACK_REPLAY: usize = 8 * 1024 * 1024;

/// The bytes in flight from a queue: the kernel's send buffer, and the bytes that the
/// connection has not yet written.
pub(crate) const UNDER_WAY: usize = 5 * 1024 * 1024;

/// The bytes of a queue's batch, which is resent as a whole.
const BATCH: usize = 256 * 1024;
/// The minimum number of bytes of a frame before its line.
const HEADER: usize = 130;

/// Returns the number of a line; panics if there is none.
fn number_of(text: &str) -> usize {
    text.split_once(' ')
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or_else(|| panic!("unexpected text: {text:?}"))
}

/// Returns the texts of all messages; panics if one is invalid.
pub(crate) fn texts(received: &[Received]) -> Vec<String> {
    received
        .iter()
        .map(|received| match &received.message {
            Ok(message) => message.text().to_owned(),
            Err(error) => panic!("invalid message: {error}"),
        })
        .collect()
}
