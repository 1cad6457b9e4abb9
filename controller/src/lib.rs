//! From sinks to Fluent Bit's configuration on every node.
//!
//! ```text
//! API server -> watch -> snapshot (what is known)
//!                            v
//!                          plan (what shall be): sink (checked) -> render (files)
//!                            v
//! API server <- apply (Secrets, DaemonSet) <- status (what each sink is told)
//! ```
//!
//! `run` has them follow each other in the one controller that leads (`lease`).
//! The plan is a pure function: it reads no
//! clock and asks nobody.
#![forbid(unsafe_code)]

pub mod agent;
pub mod apply;
pub mod lease;
pub mod plan;
pub mod render;
pub mod resources;
pub mod run;
pub mod snapshot;
pub mod status;
pub mod watch;
