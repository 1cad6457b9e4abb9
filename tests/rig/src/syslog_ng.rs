//! A real syslog-ng, as a receiver whose view of a message is asserted on.
//! `tests/unpack-syslog-ng` unpacks it without installing it.
//!
//! The default is the package's configuration: syslog-ng's built-in settings and the
//! options of Debian's `/etc/syslog-ng/syslog-ng.conf`. In short: messages of up to
//! 65,536 bytes, HOSTNAME replaced by the sender's address, and no flow control.
//! Messages are parsed as RFC 5424.

use std::fmt::Write as _;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::pki::Pair;
use crate::port::free_port;
use crate::syslogd::{Listen, MESSAGES, Syslogd};

/// A source: the driver of syslog-ng and its transport.
#[derive(Clone, Debug)]
pub enum Input {
    /// `network()` over TCP: newline framing.
    Network,
    /// `syslog()` over TCP: octet counting.
    Syslog,
    /// `syslog()` over TLS: octet counting.
    SyslogTls {
        /// The receiver's certificate.
        server: Pair,
        /// The CA of clients' certificates, if they are required.
        client_ca: Option<PathBuf>,
    },
    /// `network()` over UDP.
    Udp,
}

/// A syslog-ng that runs until it is dropped.
#[derive(Debug)]
pub struct SyslogNg(Syslogd);

/// The configuration of a syslog-ng: the package's defaults with changes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Configuration {
    input: Input,
    options: String,
    flow_control: bool,
}

impl SyslogNg {
    /// Starts a syslog-ng with the package's defaults, and waits until it listens.
    /// Prints a reason and returns `None` if syslog-ng cannot be unpacked.
    #[must_use]
    pub fn start(input: &Input) -> Option<Self> {
        Self::configure(input.clone()).start()
    }

    /// Starts a syslog-ng with the caller's configuration, which must listen on this
    /// TCP port. Prints a reason and returns `None` if syslog-ng cannot be unpacked.
    #[must_use]
    pub fn start_with(configuration: &str, dir: TempDir, port: u16) -> Option<Self> {
        spawn(configuration, dir, Listen::Tcp(port))
    }

    /// Returns the package's defaults, which can then be changed.
    pub const fn configure(input: Input) -> Configuration {
        Configuration {
            input,
            options: String::new(),
            flow_control: false,
        }
    }
}

impl Deref for SyslogNg {
    type Target = Syslogd;

    fn deref(&self) -> &Syslogd {
        &self.0
    }
}

impl DerefMut for SyslogNg {
    fn deref_mut(&mut self) -> &mut Syslogd {
        &mut self.0
    }
}

impl Configuration {
    /// Sets the maximum message size in bytes, instead of 65,536.
    pub fn log_msg_size(mut self, bytes: u32) -> Self {
        write!(self.options, " log-msg-size({bytes});").expect("writing to memory succeeds");
        self
    }

    /// Reads no more than can be written, instead of dropping messages when the queue
    /// of the destination is full.
    pub const fn flow_control(mut self) -> Self {
        self.flow_control = true;
        self
    }

    /// Starts syslog-ng, and waits until it listens. Prints a reason and returns `None`
    /// if syslog-ng cannot be unpacked.
    #[must_use]
    pub fn start(self) -> Option<SyslogNg> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let listen = match self.input {
            Input::Udp => Listen::Udp(port),
            Input::Network | Input::Syslog | Input::SyslogTls { .. } => Listen::Tcp(port),
        };
        spawn(&self.text(port, dir.path()), dir, listen)
    }

    fn text(&self, port: u16, dir: &Path) -> String {
        let Self {
            input,
            options,
            flow_control,
        } = self;
        let flags = if *flow_control {
            "flags(flow-control);"
        } else {
            ""
        };
        // The first line of options is Debian's default.
        format!(
            r#"@version: current
options {{
    chain_hostnames(off); flush_lines(0); use_dns(no); use_fqdn(no); dns_cache(no); stats_freq(0);
   {options}
}};
source in {{ {input} }};
destination out {{
    file("{dir}/{MESSAGES}" frac-digits(6) template("$(format-json --scope none
        facility=$FACILITY_NUM severity=$LEVEL_NUM timestamp=$S_ISODATE hostname=$HOST app_name=$PROGRAM
        procid=$PID msgid=$MSGID structured_data=$SDATA msg=$MSG)\n"));
}};
log {{ source(in); destination(out); {flags} }};
source own {{ internal(); }};
log {{ source(own); destination {{ file("{dir}/log"); }}; }};
"#,
            dir = dir.display(),
            input = input.text(port),
        )
    }
}

impl Input {
    fn text(&self, port: u16) -> String {
        let at = format!(r#"ip("127.0.0.1") port({port})"#);
        match self {
            Self::Network => format!("network({at} flags(syslog-protocol));"),
            Self::Udp => format!("network(transport(udp) {at} flags(syslog-protocol));"),
            Self::Syslog => format!("syslog({at});"),
            Self::SyslogTls { server, client_ca } => {
                let clients = client_ca.as_ref().map_or_else(
                    || "peer-verify(optional-untrusted)".to_owned(),
                    |ca| format!(r#"ca-file("{}")"#, ca.display()),
                );
                format!(
                    r#"syslog({at} transport(tls) tls(cert-file("{}") key-file("{}") {clients}));"#,
                    server.cert.display(),
                    server.key.display(),
                )
            }
        }
    }
}

fn spawn(configuration: &str, dir: TempDir, listen: Listen) -> Option<SyslogNg> {
    let mut command = Command::new(program()?);
    let path = |name: &str| dir.path().join(name);
    fs::write(path("syslog-ng.conf"), configuration).expect("a file");
    // In the foreground, and without dropping capabilities, as the current user.
    command.args(["--foreground", "--no-caps", "--cfgfile"]);
    command.arg(path("syslog-ng.conf"));
    command.arg("--persist-file").arg(path("persist"));
    command.arg("--control").arg(path("control"));
    command.arg("--pidfile").arg(path("pid"));
    Some(SyslogNg(Syslogd::start(command, dir, listen)))
}

/// Returns the path of the unpacked program. Prints a reason and returns `None` if it
/// cannot be unpacked.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../unpack-syslog-ng");
        let output = Command::new(script).output().expect("the script exists");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(PathBuf::from(text(&output.stdout)))
        } else {
            Err(text(&output.stderr))
        }
    });
    program
        .as_deref()
        .map_err(|reason| crate::skip(reason))
        .ok()
}
