//! What was given up: counted by reason, written into the log, and told to the
//! sink itself in a message of the plugin's own.

use std::fmt::Write;
use std::time::{Instant, SystemTime};

use mapper::message::{LossReason, Tally};
use mapper::notice::push_notice;
use parking_lot::Mutex;
use syslog::Batch;

use crate::abi::host::Level;
use crate::log::{Limiter, Log};
use crate::metrics::Metrics;

/// Who the plugin is in its own messages.
const APP_NAME: &str = "syslog_sink";

/// One for each output.
#[derive(Debug)]
pub(crate) struct Report {
    log: Log,
    metrics: Metrics,
    hostname: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    logged: Limiter,
    told: Limiter,
    /// What was not written into the log yet.
    unlogged: Tally,
    /// What the sink was not told yet.
    untold: Tally,
}

/// What a message of ours says, and is not told again once it is delivered.
#[derive(Debug)]
pub(crate) struct Notice {
    /// From chunks that were delivered before.
    owed: Tally,
}

impl Report {
    /// Nothing was given up yet.
    #[must_use]
    pub(crate) fn new(log: Log, metrics: Metrics, hostname: String) -> Self {
        Self {
            log,
            metrics,
            hostname,
            state: Mutex::default(),
        }
    }

    /// Appends the message that tells the sink what was given up, if there is
    /// anything to tell: of the chunk that is in `batch`, or before.
    pub(crate) fn tell(&self, of_chunk: &Tally, batch: &mut Batch) -> Option<Notice> {
        let mut losses = of_chunk.losses();
        let owed = {
            let mut state = self.state.lock();
            if losses.is_clean() && state.untold.is_clean() {
                return None;
            }
            state.told.admit(Instant::now())?;
            std::mem::take(&mut state.untold)
        };
        losses.merge(&owed);
        self.push_message(&losses, batch);
        Some(Notice { owed })
    }

    /// The message for what the sink was not told when it is closed.
    pub(crate) fn last_words(&self, batch: &mut Batch) {
        let untold = std::mem::take(&mut self.state.lock().untold);
        if !untold.is_clean() {
            self.push_message(&untold, batch);
        }
    }

    /// A chunk was delivered, and the notice with it.
    pub(crate) fn delivered(&self, of_chunk: &Tally, notice: Option<&Notice>) {
        if of_chunk.is_clean() {
            return;
        }
        self.metrics.count(of_chunk);
        let mut state = self.state.lock();
        if notice.is_none() {
            state.untold.merge(&of_chunk.losses());
        }
        state.unlogged.merge(of_chunk);
        if state.logged.admit(Instant::now()).is_some() {
            let unlogged = std::mem::take(&mut state.unlogged);
            drop(state);
            self.write(&unlogged);
        }
    }

    /// A chunk was not delivered, or not as a whole: it comes again, and the
    /// notice with it.
    pub(crate) fn returned(&self, notice: Option<&Notice>) {
        if let Some(Notice { owed }) = notice {
            let mut state = self.state.lock();
            state.untold.merge(owed);
            state.told = Limiter::default();
        }
    }

    /// So many messages were given up on their way.
    pub(crate) fn give_up(&self, reason: LossReason, count: u64) {
        let mut tally = Tally::default();
        tally.add_many(reason, count);
        self.delivered(&tally, None);
    }

    fn push_message(&self, losses: &Tally, batch: &mut Batch) {
        let mut text = String::new();
        let mut before = "";
        for (reason, count) in losses.counts() {
            write!(text, "{before}{count} {}", reason.text()).expect("a String takes everything");
            before = "; ";
        }
        push_notice(batch, &self.hostname, APP_NAME, SystemTime::now(), &text);
    }

    fn write(&self, tally: &Tally) {
        for (reason, count) in tally.counts() {
            let line = format!("{}: {count}", reason.text());
            self.log.write(Level::Warn, &line);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let unlogged = std::mem::take(&mut self.state.get_mut().unlogged);
        self.write(&unlogged);
    }
}

#[cfg(test)]
mod tests {
    use syslog::Framing;

    use super::*;
    use crate::abi::host::Host;

    fn report() -> Report {
        let log = Log::new(Host::find(), "shop".to_owned());
        Report::new(log, Metrics::new(None, "shop").0, "node-1".to_owned())
    }

    fn tally(reason: LossReason, count: usize) -> Tally {
        let mut tally = Tally::default();
        (0..count).for_each(|_| tally.add(reason));
        tally
    }

    fn empty() -> Batch {
        Batch::new(Framing::Datagram)
    }

    fn said(batch: &Batch) -> String {
        String::from_utf8(batch.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_loss_is_told_with_its_chunk_and_not_again() {
        let (report, mut batch) = (report(), empty());
        let lost = tally(LossReason::Damaged, 3);
        let notice = report.tell(&lost, &mut batch).unwrap();
        let text = said(&batch);
        assert!(text.starts_with("<44>1 "), "{text}");
        let end = " node-1 syslog_sink - given_up - 3 unreadable records skipped";
        assert!(text.ends_with(end), "{text}");
        report.delivered(&lost, Some(&notice));

        let mut last = empty();
        report.last_words(&mut last);
        assert!(last.is_empty());
    }

    #[test]
    fn what_came_back_is_told_when_it_comes_again() {
        let report = report();
        let lost = tally(LossReason::Oversize, 2);
        for _ in 0..2 {
            let mut batch = empty();
            let notice = report.tell(&lost, &mut batch).unwrap();
            assert!(
                said(&batch).contains(" 2 messages longer than max_message_size dropped"),
                "{}",
                said(&batch)
            );
            report.returned(Some(&notice));
        }
    }

    #[test]
    fn what_may_not_be_told_yet_is_told_later_or_last() {
        let (report, mut batch) = (report(), empty());
        let first = tally(LossReason::Damaged, 1);
        let notice = report.tell(&first, &mut batch).unwrap();
        report.delivered(&first, Some(&notice));

        let more = tally(LossReason::Truncated, 5);
        let mut batch = empty();
        assert!(report.tell(&more, &mut batch).is_none());
        assert!(batch.is_empty());
        report.delivered(&more, None);
        report.give_up(LossReason::Datagram, 1);

        let mut last = empty();
        report.last_words(&mut last);
        let text = said(&last);
        let end = " 1 messages too large for a datagram dropped; 5 messages truncated to max_message_size";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn others_records_are_none_of_the_sinks_business() {
        let (report, mut batch) = (report(), empty());
        let refused = tally(LossReason::Refused, 7);
        assert!(report.tell(&refused, &mut batch).is_none());
        report.delivered(&refused, None);
        report.last_words(&mut batch);
        assert!(batch.is_empty());
    }
}
