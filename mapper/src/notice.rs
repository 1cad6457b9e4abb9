//! Messages that the sender itself generates, such as loss reports.

use std::time::{SystemTime, UNIX_EPOCH};

use syslog::{
    AppName, Batch, Facility, HeaderPrefix, HeaderSource, Hostname, MsgId, Pri, ProcId, Scratch,
    SecondCache, Severity, StructuredData, Timestamp,
};

const MSGID: &str = "given_up";

/// Appends a message from `app_name` itself to the receiver: a loss report, or the
/// message of a sink test. The facility is `syslog`, the severity `warning`.
pub fn push_notice(batch: &mut Batch, hostname: &str, app_name: &str, at: SystemTime, text: &str) {
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (mut h, mut a, mut m) = (Scratch::default(), Scratch::default(), Scratch::default());
    let mut frame = batch.frame();
    let out = frame.bytes();
    HeaderPrefix {
        pri: Pri::new(Facility::Syslog, Severity::Warning),
        timestamp: Timestamp::from_unix(at.as_secs().cast_signed(), at.subsec_nanos()).ok(),
    }
    .encode(&mut SecondCache::default(), out);
    HeaderSource {
        hostname: Hostname::fit(hostname.as_bytes(), &mut h),
        app_name: AppName::fit(app_name.as_bytes(), &mut a),
        procid: ProcId::NIL,
        msgid: MsgId::fit(MSGID.as_bytes(), &mut m),
    }
    .encode(out);
    StructuredData::begin(out).finish();
    out.push(b' ');
    out.extend_from_slice(text.as_bytes());
    frame.finish();
}
