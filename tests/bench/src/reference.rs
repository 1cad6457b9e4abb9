//! The lower bound of the costs: a loop that writes prepared bytes in large parts and
//! does nothing else.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::NamedTempFile;

/// The sizes of writes, records and buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// The bytes of a write.
    pub(crate) write: usize,
    /// The bytes of a TLS record's content.
    pub(crate) record: usize,
    /// The socket's send buffer, or `None` for the kernel's default.
    pub(crate) send_buffer: Option<usize>,
}

impl Default for Sizes {
    /// The sizes that the plugin uses.
    fn default() -> Self {
        Self {
            write: 256 * 1024,
            record: 16 * 1024,
            send_buffer: None,
        }
    }
}

/// The loop, in its own process so that nothing else is measured.
#[derive(Debug)]
pub(crate) struct Reference {
    bytes: NamedTempFile,
    ca: Option<PathBuf>,
    sizes: Sizes,
}

impl Reference {
    /// The argument that selects this mode of the program.
    pub(crate) const MODE: &'static str = "reference";

    /// Creates a loop that sends these bytes; over TLS if there is a CA.
    pub(crate) fn new(bytes: &[u8], ca: Option<&Path>) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Self {
            bytes: file,
            ca: ca.map(Path::to_owned),
            sizes: Sizes::default(),
        }
    }

    pub(crate) const fn with(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// Returns the processor time of the process.
    pub(crate) fn run(&self, address: &str, rounds: u32) -> Duration {
        let Sizes {
            write,
            record,
            send_buffer,
        } = self.sizes;
        let numbers = [write, record, send_buffer.unwrap_or(0), rounds as usize];
        let output = Command::new(std::env::current_exe().unwrap())
            .args([Self::MODE, address])
            .args(numbers.map(|number| number.to_string()))
            .arg(self.bytes.path())
            .args(&self.ca)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Duration::from_micros(
            text.trim()
                .parse()
                .expect("the reference process prints its time"),
        )
    }
}

/// Returns the time to establish each of several connections, measured by a process
/// that this command runs.
pub(crate) fn connects(address: &str, wrapper: &[String]) -> Vec<Duration> {
    let output = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap())
        .args([Reference::MODE, address])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| Duration::from_micros(line.parse().expect("the process prints times")))
        .collect()
}

/// `ADDRESS`: prints the microseconds to establish each of several connections.
fn connect(address: &str) {
    for _ in 0..20 {
        let before = Instant::now();
        TcpStream::connect(address).unwrap();
        println!("{}", before.elapsed().as_micros());
    }
}

/// `ADDRESS WRITE RECORD SEND-BUFFER ROUNDS FILE [CA]`: sends the file `ROUNDS` times,
/// and prints the microseconds of processor time.
pub(crate) fn main(arguments: &[String]) {
    let (address, numbers, file, ca) = match arguments {
        [address] => return connect(address),
        [address, a, b, c, d, file, ca @ ..] => (address, [a, b, c, d], file, ca),
        _ => panic!("reference ADDRESS [WRITE RECORD SEND-BUFFER ROUNDS FILE [CA]]"),
    };
    let bytes = fs::read(file).unwrap();
    let [write, record, send_buffer, rounds] =
        numbers.map(|number| number.parse::<usize>().expect("a number"));
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    if send_buffer > 0 {
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, send_buffer).unwrap();
    }
    let before = processor_time();
    match ca.first() {
        None => send(&socket, &bytes, write, rounds),
        Some(ca) => {
            let mut stream = StreamOwned::new(client(ca, record), socket);
            send(&mut stream, &bytes, write, rounds);
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    }
    println!("{}", processor_time().saturating_sub(before).as_micros());
}

fn send(mut stream: impl Write, bytes: &[u8], write: usize, rounds: usize) {
    for _ in 0..rounds {
        for part in bytes.chunks(write) {
            stream.write_all(part).unwrap();
        }
    }
    stream.flush().unwrap();
}

fn client(ca: &str, record: usize) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // With the header, the type and the tag of a record (RFC 8446, section 5.2).
    config.max_fragment_size = (record < 16 * 1024).then_some(record + 5);
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Returns the user and system time of this process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
