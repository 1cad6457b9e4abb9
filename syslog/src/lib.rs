//! The syslog protocol without I/O: RFC 5424 messages, their framing, and the
//! state machine that delivers them.
//!
//! This crate opens no sockets and reads no clocks. Messages are appended to the
//! caller's buffer, and the caller reports to a [`Session`] what happened and when.
//!
//! ```text
//! HeaderPrefix -> HeaderSource -> StructuredData -> text -> Frame -> Batch -> Session -> the caller's connection
//! ```
//!
//! Each type holds only valid values: a [`Hostname`] is never longer than RFC 5424
//! allows, an [`SdName`] never contains a quote, and a [`Pri`] is never above 191.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod batch;
pub mod control;
pub mod field;
pub mod header;
pub mod pri;
pub mod relp;
pub mod replay;
pub mod session;
pub mod structured_data;
pub mod text;
pub mod timestamp;
pub mod totals;

pub use backoff::Backoff;
pub use batch::{Batch, Frame, Framing};
pub use field::{AppName, Field, FieldError, Hostname, MsgId, ProcId, Scratch};
pub use header::{HeaderPrefix, HeaderSource};
pub use pri::{Facility, Pri, Severity};
pub use relp::{Relp, RelpError};
pub use replay::ReplayBuffer;
pub use session::{Outcome, Policy, Session};
pub use structured_data::{
    DuplicateSdId, SdId, SdIdBuf, SdName, SdNameBuf, SdNameError, StructuredData,
};
pub use timestamp::{SecondCache, Timestamp, TimestampError};
pub use totals::{Totals, Volume};
