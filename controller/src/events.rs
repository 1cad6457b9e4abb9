//! Delivery of Kubernetes Events to sinks, by the leading controller.
//!
//! ```text
//! API server -> watch -> occurrence -> distributor: a queue for each sink that wants it
//!            -> message -> the plugin's mapper -> transport -> acknowledged
//!            -> checkpoint, from which the next leader continues
//! ```
//!
//! Logs and Events use the same mapper and its configuration. Facility, HOSTNAME, structured data,
//! splitting and escapes are the same code for both, and so are TLS, framing, replay and RELP.
//! Certificates stay in memory: the plugin's parser gets the content of files from its caller.

mod checkpoint;
mod connection;
mod distributor;
mod join;
mod message;
mod occurrence;
mod relay;
mod route;
mod sink_queue;
mod store;

pub(crate) use self::relay::Relay;
pub(crate) use self::route::EventOutput;
pub use self::route::Routes;
