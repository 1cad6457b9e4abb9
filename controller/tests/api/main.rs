//! The controller against a real API server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

mod delivering;
mod gate;
mod hostile;
mod leading;
mod node;
mod rollout;
mod sinks;
mod world;
