//! A real rsyslog, as a receiver whose view of a message is asserted on.
//!
//! The default is the package's configuration: rsyslog's built-in settings, which
//! Debian's `/etc/rsyslog.conf` does not change (the rest of that file configures local
//! files, their owners and local sources). In short: messages of up to 8096 bytes,
//! control characters escaped (`#012`), and one in-memory queue for all messages.

use std::fmt::Write as _;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::pki::Pair;
use crate::port::free_port;
pub use crate::syslogd::Parsed;
use crate::syslogd::{Listen, MESSAGES, Syslogd};

/// An input: the module and its transport.
#[derive(Clone, Debug)]
pub enum Input {
    /// Plain TCP with `imtcp`; both octet counting and newline framing.
    Tcp,
    /// Plain TCP with `imptcp`.
    Ptcp,
    /// TLS with `imtcp`.
    Tls {
        /// The TLS library.
        driver: Driver,
        /// The receiver's certificate.
        server: Pair,
        /// The CA.
        ca: PathBuf,
        /// Whether clients need a certificate of the CA.
        mutual: bool,
    },
    /// UDP with `imudp`.
    Udp,
    /// RELP with `imrelp`.
    Relp {
        /// The receiver's certificate and the CA of clients' certificates, for RELP
        /// over TLS.
        tls: Option<(Pair, PathBuf)>,
    },
}

/// A TLS library of rsyslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// OpenSSL (`ossl`).
    OpenSsl,
    /// `GnuTLS` (`gtls`).
    GnuTls,
}

/// An rsyslog that runs until it is dropped.
#[derive(Debug)]
pub struct Rsyslog(Syslogd);

/// The configuration of an rsyslog: the package's defaults with changes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Configuration {
    input: Input,
    direct_queue: bool,
    global: String,
}

/// The names of the Debian packages.
pub const PACKAGES: &str = "rsyslog rsyslog-openssl rsyslog-gnutls rsyslog-relp";

impl Rsyslog {
    /// Starts an rsyslog with the package's defaults, and waits until it listens.
    /// Prints a reason and returns `None` if rsyslog is not installed.
    #[must_use]
    pub fn start(input: &Input) -> Option<Self> {
        Self::configure(input.clone()).start()
    }

    /// Starts an rsyslog with the caller's configuration, which must listen on this TCP
    /// port. Prints a reason and returns `None` if rsyslog is not installed.
    #[must_use]
    pub fn start_with(configuration: &str, dir: TempDir, port: u16) -> Option<Self> {
        spawn(configuration, dir, Listen::Tcp(port))
    }

    /// Returns the package's defaults, which can then be changed.
    pub const fn configure(input: Input) -> Configuration {
        Configuration {
            input,
            direct_queue: false,
            global: String::new(),
        }
    }
}

impl Deref for Rsyslog {
    type Target = Syslogd;

    fn deref(&self) -> &Syslogd {
        &self.0
    }
}

impl DerefMut for Rsyslog {
    fn deref_mut(&mut self) -> &mut Syslogd {
        &mut self.0
    }
}

impl Configuration {
    /// Writes each message before the next one is read, instead of passing it through
    /// the main queue, which is in memory and lost when the process exits.
    pub const fn direct_queue(mut self) -> Self {
        self.direct_queue = true;
        self
    }

    /// Sets the maximum message size, such as `64k`, instead of 8096 bytes.
    pub fn max_message_size(self, size: &str) -> Self {
        self.global("maxMessageSize", size)
    }

    /// Keeps control characters instead of escaping them.
    pub fn raw_control_characters(self) -> Self {
        self.global("parser.escapeControlCharactersOnReceive", "off")
    }

    fn global(mut self, name: &str, value: &str) -> Self {
        writeln!(self.global, "global({name}=\"{value}\")").expect("writing to memory succeeds");
        self
    }

    /// Starts rsyslog, and waits until it listens. Prints a reason and returns `None`
    /// if rsyslog or one of its modules is not installed.
    #[must_use]
    pub fn start(self) -> Option<Rsyslog> {
        let module = self.input.module();
        if !has_module(module) {
            crate::skip(&format!("rsyslog has no {module} (Debian: {PACKAGES})"));
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let listen = match self.input {
            Input::Udp => Listen::Udp(port),
            Input::Tcp | Input::Ptcp | Input::Tls { .. } | Input::Relp { .. } => Listen::Tcp(port),
        };
        spawn(&self.text(port, dir.path()), dir, listen)
    }

    fn text(&self, port: u16, dir: &Path) -> String {
        let Self {
            input,
            direct_queue,
            global,
        } = self;
        let queue = if *direct_queue {
            r#" queue.type="direct""#
        } else {
            ""
        };
        format!(
            r#"global(workDirectory="{dir}")
{global}{input}
template(name="parsed" type="list" option.jsonf="on") {{
    property(outname="facility" name="syslogfacility" format="jsonf")
    property(outname="severity" name="syslogseverity" format="jsonf")
    property(outname="timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="hostname" name="hostname" format="jsonf")
    property(outname="app_name" name="app-name" format="jsonf")
    property(outname="procid" name="procid" format="jsonf")
    property(outname="msgid" name="msgid" format="jsonf")
    property(outname="structured_data" name="structured-data" format="jsonf")
    property(outname="msg" name="msg" format="jsonf")
}}
ruleset(name="out"{queue}) {{
    action(type="omfile" file="{dir}/{MESSAGES}" template="parsed")
}}
"#,
            dir = dir.display(),
            input = input.text(port),
        )
    }
}

impl Input {
    /// Returns the file of the module if Debian packages it separately, or an empty
    /// string.
    const fn module(&self) -> &'static str {
        match self {
            Self::Tcp | Self::Ptcp | Self::Udp => "",
            Self::Relp { .. } => "imrelp.so",
            Self::Tls { driver, .. } => match driver {
                Driver::OpenSsl => "lmnsd_ossl.so",
                Driver::GnuTls => "lmnsd_gtls.so",
            },
        }
    }

    fn text(&self, port: u16) -> String {
        match self {
            Self::Tcp => load_and_listen("imtcp", "", port, ""),
            Self::Ptcp => load_and_listen("imptcp", "", port, ""),
            Self::Udp => load_and_listen("imudp", "", port, ""),
            Self::Relp { tls } => {
                let tls = tls.as_ref().map(|(server, ca)| {
                    format!(
                        r#"tls="on" tls.cacert="{}" tls.mycert="{}" tls.myprivkey="{}" tls.authmode="certvalid""#,
                        ca.display(),
                        server.cert.display(),
                        server.key.display(),
                    )
                });
                load_and_listen("imrelp", "", port, &tls.unwrap_or_default())
            }
            Self::Tls {
                driver,
                server,
                ca,
                mutual,
            } => {
                let driver = match driver {
                    Driver::OpenSsl => "ossl",
                    Driver::GnuTls => "gtls",
                };
                let auth = if *mutual { "x509/certvalid" } else { "anon" };
                let module = format!(
                    r#"streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="{auth}""#
                );
                format!(
                    r#"global(defaultNetstreamDriverCAFile="{ca}"
       defaultNetstreamDriverCertFile="{cert}"
       defaultNetstreamDriverKeyFile="{key}")
{input}"#,
                    ca = ca.display(),
                    cert = server.cert.display(),
                    key = server.key.display(),
                    input = load_and_listen("imtcp", &module, port, ""),
                )
            }
        }
    }
}

/// Returns the lines that load a module and listen with it, each with its options.
fn load_and_listen(name: &str, module: &str, port: u16, input: &str) -> String {
    format!(
        r#"module(load="{name}" {module})
input(type="{name}" address="127.0.0.1" port="{port}" ruleset="out" {input})"#
    )
}

fn spawn(configuration: &str, dir: TempDir, listen: Listen) -> Option<Rsyslog> {
    let Some(program) = crate::program("rsyslogd") else {
        crate::skip(&format!("rsyslogd is not installed (Debian: {PACKAGES})"));
        return None;
    };
    let file = dir.path().join("rsyslog.conf");
    fs::write(&file, configuration).expect("a file");
    let mut command = Command::new(program);
    command.args(["-n", "-iNONE", "-f"]).arg(file);
    Some(Rsyslog(Syslogd::start(command, dir, listen)))
}

/// Returns whether a module of rsyslog is installed; `true` for an empty name.
#[must_use]
pub fn has_module(file: &str) -> bool {
    [
        "/usr/lib",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ]
    .iter()
    .any(|folder| Path::new(folder).join("rsyslog").join(file).exists())
}
