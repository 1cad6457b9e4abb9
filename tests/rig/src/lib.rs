//! Helpers that the tests and the demo share. All parts are real: certificates of a
//! test CA, an rsyslog, a Fluent Bit, log files in the kubelet's format.
//!
//! All processes are stopped when their guards are dropped. They use temporary folders
//! and free ports of 127.0.0.1.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic fails the test"
)]

pub mod containers;
pub mod document;
pub mod event;
pub mod fluent_bit;
pub mod load;
pub mod pki;
pub mod port;
pub mod process;
pub mod rsyslog;
pub mod syslog_ng;
pub mod syslogd;
pub mod wait;

use std::path::PathBuf;

/// Prints why a test cannot run here, so that a skipped test is not taken for a
/// success.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Returns the path of a program on PATH.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian installs daemons there, and a regular user's PATH does not contain it.
    let sbin = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
