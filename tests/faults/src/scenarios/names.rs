//! Host names that cannot be resolved, and addresses that change.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use host::Host;
use receiver::Listen;
use rig::port::free_port;
use rig::wait::BOUND;

use super::receiver_on;
use crate::load::{Delivery, Load, texts};
use crate::{Outcome, Skipped, mount};

const NAME: &str = "receiver.test";

/// A DNS server that knows no name.
struct DnsServer {
    socket: UdpSocket,
}

impl DnsServer {
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

    fn start() -> Result<Self, Skipped> {
        match UdpSocket::bind((Self::ADDRESS, 53)) {
            Ok(socket) => Ok(Self { socket }),
            Err(error) => Err(Skipped(format!("cannot bind port 53: {error}"))),
        }
    }

    /// Answers until a name is requested again. A lookup sends one query for each
    /// address family.
    fn wait_for_a_second_look_up(&self) {
        const FAILURE: [u8; 2] = [0x81, 0x82];
        const ADDRESS_RECORD: [u8; 2] = [0, 1];
        self.socket.set_read_timeout(Some(BOUND)).unwrap();
        let mut query = [0; 512];
        let mut look_ups = 0;
        while look_ups < 2 {
            let (length, from) = self.socket.recv_from(&mut query).unwrap();
            // The type precedes the class, at the end of the question.
            let kind = query[NAME.len() + 14..].first_chunk();
            look_ups += usize::from(kind == Some(&ADDRESS_RECORD));
            query[2..4].copy_from_slice(&FAILURE);
            self.socket.send_to(&query[..length], from).unwrap();
        }
    }
}

/// The host's own table of names changes while it runs.
pub(crate) fn change(delivery: Delivery) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    let no_servers = folder.path().join("resolv.conf");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    fs::write(
        &no_servers,
        format!("nameserver {}\noptions attempts:1\n", DnsServer::ADDRESS),
    )
    .unwrap();
    let wrapper = mount::wrapper(&format!(
        "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf",
        hosts.display(),
        no_servers.display()
    ))?;

    let dns = DnsServer::start()?;
    let load = Load::USUAL;
    let (old, new) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let port = free_port();
    let start = |address| receiver_on(address, port, Listen::Tcp);
    let (first, second) = (start(old), start(new));
    let address = format!("{NAME}:{port}");
    let options = [("servers", address.as_str()), ("transport", "tcp")];
    let host = Host::new().wrapper(&wrapper);
    let mut arrived = Vec::new();
    first.resume_for(1);
    let log = load.deliver_by(host, delivery, &options, || {
        dns.wait_for_a_second_look_up();
        fs::write(&hosts, format!("{old} {NAME}\n")).unwrap();
        first.wait_for_pause(BOUND).unwrap();
        fs::write(&hosts, format!("{new} {NAME}\n")).unwrap();
        first.reset();
        arrived = texts(&first.received());
        drop(first);
        load.wait_for_all(delivery, || {
            [&arrived[..], &texts(&second.received())].concat()
        });
    });
    assert!(
        log.contains("cannot resolve the host name \"receiver.test\""),
        "{log}"
    );
    second.wait_for_the_end();
    arrived.extend(texts(&second.received()));
    Ok(load.compare(arrived).with_replays(1, &load))
}
