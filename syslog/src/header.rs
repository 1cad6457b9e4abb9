//! HEADER (RFC 5424, section 6.2).

use crate::{AppName, Hostname, MsgId, Pri, ProcId, Timestamp};

/// Everything of a message before its structured data.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Facility and severity.
    pub pri: Pri,
    /// When it happened; written as NILVALUE where nobody knows.
    pub timestamp: Option<Timestamp>,
    /// The machine it happened on.
    pub hostname: Hostname<'a>,
    /// The program it happened in.
    pub app_name: AppName<'a>,
    /// The process, or what else tells one run of the program from another.
    pub procid: ProcId<'a>,
    /// The kind of the message.
    pub msgid: MsgId<'a>,
}

impl Header<'_> {
    /// Appends the header. [`StructuredData`](crate::StructuredData) follows.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.pri.encode(out);
        // VERSION (RFC 5424, section 6.2.2).
        out.extend_from_slice(b"1 ");
        match self.timestamp {
            Some(timestamp) => timestamp.encode(out),
            None => out.push(b'-'),
        }
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
