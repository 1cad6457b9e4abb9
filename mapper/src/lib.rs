//! Maps Fluent Bit records to RFC 5424 messages, according to an output's
//! configuration.
//!
//! ```text
//! keys of an [OUTPUT] -> config::Config
//!                           v
//! tag, chunk -> chunk::LogEvents -> message::Mapper -> frames of one syslog::Batch
//!               (zero-copy        identity.rs    container and namespace of the record
//!                msgpack)         selection.rs   selected containers, labels and streams
//!                                 template.rs    values of record accessors
//! ```
//!
//! The crate has no sockets, no threads and no C ABI: the Fluent Bit plugin, the
//! controller (for Kubernetes Events) and tests share it. Mapping does not allocate
//! per record, and needs less stack than the 24 KiB that Fluent Bit provides for a
//! flush.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod config;
pub mod hostname;
pub mod identity;
pub mod message;
pub mod notice;
pub mod scope;
pub mod selection;
pub mod severity;
pub mod template;

pub use self::config::{Config, ConfigError, Properties};
pub use self::message::{Mapper, Tally, Workspace};
