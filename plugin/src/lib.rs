//! `syslog_sink`: an output plugin for Fluent Bit that delivers records as
//! RFC 5424 messages.
//!
//! ```text
//! abi::exports  FLBPluginFlushCtx(tag, chunk)
//!   -> output   Output::flush
//!   -> message  Mapper::map_chunk: chunk -> identity -> template -> frames of one batch
//!   -> transport (crate)  Sink::deliver: event loop -> session -> TLS, TCP, RELP or UDP
//!   -> acknowledged -> FLB_OK
//! ```
//!
//! Everything up to the batch runs on the thread that calls, allocates nothing
//! for a record, and needs little stack: Fluent Bit gives it 24 KiB.
#![deny(unsafe_code)]

pub mod abi;
pub mod by_folder;
pub mod chunk;
pub mod config;
pub mod hostname;
pub mod identity;
pub mod log;
pub mod message;
pub mod metrics;
pub mod orphans;
pub mod output;
pub mod report;
pub mod resume;
pub mod route;
pub mod selection;
pub mod severity;
pub mod template;
pub mod witness;
