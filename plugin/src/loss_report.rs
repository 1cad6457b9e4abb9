//! The report of an output's losses: counted by reason in the metrics, logged, and sent
//! to the receiver as a notice, a message of the plugin itself.
//!
//! A notice is an additional frame of a batch that is delivered anyway, so it has the
//! same guarantee as the batch.

use std::fmt::Write;
use std::time::{Instant, SystemTime};

use fluent_bit::{Level, Limiter, Log};
use mapper::message::{LossReason, Tally};
use mapper::notice::push_notice;
use parking_lot::Mutex;
use syslog::Batch;

use crate::metrics::Metrics;

/// The APP-NAME of notices.
const APP_NAME: &str = "syslog_sink";

/// The loss report of one output.
#[derive(Debug)]
pub(crate) struct LossReport {
    log: Log,
    metrics: Metrics,
    hostname: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log_limiter: Limiter,
    notice_limiter: Limiter,
    /// Losses that are not logged yet.
    unlogged: Tally,
    /// Losses that no notice has reported to the receiver yet.
    unreported: Tally,
}

/// A notice in a batch that is not delivered yet.
#[derive(Debug)]
pub(crate) struct Notice {
    /// The losses that the notice reports in addition to those of its own chunk. They
    /// are reported again if the batch is not delivered.
    earlier: Tally,
}

impl LossReport {
    /// Creates a report without losses.
    #[must_use]
    pub(crate) fn new(log: Log, metrics: Metrics, hostname: String) -> Self {
        Self {
            log,
            metrics,
            hostname,
            state: Mutex::default(),
        }
    }

    /// Appends a notice to a chunk's batch, if there are losses to report in the chunk
    /// or from before, and the rate limit allows a notice.
    pub(crate) fn append_notice(&self, chunk: &Tally, batch: &mut Batch) -> Option<Notice> {
        let mut losses = chunk.losses();
        let earlier = {
            let mut state = self.state.lock();
            if losses.is_clean() && state.unreported.is_clean() {
                return None;
            }
            state.notice_limiter.admit(Instant::now())?;
            std::mem::take(&mut state.unreported)
        };
        losses.merge(&earlier);
        self.push_notice(&losses, batch);
        Some(Notice { earlier })
    }

    /// Appends a notice about all unreported losses when the output is closed, without
    /// a rate limit.
    pub(crate) fn append_final_notice(&self, batch: &mut Batch) {
        let unreported = std::mem::take(&mut self.state.lock().unreported);
        if !unreported.is_clean() {
            self.push_notice(&unreported, batch);
        }
    }

    /// Adds the losses of a chunk that was delivered, with its notice if there was one.
    pub(crate) fn on_delivered(&self, chunk: &Tally, notice: Option<&Notice>) {
        if chunk.is_clean() {
            return;
        }
        self.metrics.count(chunk);
        let mut state = self.state.lock();
        if notice.is_none() {
            state.unreported.merge(&chunk.losses());
        }
        state.unlogged.merge(chunk);
        if state.log_limiter.admit(Instant::now()).is_some() {
            let unlogged = std::mem::take(&mut state.unlogged);
            drop(state);
            self.log(&unlogged);
        }
    }

    /// Restores the losses of a notice whose chunk was not delivered completely. The
    /// chunk's own losses are not added: Fluent Bit retries the chunk.
    pub(crate) fn on_retry(&self, notice: Option<&Notice>) {
        if let Some(Notice { earlier }) = notice {
            let mut state = self.state.lock();
            state.unreported.merge(earlier);
            state.notice_limiter = Limiter::default();
        }
    }

    /// Adds messages that were lost after their chunk was accepted.
    pub(crate) fn add(&self, reason: LossReason, count: u64) {
        let mut tally = Tally::default();
        tally.add_many(reason, count);
        self.on_delivered(&tally, None);
    }

    fn push_notice(&self, losses: &Tally, batch: &mut Batch) {
        let mut text = String::new();
        let mut separator = "";
        for (reason, count) in losses.counts() {
            write!(text, "{separator}{count} {}", reason.text())
                .expect("writing to a String never fails");
            separator = "; ";
        }
        push_notice(batch, &self.hostname, APP_NAME, SystemTime::now(), &text);
    }

    fn log(&self, tally: &Tally) {
        for (reason, count) in tally.counts() {
            let line = format!("{}: {count}", reason.text());
            self.log.write(Level::Warn, &line);
        }
    }
}

impl Drop for LossReport {
    fn drop(&mut self) {
        let unlogged = std::mem::take(&mut self.state.get_mut().unlogged);
        self.log(&unlogged);
    }
}

#[cfg(test)]
mod tests {
    use fluent_bit::Host;
    use syslog::Framing;

    use super::*;
    use crate::exports::PLUGIN;

    fn report() -> LossReport {
        let log = Log::new(Host::find(), PLUGIN, "shop");
        LossReport::new(log, Metrics::new(None, "shop").0, "node-1".to_owned())
    }

    fn tally(reason: LossReason, count: usize) -> Tally {
        let mut tally = Tally::default();
        (0..count).for_each(|_| tally.add(reason));
        tally
    }

    fn empty() -> Batch {
        Batch::new(Framing::Datagram)
    }

    fn text_of(batch: &Batch) -> String {
        String::from_utf8(batch.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_loss_is_reported_once_with_its_chunk() {
        let (report, mut batch) = (report(), empty());
        let lost = tally(LossReason::Damaged, 3);
        let notice = report.append_notice(&lost, &mut batch).unwrap();
        let text = text_of(&batch);
        assert!(text.starts_with("<44>1 "), "{text}");
        let end = " node-1 syslog_sink - given_up - 3 unreadable records skipped";
        assert!(text.ends_with(end), "{text}");
        report.on_delivered(&lost, Some(&notice));

        let mut last = empty();
        report.append_final_notice(&mut last);
        assert!(last.is_empty());
    }

    #[test]
    fn a_retried_chunk_has_its_notice_again() {
        let report = report();
        let lost = tally(LossReason::Oversize, 2);
        for _ in 0..2 {
            let mut batch = empty();
            let notice = report.append_notice(&lost, &mut batch).unwrap();
            let text = text_of(&batch);
            assert!(
                text.contains(" 2 messages longer than max_message_size dropped"),
                "{text}"
            );
            report.on_retry(Some(&notice));
        }
    }

    #[test]
    fn rate_limited_losses_are_reported_at_the_end() {
        let (report, mut batch) = (report(), empty());
        let first = tally(LossReason::Damaged, 1);
        let notice = report.append_notice(&first, &mut batch).unwrap();
        report.on_delivered(&first, Some(&notice));

        let more = tally(LossReason::Truncated, 5);
        let mut batch = empty();
        assert!(report.append_notice(&more, &mut batch).is_none());
        assert!(batch.is_empty());
        report.on_delivered(&more, None);
        report.add(LossReason::Datagram, 1);

        let mut last = empty();
        report.append_final_notice(&mut last);
        let text = text_of(&last);
        let end = " 1 messages too large for a datagram dropped; 5 messages truncated to max_message_size";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn records_of_other_namespaces_are_not_reported_to_the_receiver() {
        let (report, mut batch) = (report(), empty());
        let refused = tally(LossReason::Refused, 7);
        assert!(report.append_notice(&refused, &mut batch).is_none());
        report.on_delivered(&refused, None);
        report.append_final_notice(&mut batch);
        assert!(batch.is_empty());
    }
}
