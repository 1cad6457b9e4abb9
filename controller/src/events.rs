//! Delivery of Kubernetes Events to sinks, by the leading controller.
//!
//! ```text
//! API server -> watch -> occurrence -> exchange: a queue for each sink that wants it
//!            -> port: record -> the plugin's mapper -> transport -> acknowledged
//!            -> checkpoint, from which the next leader goes on
//! ```

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
