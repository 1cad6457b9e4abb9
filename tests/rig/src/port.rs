//! Ports for servers that are told where to listen.

use std::net::{Ipv4Addr, SocketAddr};

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

/// What keeps the ports, for as long as this process runs.
static KEPT: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// A TCP port that nobody listens on, and that the kernel gives to nobody else
/// while this process runs. A server that sets `SO_REUSEADDR` can listen on it,
/// as almost all of them do, and again once it has ended.
///
/// # Panics
///
/// Where there is none.
#[must_use]
pub fn free_port() -> u16 {
    let keep = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        // Only now, so that what another process keeps was not free. Sockets that
        // both say so share a port until one listens (socket(7)).
        socket.set_reuse_address(true)?;
        let address = socket.local_addr()?;
        KEPT.lock().push(socket);
        std::io::Result::Ok(address.as_socket_ipv4().expect("it is IPv4").port())
    };
    keep().expect("there is a free port")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_is_a_servers_and_nobody_elses() {
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        for _ in 0..2 {
            let server = TcpListener::bind(address).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            server.accept().unwrap();
        }
        // The kernel's own choice is made by the same rule.
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let taken = other.bind(&address.into()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }
}
