//! `syslog_sink`: an output plugin for Fluent Bit that delivers records as
//! RFC 5424 messages.
//!
//! ```text
//! abi::exports  FLBPluginFlushCtx(tag, chunk)
//!   -> output   Output::flush
//!   -> mapper (crate)     Mapper::map_chunk: chunk -> frames of one batch
//!   -> queue (crate)      Writer::append -> FLB_OK
//!      transport (crate)  Destination::deliver -> event loop -> session -> TLS, TCP, RELP or UDP
//!                         -> acknowledged -> FLB_OK (without a queue)
//! abi::host     what the plugin asks of Fluent Bit: properties, log, metrics
//! ```
//!
//! Everything up to the batch runs on the thread that calls, allocates nothing
//! for a record, and needs little stack: Fluent Bit gives it 24 KiB.
#![deny(unsafe_code)]

mod abi;
mod by_folder;
mod log;
mod metrics;
mod orphans;
mod output;
mod report;
mod resume;
mod route;
mod witness;
