//! `syslog_sink`: a Fluent Bit output plugin that delivers records as RFC 5424 messages.
//!
//! ```text
//! exports       FLBPluginFlushCtx(tag, chunk)
//!   -> output   Output::flush
//!   -> mapper (crate)     Mapper::map_groups: chunk -> frames of one batch
//!   -> queue (crate)      Writer::append -> FLB_OK
//!      positions (crate)  Ledger::take: what the queue has of each container
//!      transport (crate)  Destination::deliver -> event loop -> session -> TLS, TCP, RELP or UDP
//!                         -> acknowledged -> FLB_OK (without a queue)
//! fluent-bit (crate)    Fluent Bit's functions for properties, log and metrics
//! ```
//!
//! Everything up to the batch runs on the calling thread, does not allocate per record,
//! and needs little stack: Fluent Bit provides 24 KiB.
#![deny(unsafe_code)]

mod announcement;
mod connection_log;
#[allow(unsafe_code, reason = "the C ABI requires unsafe code")]
mod exports;
mod loss_report;
mod metrics;
mod orphaned_queues;
mod output;
mod partial_deliveries;
mod route;
mod shared;
