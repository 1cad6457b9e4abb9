//! A docker engine: the running one, or a new one in a temporary folder with
//! substitutes (`bases`) for the images that it cannot pull.
//!
//! A new engine is started if none runs and the test is root. It leaves the machine's
//! network unchanged. Substitutes are never added to an engine that somebody else runs.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, reason = "a panic fails the test")]

mod bases;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rig::process::{is_root, run};
use rig::wait::until;
use tempfile::TempDir;

pub use crate::bases::RUST;

/// The time limit for an engine to respond.
const START: Duration = Duration::from_secs(60);

/// A docker engine. See the [module](self).
#[derive(Debug)]
pub struct Engine {
    daemon: Option<Daemon>,
    /// `docker compose`, or the older `docker-compose`.
    compose: &'static [&'static str],
}

/// An engine that was started here, and is stopped when it is dropped.
#[derive(Debug)]
struct Daemon {
    process: Child,
    dir: TempDir,
}

impl Engine {
    /// Finds or starts an engine that has the base images. Prints a reason and returns
    /// `None` if that is not possible.
    #[must_use]
    pub fn find() -> Option<Self> {
        if rig::program("docker").is_none() {
            rig::skip("docker is not installed (Debian: docker.io)");
            return None;
        }
        let Some(compose) = compose() else {
            rig::skip("docker compose is not installed (Debian: docker-compose)");
            return None;
        };
        let running = Self {
            daemon: None,
            compose,
        };
        let is_there = succeeds(running.docker().arg("info"));
        let engine = if is_there {
            running
        } else {
            Self {
                daemon: Some(Daemon::start()?),
                ..running
            }
        };
        engine.has_bases().then_some(engine)
    }

    /// Returns a `docker` command for this engine.
    #[must_use]
    pub fn docker(&self) -> Command {
        self.command(&["docker"])
    }

    /// Returns a `docker compose` command for this engine and a file.
    #[must_use]
    pub fn compose(&self, file: &Path) -> Command {
        let mut command = self.command(self.compose);
        command.arg("-f").arg(file);
        command
    }

    /// Builds an image as described in the first lines of its Dockerfile.
    pub fn build(&self, name: &str) {
        let tag = format!("syslog-sink-{name}:{}", env!("CARGO_PKG_VERSION"));
        run(self
            .docker()
            .args(["build", "--network", "host", "--tag", &tag, "--file"])
            .arg(root().join(format!("docker/{name}.Dockerfile")))
            .arg(root()));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        if let Some(daemon) = &self.daemon {
            command.env("DOCKER_HOST", daemon.address());
        }
        command
    }

    /// Returns whether the images can be built. Substitutes for missing base images are
    /// only added to an engine that was started here.
    fn has_bases(&self) -> bool {
        let lacks = |image: &&&str| {
            let is_there = succeeds(self.docker().args(["image", "inspect", image]));
            !is_there && (self.daemon.is_some() || !succeeds(self.docker().args(["pull", image])))
        };
        let lacking: Vec<&&str> = bases::ALL.iter().filter(lacks).collect();
        if lacking.is_empty() {
            return true;
        }
        if self.daemon.is_none() {
            rig::skip(&format!("the engine cannot pull {lacking:?}"));
            return false;
        }
        bases::load(self)
    }
}

impl Daemon {
    fn start() -> Option<Self> {
        let Some(program) = rig::program("dockerd") else {
            rig::skip(
                "no docker engine is running, and dockerd is not installed (Debian: docker.io)",
            );
            return None;
        };
        if !is_root() {
            rig::skip("no docker engine is running, and starting one requires root");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        let log = fs::File::create(path("log")).expect("a file");
        let process = Command::new(program)
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", path("socket").display()))
            // The machine's own network is not changed.
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("dockerd was found");
        let daemon = Self { process, dir };
        let address = daemon.address();
        let answers = || {
            let mut docker = Command::new("docker");
            docker.args(["--host", &address, "info"]);
            succeeds(&mut docker).then_some(())
        };
        if until(START, answers).is_err() {
            let log = fs::read_to_string(daemon.dir.path().join("log")).unwrap_or_default();
            let why = log.lines().last().unwrap_or_default();
            rig::skip(&format!("dockerd does not run here: {why}"));
            return None;
        }
        Some(daemon)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.dir.path().join("socket").display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After SIGTERM the engine stops its containers and removes its mounts.
        let id = self.process.id().to_string();
        let asked = Command::new("kill").arg(id).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        // The engine does not remove this mount.
        let network = self.dir.path().join("exec/netns/default");
        let _ = Command::new("umount").arg(network).output();
    }
}

fn compose() -> Option<&'static [&'static str]> {
    let all: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    all.into_iter().find(|words| {
        let mut command = Command::new(words[0]);
        succeeds(command.args(&words[1..]).arg("version"))
    })
}

fn succeeds(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

/// Returns the root folder of the project.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
