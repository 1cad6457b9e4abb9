//! The look-up of host names, outside of the event loop.
//!
//! `getaddrinfo` blocks until the resolver returns, so each look-up has a separate
//! thread: an unresponsive DNS server of one tenant delays no other sink. A sink has at
//! most one look-up per server in progress, and receives the result even if its
//! connection attempt has timed out. IP addresses need no look-up.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread::{Builder, JoinHandle};

/// The stack size of a look-up's thread: enough for `getaddrinfo` and the libraries
/// that it loads, and far less than the default.
const STACK: usize = 256 * 1024;

/// Looks up `host` on a new thread, and passes the result to `done` on that thread.
pub(crate) fn look_up(
    host: String,
    port: u16,
    done: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name("syslog-resolve".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            done(
                (host.as_str(), port)
                    .to_socket_addrs()
                    .map(Iterator::collect),
            );
        })
}
