//! Tests of the controller with a real API server, a real Fluent Bit and a real node.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod chart;
mod chart_values;
mod delivering;
mod events;
mod fleet;
mod gate;
mod hostile;
mod leading;
mod node;
mod reading;
mod rendered;
mod rollout;
mod sinks;
mod world;
