//! A strict syslog receiver for tests. It reports an error for everything that the RFCs
//! forbid.
//!
//! ```text
//! socket (server) -> frames (framing) -> messages (message) -> Received
//! ```
#![forbid(unsafe_code)]

pub mod framing;
pub mod message;
pub mod server;

pub use framing::{FramingError, Splitter};
pub use message::{Message, ParseError};
pub use server::{Listen, Options, Received, Receiver, TlsFiles};
