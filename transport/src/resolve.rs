//! Host names to addresses, off the event loop.
//!
//! `getaddrinfo` blocks for as long as the resolver likes, so each look-up has
//! a thread of its own: a name whose server does not answer delays nobody
//! else's. A sink has one look-up under way at a time, and is called back
//! also when it gave up waiting.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread::{Builder, JoinHandle};

/// `getaddrinfo` and the libraries it loads need some; a tenth of the default.
const STACK: usize = 256 * 1024;

/// Looks `host` up and passes the result to `done`, on another thread.
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
