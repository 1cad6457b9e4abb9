//! The C ABI of Fluent Bit's Go plugins, for libraries with an output or an input.
//!
//! ```text
//! host ── FLBPluginRegister ──> library   Plugin::register, log_panics
//!      ── FLBPluginInit ──────> library   InstanceProperties: its section's keys
//!      <── log ───────────────            Log -> Host::print
//!      <── records ───────────            Input::append (an input)
//!      <── metrics ───────────            Host::metrics -> cmetrics::Registry -> Metric
//! ```
//!
//! A library exports the functions that Fluent Bit looks up by name, with the types of
//! [`bindings`], and catches panics in all of them ([`catch_panic`]). The functions of the
//! host are looked up by name as well, because the table that Fluent Bit passes differs
//! between versions.

#[allow(
    clippy::pedantic,
    missing_docs,
    non_camel_case_types,
    dead_code,
    reason = "generated"
)]
pub mod bindings;
pub mod cmetrics;
mod host;
mod input;
mod instance;
mod log;
mod panic;
mod plugin;
mod properties;
mod symbol;
mod text;

pub use host::{Host, Level};
pub use input::Input;
pub use log::{Limiter, Log};
pub use panic::{catch_panic, log_panics};
pub use plugin::{Kind, Plugin};
pub use properties::InstanceProperties;
