//! The C ABI of Fluent Bit's Go plugins, with all unsafe code of this crate.
#![allow(unsafe_code, reason = "the C ABI requires unsafe code")]

#[allow(
    clippy::pedantic,
    missing_docs,
    non_camel_case_types,
    dead_code,
    unreachable_pub,
    reason = "generated"
)]
mod bindings;
pub(crate) mod cmetrics;
pub(crate) mod exports;
pub(crate) mod host;
mod panic;
mod symbol;
