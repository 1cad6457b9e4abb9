//! Output into a pipe that the reader closes early, as in
//! `kubectl sink list | head -1`.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::process::{Command, Stdio};

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-sink"));
    command
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
}
