//! `sink-agent`: the entry point of the agents' image.
//!
//! ```text
//! sink-agent ── logs.rs          can any container log be read?
//!     │                            no: exit
//!     ├── state.rs               is the state folder writable?
//!     │                            no: log a warning
//!     ├── listen.rs              a listen address that the kernel supports
//!     ├── exec ────────────────> Fluent Bit, with the same process ID
//!     ├── supervise.rs           with --pods: Fluent Bit as a child
//!     │     └ pods/ ───────────> the labels of the node's pods, in files
//!     └── removal.rs             --remove: remove all files of the agents from the node
//! ```
#![forbid(unsafe_code)]

mod arguments;
mod listen;
mod log;
mod logs;
mod pods;
mod removal;
mod state;
mod supervise;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::arguments::{Arguments, HELP, Start, Variables};
use crate::log::{error, info};
use crate::supervise::Supervisor;

/// The environment variable with the name of the node.
const NODE: &str = "NODE_NAME";
/// The exit code if the program cannot be started, as in a shell.
const CANNOT_RUN: u8 = 126;
/// The exit code if the program is not found, as in a shell.
const NOT_FOUND: u8 = 127;
/// The exit code if no log can be read, or a file could not be removed.
const FAILED: u8 = 1;
/// The exit code after a usage error.
const USAGE: u8 = 2;
/// The time after which the agent exits if no container log can be read.
const LOGS_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let variables = Variables {
        state: std::env::var_os("STATE_DIR"),
        logs: std::env::var_os("CONTAINER_LOGS"),
        pods: std::env::var_os("POD_META_DIR"),
    };
    let start = match Arguments::parse(lexopt::Parser::from_env(), variables) {
        Ok(Arguments::Start(start)) => start,
        Ok(Arguments::Remove(state)) => {
            return match removal::remove(&state) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    error(&failure.to_string());
                    ExitCode::from(FAILED)
                }
            };
        }
        Ok(Arguments::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Arguments::Version) => {
            println!("sink-agent {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("sink-agent: {problem}\n\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    let Start {
        state,
        logs,
        pods,
        retention,
        program,
        arguments,
    } = start;
    if let Some(logs) = logs
        && let Err(unreadable) = logs::check(&logs, LOGS_TIMEOUT)
    {
        error(&unreadable.to_string());
        return ExitCode::from(FAILED);
    }
    if let Some(state) = state {
        state::prepare(&state);
    }
    let mut command = Command::new(&program);
    let address = std::env::var(listen::VARIABLE).unwrap_or_default();
    if let Some(replacement) = listen::replacement(&address, listen::has_ipv6) {
        info(&format!(
            "the kernel does not support IPv6: listening on {replacement} instead of {address}"
        ));
        command.env(listen::VARIABLE, replacement);
    }
    command.args(arguments);
    let failure = match pods.and_then(|folder| supervisor(folder, retention)) {
        Some((supervisor, pods)) => match supervisor.run(command, || start_pods(pods)) {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => failure,
        },
        // `exec` returns only if it fails.
        None => command.exec(),
    };
    error(&format!("cannot start {}: {failure}", program.display()));
    ExitCode::from(if failure.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT_RUN
    })
}

/// Returns the supervisor, and the settings of the pods' labels. Without them, Fluent Bit runs
/// without labels.
fn supervisor(folder: PathBuf, retention: Duration) -> Option<(Supervisor, pods::Settings)> {
    let node = std::env::var(NODE).unwrap_or_default();
    if node.is_empty() {
        error(&format!(
            "{NODE} is not set: the labels of pods are not read"
        ));
        return None;
    }
    let settings = pods::Settings {
        folder,
        node,
        retention,
    };
    let supervisor = Supervisor::new().inspect_err(|failure| {
        error(&format!(
            "cannot supervise Fluent Bit, so the labels of pods are not read: {failure}"
        ));
    });
    Some((supervisor.ok()?, settings))
}

fn start_pods(settings: pods::Settings) {
    if let Err(failure) = pods::start(settings) {
        error(&format!("cannot read the labels of pods: {failure}"));
    }
}
