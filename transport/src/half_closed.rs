//! A connection that one side has closed in an orderly way. Acknowledged bytes may
//! still be unread. A reset shows that the peer has discarded them.
//!
//! ```text
//! closed by the peer   nothing more is sent, not even a FIN: once both sides have
//!                      closed, the peer's kernel sends no reset for unread bytes
//! closed by us         close_notify and FIN are sent; a peer that then closes as
//!                      well has read everything that arrived long before
//! ```
//!
//! A program that calls `shutdown` or `SSL_shutdown` sends FIN or `close_notify` with
//! bytes unread, and the reset that discards them follows later or never. The socket is
//! therefore kept for `close_timeout`, and the session stays in its state Closing until
//! the kind of end is known. A keepalive probe during the watch detects a reset that
//! was lost on its path.

use syslog::session::{End, Side};

use crate::Error;
use crate::connection::Connection;

pub(crate) struct HalfClosed {
    connection: Connection,
    pub(crate) server: usize,
    by: Side,
    /// The error to report when the connection ends.
    pub(crate) error: Error,
}

impl HalfClosed {
    /// Closes our side of the connection, or probes for the reset that may follow
    /// the peer's close.
    pub(crate) fn new(mut connection: Connection, server: usize, by: Side, error: Error) -> Self {
        match by {
            Side::Own => {
                connection.close();
                connection.shut_down();
            }
            Side::Peer => connection.probe_for_reset(),
        }
        Self {
            connection,
            server,
            by,
            error,
        }
    }

    /// Returns how the connection ended, once that is known.
    pub(crate) fn watch(&mut self) -> Option<End> {
        let result = match self.by {
            Side::Own => self.connection.read().map(drop),
            Side::Peer => self.connection.check_reset(),
        };
        match result {
            Ok(()) => None,
            Err(Error::Closed { .. }) => Some(End::ClosedByBoth),
            Err(error) => {
                self.error = error;
                Some(End::Broken)
            }
        }
    }
}
