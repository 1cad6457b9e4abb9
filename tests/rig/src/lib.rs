//! What the tests and the demo share. Each part is real: certificates of a CA
//! of its own, an rsyslog, a Fluent Bit, log files as a kubelet writes them.
//!
//! Everything that is started is stopped when its guard is dropped, and lives
//! in temporary folders and on free ports of 127.0.0.1.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot be set up fails"
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

/// Why a test cannot run here. Printed, so that nobody takes it for a success.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// A program on PATH.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Where Debian puts daemons, which an ordinary user's PATH leaves out.
    let sbin = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
