//! The metrics of a thousand agents with five hundred sinks: one server replaces them
//! all, because KWOK's pods run no programs.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of messages that the agents' receivers have acknowledged.
#[derive(Clone, Default)]
pub(crate) struct Agents {
    acknowledged: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
}

impl Agents {
    /// Starts to serve metrics on this port, until the process exits.
    pub(crate) fn start(port: u16, sinks: Vec<String>) -> Self {
        let agents = Self::default();
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
        let (sinks, of_thread) = (Arc::new(sinks), agents.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (agents, sinks) = (of_thread.clone(), Arc::clone(&sinks));
                std::thread::spawn(move || agents.answer(stream, &sinks));
            }
        });
        agents
    }

    /// Increases the count of every sink.
    pub(crate) fn deliver(&self, messages: u64) {
        self.acknowledged.fetch_add(messages, Ordering::Relaxed);
    }

    /// Returns the number of requests so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn answer(&self, stream: TcpStream, sinks: &[String]) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let mut line = String::new();
            while line.trim_end() != "" || line.is_empty() {
                line.clear();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            let text = metrics(sinks, self.acknowledged.load(Ordering::Relaxed));
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
            .ok()?;
        }
    }
}

/// Returns metrics of the size that a real agent has: the plugin's metrics with each
/// reason, and some of Fluent Bit's own.
fn metrics(sinks: &[String], acknowledged: u64) -> String {
    let mut text = String::with_capacity(sinks.len() * 2000);
    for sink in sinks {
        let mut line = |name: &str, reason: &str, value: u64| {
            let _ = writeln!(text, "{name}{{name=\"{sink}\"{reason}}} {value}");
        };
        line("syslog_sink_connected", "", 1);
        line("syslog_sink_connects_total", "", 1);
        line("syslog_sink_acknowledged_messages_total", "", acknowledged);
        for name in [
            "sent_messages",
            "sent_bytes",
            "acknowledged_bytes",
            "resent_messages",
            "resent_bytes",
        ] {
            line(&format!("syslog_sink_{name}_total"), "", 0);
        }
        for reason in ["damaged", "refused", "oversize", "datagram"] {
            line(
                "syslog_sink_dropped_records_total",
                &format!(",reason=\"{reason}\""),
                0,
            );
        }
        for reason in [
            "resolve", "connect", "timeout", "tls", "relp", "broken", "closed",
        ] {
            line(
                "syslog_sink_errors_total",
                &format!(",reason=\"{reason}\""),
                0,
            );
        }
        for name in [
            "proc_records",
            "proc_bytes",
            "errors",
            "retries",
            "retries_failed",
            "dropped_records",
            "retried_records",
        ] {
            line(&format!("fluentbit_output_{name}_total"), "", 0);
        }
    }
    text
}
