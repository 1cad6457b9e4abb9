//! HEADER (RFC 5424, section 6.2), in two parts: one that differs in each message,
//! and one that the messages of a program share.

use crate::{AppName, Hostname, MsgId, Pri, ProcId, SecondCache, Timestamp};

/// `PRI VERSION SP TIMESTAMP`, the first part, which differs in each message.
#[derive(Clone, Copy, Debug)]
pub struct HeaderPrefix {
    /// Facility and severity.
    pub pri: Pri,
    /// The time of the message. `None` is written as NILVALUE.
    pub timestamp: Option<Timestamp>,
}

impl HeaderPrefix {
    /// The maximum length in bytes.
    pub const MAX: usize = Pri::MAX + "1 ".len() + Timestamp::MAX;

    /// Appends the first part. `cache` holds the time of the previous message.
    /// [`HeaderSource`] follows.
    pub fn encode(self, cache: &mut SecondCache, out: &mut Vec<u8>) {
        self.pri.encode(out);
        // VERSION (RFC 5424, section 6.2.2).
        out.extend_from_slice(b"1 ");
        match self.timestamp {
            Some(timestamp) => timestamp.encode_with(cache, out),
            None => out.push(b'-'),
        }
    }
}

/// `SP HOSTNAME SP APP-NAME SP PROCID SP MSGID`, the second part, which the messages of
/// a program share.
#[derive(Clone, Copy, Debug)]
pub struct HeaderSource<'a> {
    /// The machine that the message comes from.
    pub hostname: Hostname<'a>,
    /// The program that the message comes from.
    pub app_name: AppName<'a>,
    /// The process ID, or another value that distinguishes the runs of a program.
    pub procid: ProcId<'a>,
    /// The type of the message.
    pub msgid: MsgId<'a>,
}

impl HeaderSource<'_> {
    /// Appends the second part. [`StructuredData`](crate::StructuredData)
    /// follows.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(b' ');
        self.hostname.encode(out);
        out.push(b' ');
        self.app_name.encode(out);
        out.push(b' ');
        self.procid.encode(out);
        out.push(b' ');
        self.msgid.encode(out);
    }
}
