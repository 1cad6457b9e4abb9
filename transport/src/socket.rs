//! What the kernel has to be asked for directly.
#![allow(unsafe_code, reason = "an ioctl that no safe library offers")]

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Bytes written to a TCP socket that the peer's kernel has not acknowledged
/// (SIOCOUTQ, tcp(7)).
pub(crate) fn unacknowledged(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ is SIOCOUTQ's number and writes one int to the address.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer == 0 {
        Ok(u64::try_from(bytes).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets what makes a vanished peer be noticed, and sends without delay.
pub(crate) fn tune(
    socket: &mio::net::TcpStream,
    keepalive: Duration,
    user_timeout: Duration,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // Three probes within the time of one more silence.
    let probes = TcpKeepalive::new()
        .with_time(keepalive)
        .with_interval((keepalive / 3).max(Duration::from_secs(1)))
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}
