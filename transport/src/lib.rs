//! The delivery of batches to syslog receivers, on one thread for all sinks of a
//! process.
//!
//! ```text
//! Destination::deliver(batch) -> Sender's event loop -> Driver (one per sink)
//!   -> syslog::Session decides -> Connection: TCP, TLS, RELP or UDP -> acknowledged
//! ```
//!
//! The thread blocks only in the poll: names are looked up on separate threads
//! (`resolve.rs`), and the session has a timeout for every wait. A receiver that is
//! down therefore does not delay the other sinks.

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
