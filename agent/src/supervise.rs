//! A program that runs as a child: it receives the signals of this process, and its exit is
//! that of this process.

use std::future::poll_fn;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::task::Poll;

use rustix::process::{Pid, Signal as Number, kill_process};
use tokio::process::Child;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::log::warn;

/// The signals that Fluent Bit handles. It reads its configuration again after HUP.
const SIGNALS: [(Number, fn() -> SignalKind); 5] = [
    (Number::TERM, SignalKind::terminate),
    (Number::INT, SignalKind::interrupt),
    (Number::QUIT, SignalKind::quit),
    (Number::HUP, SignalKind::hangup),
    (Number::CONT, || SignalKind::from_raw(Number::CONT.as_raw())),
];
/// The exit code of a program that was ended by a signal, without the signal's number, as in a
/// shell.
const SIGNALED: i32 = 128;

/// The supervisor of a program.
#[derive(Debug)]
pub(crate) struct Supervisor {
    runtime: Runtime,
    signals: Vec<(Number, Signal)>,
}

impl Supervisor {
    /// Creates the supervisor. From now on, signals are kept for the program.
    ///
    /// # Errors
    ///
    /// Returns an error if no signals can be received.
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let context = runtime.enter();
        let signals = SIGNALS.map(|(number, kind)| Ok((number, signal(kind())?)));
        let signals = signals.into_iter().collect::<io::Result<_>>()?;
        drop(context);
        Ok(Self { runtime, signals })
    }

    /// Runs the program until it exits, and returns its exit code. `started` is called once the
    /// program runs.
    ///
    /// # Errors
    ///
    /// Returns an error if the program cannot be started.
    pub(crate) fn run(self, command: Command, started: impl FnOnce()) -> io::Result<u8> {
        let Self {
            runtime,
            mut signals,
        } = self;
        runtime.block_on(async {
            let mut command = tokio::process::Command::from(command);
            // A terminal sends its signals to the group of this process only, which forwards
            // them.
            let mut child = command.process_group(0).spawn()?;
            started();
            loop {
                tokio::select! {
                    status = child.wait() => return status.map(exit_code),
                    number = next(&mut signals) => forward(number, &child),
                }
            }
        })
    }
}

/// Waits for the next signal.
async fn next(signals: &mut [(Number, Signal)]) -> Number {
    poll_fn(|context| {
        let mut received = signals.iter_mut().filter_map(|(number, signal)| {
            let is_received = signal.poll_recv(context).is_ready();
            is_received.then_some(*number)
        });
        received.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Sends a signal to the child, unless it has exited.
fn forward(number: Number, child: &Child) {
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) else {
        return;
    };
    if let Err(error) = kill_process(pid, number) {
        warn(&format!("cannot forward the signal {number:?}: {error}"));
    }
}

/// Returns the exit code that a shell would return.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code();
    let code = code.or_else(|| status.signal().map(|signal| SIGNALED + signal));
    code.and_then(|code| code.try_into().ok())
        .unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_an_exit_code_as_in_a_shell() {
        // The lower byte is the signal, and the one above the exit code.
        for (status, code) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143), (9, 137)] {
            assert_eq!(exit_code(ExitStatus::from_raw(status)), code);
        }
    }
}
