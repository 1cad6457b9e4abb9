//! The controller: turns sinks into Fluent Bit's configuration on every node.
//!
//! ```text
//! API server -> watch, references -> snapshot (the known state)
//!                                        v
//!                    plan (the wanted state): each sink checked -> render (files)
//!                                        v
//!                    history (the rollout): trial, roll, rollback
//!                                        v
//! API server <- apply (state, Secrets, DaemonSet)
//! API server <- status (conditions of each sink) <- delivery <- scrape <- agents
//! ```
//!
//! [`run`] is the loop of the leading controller ([`lease`]); its `round` is the equivalent of
//! `reconcile` in other controllers on kube-rs, for the whole cluster at once. Plan and history
//! are pure functions, without a clock and without requests.
#![forbid(unsafe_code)]

pub mod agent;
pub mod apply;
pub mod clock;
pub mod configuration;
pub mod delivery;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod fleet;
pub mod history;
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
