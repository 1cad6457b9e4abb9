//! Tests of the process that `sink-agent` starts, which replaces it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

const AGENT: &str = env!("CARGO_BIN_EXE_sink-agent");

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(AGENT);
    command.args(words).env_remove("STATE_DIR");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_program_replaces_the_process() {
    let child = Command::new(AGENT)
        .args(["--", "sh", "-c", "echo $$; exit 7"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout).trim(), id.to_string());
    assert_eq!(output.status.code(), Some(7));
    let output = run(&["--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15));
}

#[test]
fn the_listen_address_is_one_that_the_kernel_supports() {
    let has_ipv6 = std::net::TcpListener::bind("[::]:0").is_ok();
    let everywhere = if has_ipv6 { "[::]" } else { "0.0.0.0" };
    for (given, expected) in [("[::]", everywhere), ("127.0.0.1", "127.0.0.1"), ("", "")] {
        let mut command = Command::new(AGENT);
        command.args(["--", "sh", "-c", "echo $HTTP_LISTEN"]);
        let output = command.env("HTTP_LISTEN", given).output().unwrap();
        assert_eq!(text(&output.stdout).trim(), expected);
    }
}

#[test]
fn a_program_that_cannot_be_started_is_logged() {
    let output = run(&["--", "/no/such/program"]);
    assert_eq!(output.status.code(), Some(127));
    let log = text(&output.stderr);
    assert!(
        log.contains("cannot start /no/such/program: No such file"),
        "{log}"
    );
    assert_eq!(run(&["--", "/etc/passwd"]).status.code(), Some(126));
}

#[test]
fn after_a_usage_error_the_program_is_not_started() {
    let output = run(&["--stat", "/", "--", "echo", "started"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).starts_with("sink-agent: invalid option '--stat'"));
}

/// An unusable state folder does not prevent the start.
#[test]
fn an_unusable_state_folder_is_logged() {
    for (folder, words) in [
        (
            "/no/such/folder",
            "cannot read the state folder /no/such/folder: No such file",
        ),
        (
            "/etc/passwd",
            "cannot read the state folder /etc/passwd: Not a directory",
        ),
        (
            "/proc/self",
            "cannot write to the state folder /proc/self: ",
        ),
    ] {
        let output = run(&["--state", folder, "--", "echo", "started"]);
        assert_eq!(text(&output.stdout), "started\n");
        let log = text(&output.stderr);
        assert!(log.contains(words) && log.lines().count() == 1, "{log}");
    }
    let output = Command::new(AGENT)
        .args(["--", "echo", "started"])
        .env("STATE_DIR", "/no/such/folder")
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("cannot read the state folder /no/such"));
    // Without a folder, nothing is checked.
    assert_eq!(text(&run(&["--", "true"]).stderr), "");
}

/// An agent that cannot read any log must not become ready.
#[test]
fn if_no_log_can_be_read_the_program_is_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("pods");
    let folder = logs.to_str().unwrap();
    let start = || run(&["--logs", folder, "--", "echo", "started"]);
    let refused = |words: &str| {
        let output = start();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        let log = text(&output.stderr);
        assert!(log.contains(words) && log.lines().count() == 1, "{log}");
    };
    refused(&format!(
        "cannot read the folder of pods' logs {folder}: No such file"
    ));
    fs::create_dir(&logs).unwrap();
    assert_eq!(text(&start().stdout), "started\n", "a node without pods");
    // Nothing of a kubelet.
    File::create(logs.join("note.log")).unwrap();
    let container = |pod: &str| {
        let folder = logs.join(pod).join("app");
        fs::create_dir_all(&folder).unwrap();
        folder
    };
    let (web, db) = (container("shop_web_1"), container("shop_db_2"));
    File::create(web.join("0.log.20260301-120000.gz")).unwrap();
    assert_eq!(text(&start().stdout), "started\n", "a pod without logs");
    // As with cri-dockerd.
    symlink("/var/lib/docker/abc-json.log", web.join("0.log")).unwrap();
    refused("shop_web_1/app/0.log for example: the link leads to /var/lib/docker/abc-json.log");
    // A single readable log suffices: other containers may just have ended.
    File::create(db.join("0.log")).unwrap();
    assert_eq!(text(&start().stdout), "started\n");
}
