//! `pod_logs`: a Fluent Bit input plugin that reads the logs of a node's containers.
//!
//! ```text
//! exports       FLBPluginInputCallbackCtx, once a second
//!   -> input    PodLogs::work
//!   -> reader (crate)     Reader::turn: the texts of one container
//!   -> intake   texts -> records.rs: groups of records with the container and the place
//!   -> fluent-bit (crate) Input::append -> Fluent Bit -> outputs -> queues
//!   <- queues   positions (crate): what the queues have
//!      flow     the limit of what is on its way
//! ```
#![deny(unsafe_code)]

mod config;
#[allow(unsafe_code, reason = "the C ABI requires unsafe code")]
mod exports;
mod flow;
mod input;
mod intake;
mod metrics;
mod position;
mod queues;
mod records;
