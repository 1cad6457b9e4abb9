//! Watches a connection that one side closed in an orderly way. Acknowledged
//! bytes may still be unread; a reset shows that they were discarded.
//!
//! ```text
//! closed by the peer   nothing is sent any more, not even a FIN: with the
//!                      connection closed from both sides, the peer's kernel
//!                      sends no reset for what is unread
//! closed from here     close_notify and FIN are sent; a peer that closes as
//!                      well has read what came long before
//! ```

use syslog::session::{End, Side};

use crate::Error;
use crate::connection::Connection;

pub(crate) struct HalfClosed {
    connection: Connection,
    pub(crate) server: usize,
    by: Side,
    /// The error to report when the watch ends.
    pub(crate) error: Error,
}

impl HalfClosed {
    /// Closes the connection from here, or begins to watch for the reset that
    /// follows the peer's close.
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

    /// Returns the end of the connection, once there is a sign of it.
    pub(crate) fn watch(&mut self) -> Option<End> {
        let sign = match self.by {
            Side::Own => self.connection.read().map(drop),
            Side::Peer => self.connection.check(),
        };
        match sign {
            Ok(()) => None,
            Err(Error::Closed { .. }) => Some(End::Answered),
            Err(error) => {
                self.error = error;
                Some(End::Broken)
            }
        }
    }
}
