//! Chunks: what Fluent Bit hands to an output.

pub mod events;
pub mod json;
pub mod msgpack;

pub use events::{Event, Events, Time};
pub use msgpack::{Map, Value};
