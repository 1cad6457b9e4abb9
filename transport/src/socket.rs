//! Socket options and requests of Linux.
//!
//! # Acknowledgements
//!
//! SIOCOUTQ shows what is acknowledged: the peer's kernel has all bytes written, minus
//! those that our own kernel still keeps for retransmission. The kernel reports when to
//! look: with transmit timestamps (`SO_TIMESTAMPING` with `TX_ACK`), it puts an entry
//! into the socket's error queue when the end of a write is acknowledged, which wakes
//! the event loop. With a kernel without this feature, the driver polls, only while
//! data is outstanding.
#![allow(unsafe_code, reason = "no safe library wraps these system calls")]

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Returns the number of bytes written to a TCP socket that the peer's kernel has
/// not acknowledged (SIOCOUTQ, tcp(7)).
pub(crate) fn unacknowledged(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ has the number of SIOCOUTQ, and writes one int to the address.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer == 0 {
        Ok(u64::try_from(bytes).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the receive window that the peer advertised last, in bytes
/// (`tcpi_snd_wnd`, since Linux 5.4).
///
/// # Errors
///
/// Returns an error if the kernel does not report the window.
pub(crate) fn peer_window(socket: &impl AsRawFd) -> io::Result<usize> {
    // SAFETY: all zeros is a valid value of this structure of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to the structure.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    let known = std::mem::offset_of!(libc::tcp_info, tcpi_snd_wnd) + size_of::<u32>();
    if answer != 0 {
        Err(io::Error::last_os_error())
    } else if (length as usize) < known {
        Err(io::ErrorKind::Unsupported.into())
    } else {
        Ok(info.tcpi_snd_wnd as usize)
    }
}

/// Sets the keepalive time to a second, the minimum of `TCP_KEEPIDLE`: the kernel
/// then probes soon whether the connection still exists.
pub(crate) fn probe_soon(socket: &mio::net::TcpStream) -> io::Result<()> {
    let second = Duration::from_secs(1);
    let probes = TcpKeepalive::new().with_time(second).with_interval(second);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}

/// Has the kernel append a message to the socket's error queue, which wakes a poll,
/// each time the end of a write is acknowledged (`SO_TIMESTAMPING`, socket(7)).
///
/// # Errors
///
/// Returns an error if the kernel does not support this.
pub(crate) fn enable_ack_signals(socket: &impl AsRawFd) -> io::Result<()> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_TX_ACK | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    // SAFETY: the option is an int, and the address and size are those of an int.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            ptr::from_ref(&flags).cast(),
            size_of_val(&flags) as libc::socklen_t,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Empties the error queue. The messages are ignored: [`unacknowledged`] is more
/// precise.
pub(crate) fn clear_error_queue(socket: &impl AsRawFd) {
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    loop {
        // SAFETY: all zeros is a valid message header without buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // SAFETY: there is no buffer that the kernel could write to.
        let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        if answer < 0 {
            return;
        }
    }
}

/// Enables keepalive probes and the user timeout, which detect a dead peer, and
/// disables Nagle's algorithm.
pub(crate) fn tune(
    socket: &mio::net::TcpStream,
    keepalive: Duration,
    user_timeout: Duration,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // Three probes within another keepalive time.
    let probes = TcpKeepalive::new()
        .with_time(keepalive)
        .with_interval((keepalive / 3).max(Duration::from_secs(1)))
        .with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(user_timeout))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use mio::{Events, Interest, Poll, Token};

    use super::*;

    #[test]
    fn the_window_of_a_peer_that_does_not_read_shrinks_to_zero() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        let open = match peer_window(&socket) {
            Ok(window) => window,
            Err(error) => {
                return eprintln!("skipped: the kernel does not report the window: {error}");
            }
        };
        assert!(open >= 4096, "{open}");
        socket.set_nonblocking(true).unwrap();
        let data = vec![0; 1 << 20];
        while peer_window(&socket).unwrap() > 0 {
            let _ = socket.write(&data);
        }
    }

    #[test]
    fn an_acknowledgement_wakes_the_poll() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut socket = mio::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        if let Err(error) = enable_ack_signals(&socket) {
            return eprintln!("skipped: the kernel does not support SO_TIMESTAMPING: {error}");
        }
        // Every poll reports errors, and nothing else wakes this one.
        poll.registry()
            .register(&mut socket, Token(0), Interest::PRIORITY)
            .unwrap();
        let (_peer, _) = listener.accept().unwrap();
        socket.write_all(b"hello").unwrap();
        while !events.iter().any(mio::event::Event::is_error) {
            poll.poll(&mut events, Some(Duration::from_secs(30)))
                .unwrap();
            assert!(!events.is_empty(), "nothing woke the poll");
        }
        assert_eq!(unacknowledged(&socket).unwrap(), 0);
        clear_error_queue(&socket);
        assert!(socket.take_error().unwrap().is_none());
    }
}
