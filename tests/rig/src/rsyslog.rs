//! A real rsyslog, as a receiver whose view of a message is asserted on.

use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::pki::Pair;
use crate::port::free_port;
use crate::process::run;
use crate::wait::{BOUND, until};

/// What it listens for.
#[derive(Clone, Debug)]
pub enum Input {
    /// Plain TCP; octet counting and newline framing both.
    Tcp,
    /// TLS by OpenSSL, with the CA of client certificates where one is wanted.
    Tls {
        /// The receiver's certificate.
        server: Pair,
        /// The CA.
        ca: PathBuf,
        /// Whether clients need a certificate of that CA.
        mutual: bool,
    },
    /// UDP.
    Udp,
    /// RELP.
    Relp {
        /// Over TLS: the receiver's certificate, and the CA of the clients'.
        tls: Option<(Pair, PathBuf)>,
    },
}

/// A message, as rsyslog took it apart.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are rsyslog's own")]
pub struct Parsed {
    pub facility: String,
    pub severity: String,
    pub timestamp: String,
    pub hostname: String,
    pub app_name: String,
    pub procid: String,
    pub msgid: String,
    pub structured_data: String,
    pub msg: String,
}

/// An rsyslog that runs until it is dropped.
#[derive(Debug)]
pub struct Rsyslog {
    input: Input,
    program: PathBuf,
    process: Child,
    dir: TempDir,
    port: u16,
}

/// What Debian calls the packages.
pub const PACKAGES: &str = "rsyslog rsyslog-openssl rsyslog-relp";

impl Rsyslog {
    /// Starts it, and waits until it listens. None, with a reason printed,
    /// where it is not installed.
    #[must_use]
    pub fn start(input: &Input) -> Option<Self> {
        let Some(program) = crate::program("rsyslogd") else {
            crate::skip(&format!("rsyslogd is not installed (Debian: {PACKAGES})"));
            return None;
        };
        let module = match input {
            Input::Tls { .. } => "lmnsd_ossl.so",
            Input::Relp { .. } => "imrelp.so",
            Input::Tcp | Input::Udp => "",
        };
        if !has_module(module) {
            crate::skip(&format!("rsyslog has no {module} (Debian: {PACKAGES})"));
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let conf = dir.path().join("rsyslog.conf");
        fs::write(&conf, configuration(input, port, dir.path())).expect("a file");
        let process = spawn(&program, dir.path());
        let rsyslog = Self {
            input: input.clone(),
            program,
            process,
            dir,
            port,
        };
        rsyslog.wait_until_it_listens();
        Some(rsyslog)
    }

    /// Ends it by a signal, and starts it again.
    pub fn restart(&mut self, signal: &str) {
        let id = self.process.id().to_string();
        run(Command::new("kill").args([signal, &id]));
        let _ = self.process.wait();
        self.end_torn_line();
        self.process = spawn(&self.program, self.dir.path());
        self.wait_until_it_listens();
    }

    /// A killed rsyslog may have written a part of a line, which is not to
    /// become one with the next.
    fn end_torn_line(&self) {
        if fs::read(self.output()).is_ok_and(|text| !text.is_empty() && !text.ends_with(b"\n")) {
            let mut file = fs::OpenOptions::new()
                .append(true)
                .open(self.output())
                .expect("the file was just read");
            file.write_all(b"\n").expect("the file takes it");
        }
    }

    fn wait_until_it_listens(&self) {
        until(BOUND, || self.listens(&self.input).then_some(()))
            .unwrap_or_else(|error| panic!("rsyslog does not listen: {error}\n{}", self.log()));
    }

    fn listens(&self, input: &Input) -> bool {
        match input {
            // Nobody else can have the port once it is taken.
            Input::Udp => UdpSocket::bind(("127.0.0.1", self.port)).is_err(),
            Input::Tcp | Input::Tls { .. } | Input::Relp { .. } => {
                TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            }
        }
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of the input.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it says about itself.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("rsyslogd.log")).unwrap_or_default()
    }

    /// Everything received so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Parsed> {
        let Ok(file) = fs::File::open(self.output()) else {
            return Vec::new();
        };
        BufReader::new(file)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect()
    }

    /// How many messages came so far.
    #[must_use]
    pub fn count(&self) -> usize {
        Lines::default().count(&self.output())
    }

    /// Waits until there are more than `known` messages.
    ///
    /// # Errors
    ///
    /// Where there are not, for too long.
    pub fn wait_for_more_than(&self, known: usize) -> Result<(), String> {
        until(BOUND, || (self.count() > known).then_some(()))
    }

    /// Waits until `count` messages came, and gives all that came.
    ///
    /// # Errors
    ///
    /// Says how many came within `bound`.
    pub fn wait_for(&self, count: usize, bound: Duration) -> Result<Vec<Parsed>, String> {
        let mut lines = Lines::default();
        until(bound, || {
            (lines.count(&self.output()) >= count).then_some(())
        })
        .map_err(|error| format!("{} of {count} messages, {error}", lines.seen))?;
        Ok(self.messages())
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join("messages.json")
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Counts the lines of a file that grows, reading each part once.
#[derive(Debug, Default)]
struct Lines {
    seen: usize,
    offset: u64,
}

impl Lines {
    fn count(&mut self, path: &Path) -> usize {
        let Ok(mut file) = fs::File::open(path) else {
            return 0;
        };
        if file.seek(SeekFrom::Start(self.offset)).is_ok() {
            let mut reader = BufReader::new(file);
            let mut line = Vec::new();
            while let Ok(length) = reader.read_until(b'\n', &mut line)
                && line.ends_with(b"\n")
            {
                self.offset += length as u64;
                self.seen += 1;
                line.clear();
            }
        }
        self.seen
    }
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("rsyslogd.log"))
        .expect("a file");
    // A killed one leaves it behind.
    let _ = fs::remove_file(dir.join("pid"));
    Command::new(program)
        .arg("-n")
        .arg("-f")
        .arg(dir.join("rsyslog.conf"))
        .arg("-i")
        .arg(dir.join("pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("rsyslogd starts")
}

/// Whether a module of rsyslog is installed; none always is.
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

fn configuration(input: &Input, port: u16, dir: &Path) -> String {
    let input = match input {
        Input::Tcp => format!(
            r#"module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="out")"#
        ),
        Input::Udp => format!(
            r#"module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}" ruleset="out")"#
        ),
        Input::Relp { tls } => {
            let tls = tls.as_ref().map(|(server, ca)| {
                format!(
                    r#"tls="on" tls.cacert="{}" tls.mycert="{}" tls.myprivkey="{}" tls.authmode="certvalid""#,
                    ca.display(),
                    server.cert.display(),
                    server.key.display(),
                )
            });
            format!(
                r#"module(load="imrelp" tls.tlslib="openssl" ruleset="out")
input(type="imrelp" address="127.0.0.1" port="{port}" maxdatasize="64k" {})"#,
                tls.unwrap_or_default()
            )
        }
        Input::Tls { server, ca, mutual } => format!(
            r#"global(defaultNetstreamDriverCAFile="{ca}"
       defaultNetstreamDriverCertFile="{cert}"
       defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="{auth}")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="out")"#,
            ca = ca.display(),
            cert = server.cert.display(),
            key = server.key.display(),
            auth = if *mutual { "x509/certvalid" } else { "anon" },
        ),
    };
    // Control characters are data here, and not to be rewritten.
    format!(
        r#"global(workDirectory="{dir}" maxMessageSize="64k"
       parser.escapeControlCharactersOnReceive="off"
       parser.spaceLFOnReceive="off"
       internalmsg.severity="error")
{input}
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
ruleset(name="out" queue.type="direct") {{
    action(type="omfile" file="{dir}/messages.json" template="parsed")
}}
"#,
        dir = dir.display(),
    )
}
