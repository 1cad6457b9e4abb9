//! A network namespace behind a network with configurable delay and loss.
//!
//! ```text
//!  this namespace            the middle                       inside
//!  vxlan ----- veth ----- relay: delay, loss ----- veth ----- vxlan
//! ```
//!
//! Both sides see an ordinary link. Its packets pass the relay in UDP datagrams. The
//! kernel's network emulation (netem) would also work, but many kernels lack it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Skipped;

/// The interval at which an idle relay checks whether it must stop.
const TICK: Duration = Duration::from_millis(20);
/// The port of VXLAN (RFC 7348, section 5).
const VXLAN: u16 = 4789;

/// The treatment of packets, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The delay of each packet.
    pub delay: Duration,
    /// The percentage of packets that are lost.
    pub loss: u64,
    /// The number of TCP resets that are lost next.
    pub resets: u64,
}

/// A network namespace, which is deleted with all its links when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    names: Names,
    weather: Arc<Mutex<Weather>>,
    stop: Arc<AtomicBool>,
    relays: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Names {
    inside: String,
    middle: String,
    link: String,
    net: u8,
}

static NEXT: AtomicU8 = AtomicU8::new(1);

impl Namespace {
    /// Creates a namespace.
    ///
    /// # Errors
    ///
    /// Returns an error if namespaces are not permitted, or `ip` is missing.
    pub fn new() -> Result<Self, Skipped> {
        for (program, package) in [("ip", "iproute2"), ("ethtool", "ethtool")] {
            if rig::program(program).is_none() {
                return Err(Skipped(format!(
                    "{program} is not installed (Debian: {package})"
                )));
            }
        }
        // Other processes have their own namespaces at the same time.
        let own = (std::process::id().wrapping_mul(61) % 251) as u8;
        let net = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 254 + 1;
        let id = format!("{}-{net}", std::process::id() % 100_000);
        let mut namespace = Self {
            names: Names {
                inside: format!("sink-in-{id}"),
                middle: format!("sink-mid-{id}"),
                link: format!("s{id}"),
                net,
            },
            weather: Arc::default(),
            stop: Arc::default(),
            relays: Vec::new(),
        };
        for command in namespace.names.commands() {
            if !run(&command) {
                return Err(Skipped(format!(
                    "network namespaces cannot be created here ({command} fails)"
                )));
            }
        }
        namespace.start_relays();
        Ok(namespace)
    }

    /// Returns the address of this side.
    #[must_use]
    pub fn here(&self) -> String {
        format!("10.214.{}.1", self.names.net)
    }

    /// Returns a command prefix that runs a command inside the namespace.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.names.inside]
            .map(str::to_owned)
            .to_vec()
    }

    /// Changes the delay and the loss, effective immediately.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    fn start_relays(&mut self) {
        let Names { middle, net, .. } = &self.names;
        let sockets = thread::scope(|scope| {
            let open = scope.spawn(|| {
                // Changes the namespace of this thread only, which exits with the
                // relay.
                let middle = File::open(format!("/run/netns/{middle}")).unwrap();
                let kind = LinkNameSpaceType::Network;
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&middle), Some(kind)).unwrap();
                [2, 5].map(|host| UdpSocket::bind((format!("10.213.{net}.{host}"), VXLAN)).unwrap())
            });
            open.join().unwrap()
        });
        let peers = [1, 6].map(|host| format!("10.213.{net}.{host}:{VXLAN}").parse().unwrap());
        for (from, to) in [(0, 1), (1, 0)] {
            let relay = Relay {
                from: sockets[from].try_clone().unwrap(),
                to: sockets[to].try_clone().unwrap(),
                peer: peers[to],
                weather: Arc::clone(&self.weather),
                stop: Arc::clone(&self.stop),
            };
            self.relays.push(thread::spawn(move || relay.run()));
        }
    }
}

impl Names {
    fn commands(&self) -> Vec<String> {
        let Self {
            inside,
            middle,
            link,
            net,
        } = self;
        let vxlan = |remote: &str| format!("type vxlan id {net} remote {remote} dstport {VXLAN}");
        let (to_here, to_inside) = (format!("10.213.{net}.2"), format!("10.213.{net}.5"));
        vec![
            format!("ip netns add {middle}"),
            format!("ip netns add {inside}"),
            format!("ip -n {inside} link set lo up"),
            format!("ip link add {link}a type veth peer name {link}b netns {middle}"),
            format!("ip address add 10.213.{net}.1/30 dev {link}a"),
            format!("ip link set {link}a up"),
            format!("ip -n {middle} address add {to_here}/30 dev {link}b"),
            format!("ip -n {middle} link set {link}b up"),
            format!("ip -n {middle} link add {link}c type veth peer name {link}d netns {inside}"),
            format!("ip -n {middle} address add {to_inside}/30 dev {link}c"),
            format!("ip -n {middle} link set {link}c up"),
            format!("ip -n {inside} address add 10.213.{net}.6/30 dev {link}d"),
            format!("ip -n {inside} link set {link}d up"),
            format!("ip link add {link}v {}", vxlan(&to_here)),
            format!("ip address add 10.214.{net}.1/30 dev {link}v"),
            format!("ip link set {link}v up"),
            format!("ip -n {inside} link add {link}w {}", vxlan(&to_inside)),
            format!("ip -n {inside} address add 10.214.{net}.2/30 dev {link}w"),
            format!("ip -n {inside} link set {link}w up"),
            // The relay forwards bytes without checksum or segmentation offload, so
            // packets must be complete.
            format!("ethtool -K {link}v tx off"),
            format!("ip netns exec {inside} ethtool -K {link}w tx off"),
        ]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            let _ = relay.join();
        }
        let Names {
            inside,
            middle,
            link,
            ..
        } = &self.names;
        // Partially created namespaces are deleted too.
        for command in [
            format!("ip link delete {link}v"),
            format!("ip link delete {link}a"),
            format!("ip netns delete {inside}"),
            format!("ip netns delete {middle}"),
        ] {
            run(&command);
        }
    }
}

/// One direction of the relay.
struct Relay {
    from: UdpSocket,
    to: UdpSocket,
    peer: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    stop: Arc<AtomicBool>,
}

impl Relay {
    fn run(self) {
        let mut buffer = vec![0; 65_536];
        let mut on_the_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut count: u64 = 0;
        while !self.stop.load(Ordering::Relaxed) {
            while let Some((_, packet)) = on_the_way.pop_front_if(|(at, _)| *at <= Instant::now()) {
                // The packet is lost if the peer is gone.
                let _ = self.to.send_to(&packet, self.peer);
            }
            let wait = on_the_way.front().map_or(TICK, |(at, _)| {
                at.saturating_duration_since(Instant::now()).min(TICK)
            });
            self.from
                .set_read_timeout(Some(wait.max(Duration::from_micros(100))))
                .unwrap();
            match self.from.recv(&mut buffer) {
                Ok(length) => {
                    count += 1;
                    let packet = &buffer[..length];
                    let mut weather = self.weather.lock();
                    let is_lost = if weather.resets > 0 && is_reset(packet) {
                        weather.resets -= 1;
                        true
                    } else {
                        // Distributed over each hundred, and the same in every run.
                        count * 61 % 100 < weather.loss
                    };
                    if !is_lost {
                        let at = Instant::now() + weather.delay;
                        on_the_way.push_back((at, packet.to_vec()));
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // An ICMP error: the peer does not exist yet.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("the relay cannot read: {error}"),
            }
        }
    }
}

/// Returns whether a VXLAN packet carries an IPv4 TCP segment with the flag RST.
fn is_reset(packet: &[u8]) -> bool {
    const VXLAN_HEADER: usize = 8;
    const ETHERNET: usize = 14;
    const TCP: u8 = 6;
    const RST: u8 = 4;
    let Some(ip) = packet.get(VXLAN_HEADER + ETHERNET..) else {
        return false;
    };
    let is_tcp = ip.first().is_some_and(|first| first >> 4 == 4) && ip.get(9) == Some(&TCP);
    let header = usize::from(ip.first().unwrap_or(&0) & 0xf) * 4;
    is_tcp && ip.get(header + 13).is_some_and(|flags| flags & RST != 0)
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
