//! Runs a real Fluent Bit.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::{BOUND, until};

/// The environment variable with the address for metrics, as in the agents' pods.
const LISTEN: (&str, &str) = ("HTTP_LISTEN", "0.0.0.0");

/// A Fluent Bit that runs until it is dropped.
#[derive(Debug)]
pub struct FluentBit {
    process: Child,
    dir: TempDir,
}

/// Returns the program that `FLUENT_BIT` names, or else the one on PATH. Prints a
/// reason and returns `None` if there is neither.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let found = std::env::var_os("FLUENT_BIT")
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .or_else(|| crate::program("fluent-bit"));
    if found.is_none() {
        crate::skip(
            "Fluent Bit is not installed: put fluent-bit on PATH, or set FLUENT_BIT to its path",
        );
    }
    found
}

impl FluentBit {
    /// Starts Fluent Bit with a configuration file, the libraries of plugins, and
    /// environment variables for the `${...}` in the file.
    #[must_use]
    pub fn start(
        program: &Path,
        libraries: &[&Path],
        configuration: &Path,
        variables: &[(&str, String)],
    ) -> Self {
        Self::start_by(&[], program, libraries, configuration, variables)
    }

    /// Starts Fluent Bit like [`FluentBit::start`], by another command to which its
    /// command line is appended.
    #[must_use]
    pub fn start_by(
        wrapper: &[String],
        program: &Path,
        libraries: &[&Path],
        configuration: &Path,
        variables: &[(&str, String)],
    ) -> Self {
        let program = program.to_string_lossy();
        let mut words = wrapper.iter().map(String::as_str).chain([&*program]);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let process = Command::new(words.next().unwrap_or_default())
            .args(words)
            .arg("--enable-hot-reload")
            .args(options(libraries, configuration))
            .env(LISTEN.0, LISTEN.1)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("Fluent Bit starts");
        Self { process, dir }
    }

    /// Checks a configuration with `--dry-run`.
    ///
    /// # Errors
    ///
    /// Returns the output of Fluent Bit if it rejects the configuration.
    pub fn dry_run(
        program: &Path,
        libraries: &[&Path],
        configuration: &Path,
        variables: &[(&str, String)],
    ) -> Result<(), String> {
        let output = Command::new(program)
            .arg("--dry-run")
            .args(options(libraries, configuration))
            .env(LISTEN.0, LISTEN.1)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .output()
            .expect("Fluent Bit starts");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Returns the process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns whether Fluent Bit has already exited.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// Returns the log so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log contains a text `count` times.
    ///
    /// # Errors
    ///
    /// Returns the log if it does not contain the text within `bound`.
    pub fn wait_for_log(&self, text: &str, count: usize, bound: Duration) -> Result<(), String> {
        until(bound, || {
            (self.log().matches(text).count() >= count).then_some(())
        })
        .map_err(|error| format!("{text:?} {error} {count} times in the log:\n{}", self.log()))
    }

    /// Asks Fluent Bit to reload its configuration.
    pub fn reload(&self) {
        self.signal("-HUP");
    }

    /// Kills Fluent Bit and waits until the process is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(signal)
            .arg(self.process.id().to_string())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{}",
            self.log()
        );
    }

    /// Asks Fluent Bit to stop, as a kubelet does, and returns its log.
    #[allow(clippy::must_use_candidate, reason = "not every caller needs the log")]
    pub fn stop(mut self) -> String {
        self.signal("-TERM");
        let ended = until(BOUND, || self.process.try_wait().ok().flatten());
        assert!(ended.is_ok(), "Fluent Bit does not exit:\n{}", self.log());
        self.log()
    }
}

impl Drop for FluentBit {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the command-line options for libraries and a configuration file.
fn options<'p>(libraries: &[&'p Path], configuration: &'p Path) -> Vec<&'p OsStr> {
    let libraries = libraries.iter().map(|library| ("-e", *library));
    let all = libraries.chain([("-c", configuration)]);
    all.flat_map(|(option, path)| [OsStr::new(option), path.as_os_str()])
        .collect()
}

/// Returns the response of Fluent Bit's HTTP server, or `None` if it does not listen on
/// this port.
#[must_use]
pub fn get(port: u16, path: &str) -> Option<String> {
    // A busy Fluent Bit may not close the connection.
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    let url = format!("http://127.0.0.1:{port}{path}");
    agent.get(url).call().ok()?.body_mut().read_to_string().ok()
}

/// Returns the number of records that failed the namespace check, according to the
/// plugin's log. The log lines are rate-limited; each counts the records since the
/// previous line.
#[must_use]
pub fn refused_by_namespace_check(log: &str) -> usize {
    log.lines()
        .filter_map(|line| line.split_once("records outside this output's namespace refused: "))
        .filter_map(|(_, count)| count.trim().parse::<usize>().ok())
        .sum()
}
