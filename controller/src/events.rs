//! Kubernetes' Events to the sinks, from the controller that leads.
//!
//! ```text
//! API server -> watch -> occurrence -> exchange: a queue for each sink that wants it
//!            -> port: record -> the plugin's mapper -> transport -> acknowledged
//!            -> checkpoint, from which the next leader goes on
//! ```

mod checkpoint;
mod exchange;
mod join;
mod message;
mod occurrence;
mod outlet;
mod port;
mod relay;
mod route;
mod store;

pub(crate) use self::relay::Relay;
pub use self::route::Routes;
pub(crate) use self::route::Way;
