//! What the kernel has to be asked for directly.
#![allow(unsafe_code, reason = "calls that no safe library offers")]

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
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

/// The receive window that the peer advertised last, in bytes
/// (`tcpi_snd_wnd`, since Linux 5.4).
///
/// # Errors
///
/// Where the kernel does not know it.
pub(crate) fn peer_window(socket: &impl AsRawFd) -> io::Result<usize> {
    // SAFETY: all zeros is a value of this structure of integers.
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

/// Has the kernel ask the peer after a second whether the connection is still
/// there: the least that `TCP_KEEPIDLE` takes.
pub(crate) fn probe_soon(socket: &mio::net::TcpStream) -> io::Result<()> {
    let second = Duration::from_secs(1);
    let probes = TcpKeepalive::new().with_time(second).with_interval(second);
    SockRef::from(socket).set_tcp_keepalive(&probes)
}

/// Has the kernel put a word into the socket's error queue, which wakes a poll,
/// whenever the end of a write is acknowledged (`SO_TIMESTAMPING`, socket(7)).
///
/// # Errors
///
/// Where the kernel does not know how.
pub(crate) fn enable_ack_signals(socket: &impl AsRawFd) -> io::Result<()> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_TX_ACK | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    // SAFETY: the option is an int, and the address and size are those of one.
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

/// Takes the words out of the error queue. What they say is of no interest:
/// [`unacknowledged`] knows it better.
pub(crate) fn clear_error_queue(socket: &impl AsRawFd) {
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    loop {
        // SAFETY: all zeros is a message header without buffers.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        // SAFETY: there is no buffer that the kernel could write to.
        let answer = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        if answer < 0 {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use mio::{Events, Interest, Poll, Token};

    use super::*;

    #[test]
    fn the_window_of_a_peer_that_reads_nothing_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        let open = match peer_window(&socket) {
            Ok(window) => window,
            Err(error) => return eprintln!("skipped: this kernel knows no window: {error}"),
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
            return eprintln!("skipped: this kernel has no SO_TIMESTAMPING: {error}");
        }
        // Only errors are waited for, which every poll reports.
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
