//! Readers of the chunks that Fluent Bit passes to an output.

pub mod fields;
pub mod json;
pub mod log_events;
pub mod msgpack;

pub use fields::{ContainerMetadata, Fields};
pub use log_events::{GroupMetadata, LogEvent, LogEvents, Record, Time, is_of_pod_logs};
pub use msgpack::{Map, Value};
