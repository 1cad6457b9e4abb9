//! Chunks: what Fluent Bit hands to an output.

pub mod events;
pub mod fields;
pub mod json;
pub mod msgpack;

pub use events::{Event, Events, Record, Time};
pub use fields::{Fields, Metadata};
pub use msgpack::{Map, Value};
