//! A cluster with the CRDs, and the program running against it.

use std::fs;
use std::process::{Command, Stdio};

use cluster::ControlPlane;

/// The output and the exit status of a run of the program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

pub(crate) struct World {
    pub(crate) plane: ControlPlane,
}

impl World {
    /// Starts a cluster with the CRDs and the namespace `shop`.
    pub(crate) async fn start() -> Option<Self> {
        let plane = ControlPlane::start().await?;
        plane.install().await;
        let world = Self { plane };
        world.kubectl(&["create", "namespace", "shop"]);
        Some(world)
    }

    /// Runs the program by kubectl, which finds it like every plugin.
    pub(crate) fn sink(&self, arguments: &[&str]) -> Run {
        let mut command = self.plane.kubectl();
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_kubectl-sink"));
        let folders = [program.parent().unwrap().to_owned()];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path)));
        command.env("PATH", path.unwrap());
        run(command.arg("sink").args(arguments))
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        run(self.plane.kubectl().args(arguments)).ok()
    }

    /// Applies the output of a command.
    pub(crate) fn apply(&self, manifests: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), manifests).unwrap();
        let path = file.path().display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &path]);
    }
}

pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
