//! What the event loop and a driver pass to each other.

use std::cell::RefCell;
use std::time::Instant;

use mio::{Registry, Token};

/// What the event loop gives a driver for one turn.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    pub(crate) token: Token,
    /// Memory for what is read from a queue.
    pub(crate) scratch: &'a RefCell<Vec<u8>>,
}

/// What a driver needs from the event loop after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Nothing,
    /// The name of the server at this index looked up.
    LookUp(usize),
}
