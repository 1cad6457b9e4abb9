//! Tests of the program that runs as a child, beside the labels of pods.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Returns a command that runs a shell script, on a machine without an API server.
fn agent(dir: &TempDir, script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sink-agent"));
    command
        .arg("--pods")
        .arg(dir.path().join("pods"))
        .args(["--", "sh", "-c", script])
        .env("NODE_NAME", "node-1")
        .env("HOME", dir.path())
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .stdout(Stdio::piped());
    command
}

fn signal(agent: &Child, signal: Signal) {
    kill_process(Pid::from_child(agent), signal).unwrap();
}

#[test]
fn signals_are_forwarded() {
    let script = "
        for name in HUP CONT INT QUIT; do trap \"echo $name\" $name; done
        trap 'exit 3' TERM
        echo ready
        while sleep 0.05; do :; done";
    let dir = TempDir::new().unwrap();
    let mut agent = agent(&dir, script).spawn().unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "ready");
    for (number, name) in [
        (Signal::HUP, "HUP"),
        (Signal::CONT, "CONT"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
    ] {
        signal(&agent, number);
        assert_eq!(next(), name);
    }
    signal(&agent, Signal::TERM);
    assert_eq!(agent.wait().unwrap().code(), Some(3));
}

#[test]
fn the_exit_code_is_that_of_the_program() {
    let dir = TempDir::new().unwrap();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let status = agent(&dir, script).status().unwrap();
        assert_eq!(status.code(), Some(code), "{script}");
    }
    for (program, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sink-agent"));
        command
            .env("POD_META_DIR", dir.path())
            .env("NODE_NAME", "node-1");
        let output = command.args(["--", program]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains(&format!("cannot start {program}: ")), "{log}");
    }
}

#[test]
fn without_an_api_server_the_program_runs() {
    let dir = TempDir::new().unwrap();
    let mut command = agent(&dir, "echo $PPID; read line");
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut agent = command.spawn().unwrap();
    let mut log = BufReader::new(agent.stderr.take().unwrap()).lines();
    let line = log.next().unwrap().unwrap();
    assert!(
        line.contains("labels may be missing: no API server"),
        "{line}"
    );
    assert_eq!(agent.try_wait().unwrap(), None);
    let id = agent.id().to_string();
    drop(agent.stdin.take());
    let output = agent.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), id);
    assert_eq!(output.status.code(), Some(1), "the exit code of read");
}

#[test]
fn without_the_name_of_the_node_the_program_replaces_the_process() {
    let dir = TempDir::new().unwrap();
    let mut command = agent(&dir, "echo $$");
    command.env_remove("NODE_NAME").stderr(Stdio::piped());
    let agent = command.spawn().unwrap();
    let id = agent.id().to_string();
    let output = agent.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), id);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("NODE_NAME is not set"), "{log}");
}
