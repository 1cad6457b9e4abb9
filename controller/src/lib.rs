//! From sinks to Fluent Bit's configuration on every node.
//!
//! ```text
//! API server -> watch, references -> snapshot (what is known)
//!                                        v
//!                    plan (what shall be): each sink checked -> render (files)
//!                                        v
//!                    history (which revision): tried, good, taken back
//!                                        v
//! API server <- apply (state, Secrets, DaemonSet)
//! API server <- status (what each sink is told) <- delivery <- scrape <- agents
//! ```
//!
//! `run` has them follow each other in the one controller that leads (`lease`).
//! Plan and history are pure functions: they read no clock and ask nobody.
#![forbid(unsafe_code)]

pub mod agent;
pub mod apply;
pub mod clock;
pub mod configuration;
pub mod delivery;
pub mod endpoint;
pub mod events;
pub mod fleet;
pub mod history;
pub mod lanes;
pub mod lease;
pub mod lenient;
pub mod monitor;
pub mod names;
mod owner;
pub mod placement;
pub mod plan;
pub mod preview;
mod references;
mod render;
pub mod run;
pub mod scrape;
pub mod settings;
pub mod sink_test;
pub mod snapshot;
pub mod status;
pub mod tenants;
mod value;
pub mod watch;
