//! `syslog-receiver`: the strict receiver as a program, for demonstrations and for
//! inspecting what a sink sends.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use receiver::{Listen, Message, Options, Received, Receiver, Splitter, TlsFiles};

const USAGE: &str = "\
usage: syslog-receiver --listen tcp|tls|udp [--port N] [--framing octet-counting|newline]
                       [--cert FILE --key FILE [--client-ca FILE]] [--format text|json]

Prints the messages that arrive until its standard input ends.";

/// The maximum frame length.
const MAX_FRAME: usize = 16 * 1024 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("syslog-receiver: {error}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (options, json) = arguments()?;
    let receiver = Receiver::start(options)?;
    println!("listening on {}", receiver.address());
    io::stdout().flush()?;

    let stdin = std::thread::spawn(|| io::stdin().read_to_end(&mut Vec::new()));
    let mut printed = 0;
    loop {
        let ended = stdin.is_finished();
        // A timeout only means that no new message arrived.
        let _ = receiver.wait_for(printed as u64 + 1, Duration::from_millis(100));
        for received in receiver.received_behind(printed) {
            println!(
                "{}",
                if json {
                    as_json(&received)?
                } else {
                    as_text(&received)
                }
            );
            printed += 1;
        }
        if ended {
            break;
        }
    }
    for error in receiver.errors() {
        eprintln!("syslog-receiver: {error}");
    }
    println!("{printed} messages, {} connections", receiver.connections());
    Ok(())
}

fn arguments() -> Result<(Options, bool), Box<dyn Error>> {
    use lexopt::prelude::*;
    let (mut listen, mut port, mut json) = (None::<String>, 0, false);
    let (mut cert, mut key, mut client_ca) = (None, None, None);
    let mut splitter = Splitter::octet_counting(MAX_FRAME);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = Some(parser.value()?.string()?),
            Long("port") => port = parser.value()?.parse()?,
            Long("framing") => {
                splitter = match parser.value()?.string()?.as_str() {
                    "octet-counting" => Splitter::octet_counting(MAX_FRAME),
                    "newline" => Splitter::newline(MAX_FRAME),
                    other => return Err(format!("unknown framing {other:?}").into()),
                }
            }
            Long("cert") => cert = Some(parser.value()?.into()),
            Long("key") => key = Some(parser.value()?.into()),
            Long("client-ca") => client_ca = Some(parser.value()?.into()),
            Long("format") => {
                json = match parser.value()?.string()?.as_str() {
                    "text" => false,
                    "json" => true,
                    other => return Err(format!("unknown format {other:?}").into()),
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let listen = match listen.as_deref() {
        Some("tcp") => Listen::Tcp,
        Some("udp") => Listen::Udp,
        Some("tls") => Listen::Tls(TlsFiles {
            cert: cert.ok_or("--listen tls needs --cert")?,
            key: key.ok_or("--listen tls needs --key")?,
            client_ca,
        }),
        Some(other) => return Err(format!("unknown --listen {other:?}").into()),
        None => return Err("--listen is missing".into()),
    };
    let options = Options {
        port,
        splitter,
        ..Options::new(listen)
    };
    Ok((options, json))
}

fn as_json(received: &Received) -> serde_json::Result<String> {
    match &received.message {
        Ok(message) => serde_json::to_string(message),
        Err(error) => serde_json::to_string(error),
    }
}

fn as_text(received: &Received) -> String {
    match &received.message {
        Ok(message) => message_as_text(message),
        Err(error) => format!(
            "not a message ({error}): {}",
            String::from_utf8_lossy(&received.raw).escape_debug()
        ),
    }
}

fn message_as_text(message: &Message) -> String {
    let field = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let time = message.timestamp.as_ref().map_or("-", |time| &time.text);
    let text = String::from_utf8_lossy(message.msg.as_deref().unwrap_or_default()).into_owned();
    let mut line = format!(
        "{time} {} {} facility={} severity={}",
        field(&message.hostname),
        field(&message.app_name),
        message.facility,
        message.severity
    );
    for element in &message.structured_data {
        for (name, value) in &element.params {
            line.extend([" ", name, "=", &format!("{value:?}")]);
        }
    }
    // Escaped, so that each message stays on one line of the terminal.
    format!("{line}\n    {}", text.escape_debug())
}
