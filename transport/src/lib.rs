//! Delivery over real sockets: one thread for all sinks of a process.
//!
//! ```text
//! Destination::deliver(batch) -> Sender's event loop -> Driver (one a sink)
//!   -> syslog::Session decides -> Connection: TCP, TLS, RELP or UDP -> acknowledged
//! ```
//!
//! The thread never blocks but in the poll: names are looked up on threads of
//! their own (`resolve.rs`), and every wait has an end that the session knows.
//! A sink that is down therefore costs the others nothing.

pub mod connection_test;
pub mod endpoint;
pub mod error;
pub mod target;
pub mod tls;

mod attempt;
mod connection;
mod consumer;
mod context;
mod driver;
mod event_loop;
mod half_closed;
mod hint;
mod resolve;
mod sender;
mod servers;
mod socket;

pub use connection::{UDP_MAX_IPV4, UDP_MAX_IPV6};
pub use consumer::QueueState;
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind};
pub use hint::{Hint, Setting};
pub use sender::{Destination, Sender};
pub use target::{DeliveryEvent, Observer, Target, Transport};
