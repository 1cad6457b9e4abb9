//! Fluent Bit's syslog input over TCP, with its default settings, as a receiver.

use std::fs;
use std::net::TcpStream;

use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::wait::{BOUND, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::hostile::Arrived;

/// A Fluent Bit that receives syslog until it is dropped.
#[derive(Debug)]
pub struct SyslogInput {
    fluent_bit: FluentBit,
    dir: TempDir,
    port: u16,
}

/// The parser of Fluent Bit's package, changed to accept any PROCID and any text.
const PARSERS: &str = r"
[PARSER]
    Name    syslog-rfc5424
    Format  regex
    Regex   ^\<(?<pri>[0-9]{1,5})\>1 (?<time>[^ ]+) (?<host>[^ ]+) (?<ident>[^ ]+) (?<pid>[^ ]+) (?<msgid>[^ ]+) (?<extradata>(\[(.*?)\]|-)) (?<message>(.|\n)*)$
";

const CONFIGURATION: &str = "
[SERVICE]
    Flush         0.1
    Parsers_File  ${DIR}/parsers.conf
[INPUT]
    Name    syslog
    Mode    tcp
    Listen  127.0.0.1
    Port    ${PORT}
    Parser  syslog-rfc5424
[OUTPUT]
    Name    file
    Match   *
    Path    ${DIR}
    File    messages
    Format  plain
";

impl SyslogInput {
    /// Starts Fluent Bit, and waits until it listens. Prints a reason and returns
    /// `None` if it is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        let program = fluent_bit::find()?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let configuration = dir.path().join("fluent-bit.conf");
        fs::write(dir.path().join("parsers.conf"), PARSERS).expect("a file");
        fs::write(&configuration, CONFIGURATION).expect("a file");
        let port = free_port();
        let variables = [
            ("DIR", dir.path().display().to_string()),
            ("PORT", port.to_string()),
        ];
        let fluent_bit = FluentBit::start(&program, &[host::library()], &configuration, &variables);
        until(BOUND, || TcpStream::connect(("127.0.0.1", port)).ok())
            .unwrap_or_else(|error| panic!("{error}\n{}", fluent_bit.log()));
        Some(Self {
            fluent_bit,
            dir,
            port,
        })
    }

    /// Returns `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until a message with this text has arrived, and returns all messages.
    ///
    /// # Errors
    ///
    /// Returns the log if no such message arrives.
    pub fn wait_for_text(&self, text: &str) -> Result<Vec<Arrived>, String> {
        until(BOUND, || {
            let messages = self.messages();
            let came = messages.iter().any(|message| message.text == text);
            came.then_some(messages)
        })
        .map_err(|error| format!("{text:?} {error}\n{}", self.fluent_bit.log()))
    }

    fn messages(&self) -> Vec<Arrived> {
        let text = fs::read(self.dir.path().join("messages")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.split_inclusive('\n')
            // The last line may be incomplete.
            .filter(|line| line.ends_with('\n'))
            .map(|line| {
                let value: Value = serde_json::from_str(line).expect("the output is JSON");
                let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
                Arrived {
                    app_name: field("ident"),
                    structured_data: field("extradata"),
                    text: field("message"),
                }
            })
            .collect()
    }
}
