//! What was given up: counted by reason, written into the log, and told to the
//! sink itself in a message of the plugin's own.

use std::io::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use syslog::{
    AppName, Batch, Facility, Header, Hostname, MsgId, Pri, ProcId, Scratch, Severity,
    StructuredData, Timestamp,
};

use crate::abi::host::Level;
use crate::log::{Limiter, Log};
use crate::message::{Reason, Tally};
use crate::metrics::Metrics;

/// Who the plugin is in its own messages.
const APP_NAME: &str = "syslog_sink";
const MSGID: &str = "given_up";

/// One for each output.
#[derive(Debug)]
pub struct Report {
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
pub struct Notice {
    /// From chunks that were delivered before.
    owed: Tally,
}

impl Report {
    /// Nothing was given up yet.
    #[must_use]
    pub fn new(log: Log, metrics: Metrics, hostname: String) -> Self {
        Self {
            log,
            metrics,
            hostname,
            state: Mutex::default(),
        }
    }

    /// Appends the message that tells the sink what was given up, if there is
    /// anything to tell: of the chunk that is in `batch`, or before.
    pub fn tell(&self, of_chunk: &Tally, batch: &mut Batch) -> Option<Notice> {
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
    pub fn last_words(&self, batch: &mut Batch) {
        let untold = std::mem::take(&mut self.state.lock().untold);
        if !untold.is_clean() {
            self.push_message(&untold, batch);
        }
    }

    /// A chunk was delivered, and the notice with it.
    pub fn delivered(&self, of_chunk: &Tally, notice: Option<&Notice>) {
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
    pub fn returned(&self, notice: Option<&Notice>) {
        if let Some(Notice { owed }) = notice {
            let mut state = self.state.lock();
            state.untold.merge(owed);
            state.told = Limiter::default();
        }
    }

    /// A message of a delivered chunk was given up on its way.
    pub fn give_up(&self, reason: Reason) {
        let mut tally = Tally::default();
        tally.add(reason);
        self.delivered(&tally, None);
    }

    fn push_message(&self, losses: &Tally, batch: &mut Batch) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let (mut h, mut a, mut m) = (Scratch::default(), Scratch::default(), Scratch::default());
        let mut frame = batch.frame();
        let out = frame.bytes();
        Header {
            pri: Pri::new(Facility::Syslog, Severity::Warning),
            timestamp: Timestamp::from_unix(now.as_secs().cast_signed(), now.subsec_nanos()).ok(),
            hostname: Hostname::fit(self.hostname.as_bytes(), &mut h),
            app_name: AppName::fit(APP_NAME.as_bytes(), &mut a),
            procid: ProcId::fit(b"", &mut Scratch::default()),
            msgid: MsgId::fit(MSGID.as_bytes(), &mut m),
        }
        .encode(out);
        StructuredData::begin(out).finish();
        let mut before = ' ';
        for (reason, count) in losses.counts() {
            write!(out, "{before}{count} {}", reason.text()).expect("a Vec takes everything");
            before = ';';
        }
        frame.finish();
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
