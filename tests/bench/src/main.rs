//! `make bench`: measures the plugin's costs in one run, compared with the lower bound
//! for the same work and with its peers.
//!
//! ```text
//! cpu          processor time per message, compared with a bare loop (reference)
//! peers        processor time in a real Fluent Bit, compared with the built-in output
//! pods, queue  processor time per message with alternating pods, and with a queue
//! throughput   messages per second, by workers and by size
//! latency      time from a flush to its FLB_OK
//! sinks        memory, idle processor time and start time of many outputs
//! agent        a real Fluent Bit with queues (see agent)
//! choices      cost of different sizes of writes, records and buffers
//!   └─> report: the table of docs/BENCHMARKS.md, and plot: its plots
//! ```
//!
//! Every figure covers only the sending process; the receiver only counts. The minimum
//! of several runs is used, because other work on the machine can only add to it.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic aborts the benchmark"
)]

mod agent;
mod choices;
mod cpu;
mod latency;
mod link;
mod peers;
mod plot;
mod reference;
mod report;
mod sinks;
mod throughput;

use std::process::ExitCode;

use crate::link::Links;
use crate::reference::Reference;
use crate::report::Report;

/// A part of the run, with the name that selects it on the command line.
type Part = (&'static str, fn(&Links, &mut Report));

const PARTS: [Part; 14] = [
    ("cpu", cpu::measure),
    ("pods", cpu::of_many_pods),
    ("queue", cpu::with_queue),
    ("peers", peers::measure),
    ("throughput", throughput::measure),
    ("latency", latency::measure),
    ("sinks", sinks::measure),
    ("choices", choices::measure),
    ("lag", agent::lag),
    ("flow", agent::flow),
    ("backlog", agent::backlog),
    ("many", agent::many),
    ("disk", agent::disk),
    ("pod_logs", agent::pod_logs),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            let report = run(&PARTS);
            report.write();
            ExitCode::SUCCESS
        }
        [mode, rest @ ..] if mode == Reference::MODE => {
            reference::main(rest);
            ExitCode::SUCCESS
        }
        [name] => {
            let parts: Vec<Part> = PARTS.into_iter().filter(|part| part.0 == name).collect();
            if parts.is_empty() {
                let names = PARTS.map(|(name, _)| name).join(", ");
                eprintln!("bench: unknown part {name:?}, expected one of {names}");
                return ExitCode::FAILURE;
            }
            run(&parts);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: bench [PART]");
            ExitCode::FAILURE
        }
    }
}

fn run(parts: &[Part]) -> Report {
    let links = Links::new();
    let mut report = Report::default();
    for (name, measure) in parts {
        eprintln!("{name} ...");
        measure(&links, &mut report);
    }
    report.print();
    report
}
