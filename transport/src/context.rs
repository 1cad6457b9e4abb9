//! The interface between the event loop and a driver.

use std::cell::RefCell;
use std::time::Instant;

use mio::{Registry, Token};

/// The event loop's resources that a driver uses while it runs.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    pub(crate) token: Token,
    /// A buffer for data that is read from a queue.
    pub(crate) scratch: &'a RefCell<Vec<u8>>,
}

/// A driver's request to the event loop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// No request.
    Nothing,
    /// A look-up of the name of the server at this index.
    LookUp(usize),
}
