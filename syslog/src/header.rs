//! HEADER (RFC 5424, section 6.2), in two halves: what is each message's own,
//! and what the messages of one program share.

use crate::{AppName, Hostname, MsgId, Pri, ProcId, SecondCache, Timestamp};

/// `PRI VERSION SP TIMESTAMP`: the first half, each message's own.
#[derive(Clone, Copy, Debug)]
pub struct HeaderPrefix {
    /// Facility and severity.
    pub pri: Pri,
    /// When it happened; written as NILVALUE where nobody knows.
    pub timestamp: Option<Timestamp>,
}

impl HeaderPrefix {
    /// The most bytes that it takes.
    pub const MAX: usize = Pri::MAX + "1 ".len() + Timestamp::MAX;

    /// Appends the first half, by the cache of the messages before. [`HeaderSource`]
    /// follows.
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

/// `SP HOSTNAME SP APP-NAME SP PROCID SP MSGID`: the second half, alike in all
/// messages of a program.
#[derive(Clone, Copy, Debug)]
pub struct HeaderSource<'a> {
    /// The machine it happened on.
    pub hostname: Hostname<'a>,
    /// The program it happened in.
    pub app_name: AppName<'a>,
    /// The process, or what else tells one run of the program from another.
    pub procid: ProcId<'a>,
    /// The kind of the message.
    pub msgid: MsgId<'a>,
}

impl HeaderSource<'_> {
    /// Appends the second half. [`StructuredData`](crate::StructuredData)
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
