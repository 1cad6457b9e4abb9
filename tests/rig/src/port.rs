//! Ports for servers that are configured with a port.

use std::net::{Ipv4Addr, SocketAddr};

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

/// The sockets that reserve the ports until this process exits.
static KEPT: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Returns a free TCP port that the kernel gives to no other process while this process
/// runs. A server that sets `SO_REUSEADDR`, as almost all servers do, can listen on the
/// port repeatedly.
///
/// # Panics
///
/// Panics if there is no free port.
#[must_use]
pub fn free_port() -> u16 {
    let keep = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        // Set after `bind`, so that a port reserved by another process was not free.
        // Sockets with this option share a port until one of them listens (socket(7)).
        socket.set_reuse_address(true)?;
        let address = socket.local_addr()?;
        KEPT.lock().push(socket);
        std::io::Result::Ok(address.as_socket_ipv4().expect("the socket is IPv4").port())
    };
    keep().expect("a port is free")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_a_listening_server_can_use_a_reserved_port() {
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        for _ in 0..2 {
            let server = TcpListener::bind(address).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            server.accept().unwrap();
        }
        // The kernel chooses ports by the same rule.
        let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let taken = other.bind(&address.into()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }
}
