//! `make bench`: what a message costs, as a ratio to the least that anybody
//! could pay for it, measured in the same run.
//!
//! ```text
//! load (records) -> host with the plugin ──┐
//! the same bytes -> reference (bare loop) ─┴─> a receiver that only counts
//! ```
//!
//! Processor time is that of the sending process alone, user and system, and
//! of several runs the least: other work on the machine only ever adds to it.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot be set up ends"
)]

mod reference;
mod table;

use std::path::Path;
use std::time::Duration;

use host::{Host, Run};
use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::Pki;

use crate::load::Load;
use crate::reference::Reference;
use crate::table::Row;

/// Each is measured so often, in turns.
const RUNS: usize = 9;
/// How often a run sends the load.
const ROUNDS: u32 = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => run(),
        [mode, rest @ ..] if mode == Reference::MODE => reference::main(rest),
        _ => panic!("usage: bench"),
    }
}

fn run() {
    let pki = Pki::new();
    let server = pki.server();
    let tls = Listen::Tls(TlsFiles {
        cert: server.cert,
        key: server.key,
        client_ca: None,
    });
    let ca = pki.ca();
    let ca = ca.to_str().unwrap();
    let tls_options = [("tls_ca_file", ca), ("tls_min_version", "1.3")];
    let rows = [
        measure("TLS 1.3", &tls, &tls_options, Some(&pki.ca()), 2.5),
        measure("TCP", &Listen::Tcp, &[("transport", "tcp")], None, 3.0),
    ];
    table::print(&rows);
}

/// The plugin behind its ABI, and a bare loop that sends the same bytes.
fn measure(
    title: &'static str,
    listen: &Listen,
    options: &[(&str, &str)],
    ca: Option<&Path>,
    target: f64,
) -> Row {
    let load = Load::new();
    let reference = Reference::new(&bytes_of(&load, options, listen), ca);
    let (mut plugin, mut bare) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let receiver = receiver(listen, false);
        plugin = plugin.min(deliver(&load, ROUNDS, &receiver, options).cpu);
        bare = bare.min(reference.run(&receiver.address(), ROUNDS));
    }
    let messages = load.messages() * ROUNDS as usize;
    Row {
        title,
        plugin: plugin.div_f64(messages as f64),
        bare: bare.div_f64(messages as f64),
        target,
    }
}

/// What the plugin sends for the load, as a receiver has it.
fn bytes_of(load: &Load, options: &[(&str, &str)], listen: &Listen) -> Vec<u8> {
    let receiver = receiver(listen, true);
    deliver(load, 1, &receiver, options);
    receiver.wait_for_the_end();
    let frames = receiver.received();
    assert_eq!(frames.len(), load.messages());
    frames
        .into_iter()
        .flat_map(|frame| [format!("{} ", frame.raw.len()).into_bytes(), frame.raw].concat())
        .collect()
}

fn receiver(listen: &Listen, keep: bool) -> Receiver {
    Receiver::start(Options {
        keep,
        ..Options::new(listen.clone())
    })
    .unwrap()
}

/// Every chunk has to end with OK.
fn deliver(load: &Load, rounds: u32, receiver: &Receiver, options: &[(&str, &str)]) -> Run {
    let address = receiver.address();
    let options = [&[("addr", address.as_str())], options].concat();
    let chunks = load.chunks();
    let host = Host::new().output("sink", &options).rounds(rounds);
    let run = host.run(chunks);
    assert_eq!(run.flushes.len(), rounds as usize * chunks.len());
    assert_eq!(run.outputs[0].ok as usize, run.flushes.len(), "{}", run.log);
    run
}
