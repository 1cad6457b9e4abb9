//! Maps Fluent Bit's records to RFC 5424 messages, by an output's configuration.
//!
//! ```text
//! keys of an [OUTPUT] -> config::Config
//!                           v
//! tag, chunk -> chunk::LogEvents -> message::Mapper -> frames of one syslog::Batch
//!               (msgpack, in      identity.rs    container and namespace of the record
//!                place)           selection.rs   containers, labels and streams that are sent
//!                                 template.rs    values from record accessors
//! ```
//!
//! No sockets, no threads and no C ABI: Fluent Bit's plugin, the controller (for
//! Kubernetes' Events) and tests map by the same code. Mapping allocates nothing for
//! a record, and needs less stack than the 24 KiB that Fluent Bit gives to a flush.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod config;
pub mod hostname;
pub mod identity;
pub mod message;
pub mod notice;
pub mod selection;
pub mod severity;
pub mod template;

pub use self::config::{Config, ConfigError, Properties};
pub use self::message::{Mapper, Tally, Workspace};
