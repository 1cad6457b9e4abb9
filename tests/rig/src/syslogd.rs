//! The common parts of the real syslog daemons: a process that listens on a port and
//! appends each message to a file as a line of JSON.

use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use crate::process::{Process, run};
use crate::wait::{BOUND, until};

/// A message with the fields that the daemon parsed. An absent field is empty
/// or `-`, as the daemon writes it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are those of RFC 5424")]
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

/// A syslog daemon that runs until it is dropped.
#[derive(Debug)]
pub struct Syslogd {
    command: Command,
    process: Process,
    dir: TempDir,
    listen: Listen,
}

/// The port of 127.0.0.1 on which a daemon listens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listen {
    Tcp(u16),
    Udp(u16),
}

/// The file in a daemon's folder to which it appends messages.
pub(crate) const MESSAGES: &str = "messages.json";
const LOG: &str = "log";

impl Syslogd {
    /// Starts a daemon that keeps its files in `dir`, and waits until it
    /// listens.
    pub(crate) fn start(mut command: Command, dir: TempDir, listen: Listen) -> Self {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.path().join(LOG))
            .expect("a file");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let process = spawn(&mut command);
        let daemon = Self {
            command,
            process,
            dir,
            listen,
        };
        daemon.wait_until_it_listens();
        daemon
    }

    /// Stops the daemon with a signal (`-TERM`, `-KILL`) and starts it again with the
    /// same files on the same port.
    pub fn restart(&mut self, signal: &str) {
        let id = self.process.0.id().to_string();
        run(Command::new("kill").args([signal, &id]));
        let _ = self.process.0.wait();
        self.cut_torn_line();
        self.process = spawn(&mut self.command);
        self.wait_until_it_listens();
    }

    /// Removes the incomplete last line that a killed daemon may have left. Otherwise
    /// the next line would be appended to it.
    fn cut_torn_line(&self) {
        let mut lines = Lines::default();
        lines.count(&self.output());
        if let Ok(file) = fs::OpenOptions::new().write(true).open(self.output()) {
            file.set_len(lines.offset)
                .expect("the file can be truncated");
        }
    }

    fn wait_until_it_listens(&self) {
        until(BOUND, || self.listens().then_some(())).unwrap_or_else(|error| {
            panic!(
                "{:?} does not listen: {error}\n{}",
                self.command,
                self.log()
            )
        });
    }

    fn listens(&self) -> bool {
        match self.listen {
            // Binding fails only if the daemon has the port.
            Listen::Udp(port) => UdpSocket::bind(("127.0.0.1", port)).is_err(),
            Listen::Tcp(port) => TcpStream::connect(("127.0.0.1", port)).is_ok(),
        }
    }

    /// Returns `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Returns the port of the input.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self.listen {
            Listen::Tcp(port) | Listen::Udp(port) => port,
        }
    }

    /// Returns the daemon's own log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns all messages received so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Parsed> {
        let mut messages = Vec::new();
        Lines::default().read(&self.output(), |line| {
            let line = String::from_utf8_lossy(line);
            let message = serde_json::from_str(&line);
            messages.push(message.unwrap_or_else(|error| panic!("{error}: {line}")));
        });
        messages
    }

    /// Returns the number of messages received so far.
    #[must_use]
    pub fn count(&self) -> usize {
        Lines::default().count(&self.output())
    }

    /// Waits until there are more than `known` messages.
    ///
    /// # Errors
    ///
    /// Returns an error if no more messages arrive within [`BOUND`].
    pub fn wait_for_more_than(&self, known: usize) -> Result<(), String> {
        let mut lines = Lines::default();
        until(BOUND, || {
            (lines.count(&self.output()) > known).then_some(())
        })
    }

    /// Waits until `count` messages have arrived, and returns all messages.
    ///
    /// # Errors
    ///
    /// Returns an error with the number of messages that arrived within `bound`.
    pub fn wait_for(&self, count: usize, bound: Duration) -> Result<Vec<Parsed>, String> {
        let mut lines = Lines::default();
        until(bound, || {
            (lines.count(&self.output()) >= count).then_some(())
        })
        .map_err(|error| format!("{} of {count} messages, {error}", lines.seen))?;
        Ok(self.messages())
    }

    /// Waits until a message with this text has arrived, and returns all messages.
    ///
    /// # Errors
    ///
    /// Returns an error if no such message arrives within `bound`.
    pub fn wait_for_text(&self, text: &str, bound: Duration) -> Result<Vec<Parsed>, String> {
        until(bound, || {
            let messages = self.messages();
            let came = messages.iter().any(|message| message.msg == text);
            came.then_some(messages)
        })
        .map_err(|error| format!("{text:?} of {} messages {error}", self.count()))
    }

    fn output(&self) -> PathBuf {
        self.dir.path().join(MESSAGES)
    }
}

fn spawn(command: &mut Command) -> Process {
    Process(
        command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}")),
    )
}

/// Reads the lines of a growing file, each line once and only when it is complete.
#[derive(Debug, Default)]
struct Lines {
    seen: usize,
    offset: u64,
}

impl Lines {
    fn count(&mut self, path: &Path) -> usize {
        self.read(path, |_| ());
        self.seen
    }

    fn read(&mut self, path: &Path, mut each: impl FnMut(&[u8])) {
        let Ok(mut file) = fs::File::open(path) else {
            return;
        };
        if file.seek(SeekFrom::Start(self.offset)).is_err() {
            return;
        }
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        while let Ok(length) = reader.read_until(b'\n', &mut line)
            && line.ends_with(b"\n")
        {
            each(&line);
            self.offset += length as u64;
            self.seen += 1;
            line.clear();
        }
    }
}
