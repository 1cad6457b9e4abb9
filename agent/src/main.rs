//! `sink-agent`: the entry point of the agents' image.
//!
//! ```text
//! sink-agent ── state.rs ──────> each database of positions in the state folder
//!     │           └ database.rs  can Fluent Bit use it?
//!     │                            yes, or unknown: left as it is
//!     │                            no: set aside, logged
//!     ├── logs.rs                can any log of a container be read?
//!     ├── listen.rs              an address for metrics that this kernel has
//!     ├── exec ────────────────> Fluent Bit, with the same process id
//!     └── removal.rs             --remove: nothing is left on the node
//! ```
//!
//! Fluent Bit does not start with a database that it cannot read, and no log of the
//! node is delivered. Once the database is renamed, the files are read from the
//! beginning.
#![forbid(unsafe_code)]

mod arguments;
mod database;
mod listen;
mod log;
mod logs;
mod removal;
mod state;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use crate::arguments::{Arguments, HELP, Start, Variables};
use crate::log::{error, info};

/// The exit codes of a shell: the command cannot be run, or was not found.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// No log can be read, or something was not removed.
const FAILED: u8 = 1;
/// A usage error.
const USAGE: u8 = 2;
/// How long no log of a container may be readable.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let variables = Variables {
        state: std::env::var_os("STATE_DIR"),
        logs: std::env::var_os("CONTAINER_LOGS"),
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
        program,
        arguments,
    } = start;
    if let Some(logs) = logs
        && let Err(unreadable) = logs::check(&logs, PATIENCE)
    {
        error(&unreadable.to_string());
        return ExitCode::from(FAILED);
    }
    if let Some(state) = state {
        state::prepare(&state);
    }
    let mut command = Command::new(&program);
    let address = std::env::var(listen::VARIABLE).unwrap_or_default();
    if let Some(other) = listen::replacement(&address, listen::has_ipv6) {
        info(&format!(
            "the kernel has no IPv6: listening on {other} instead of {address}"
        ));
        command.env(listen::VARIABLE, other);
    }
    // Returns only if it fails.
    let failure = command.args(arguments).exec();
    error(&format!("cannot start {}: {failure}", program.display()));
    ExitCode::from(if failure.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT_RUN
    })
}
