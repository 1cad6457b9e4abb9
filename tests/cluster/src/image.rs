//! Container images built from files on this machine: a program and the libraries that
//! it needs. There is no registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::process::run;
use serde_json::json;

/// The name of the agents' image.
pub const AGENT: &str = "localhost/agent:1";
/// The name of an image with a shell.
pub const SHELL: &str = "localhost/busybox:1";

/// The contents of an image.
#[derive(Debug)]
pub struct Image {
    /// The name and tag.
    pub name: &'static str,
    /// Programs and libraries, each with its path in the image.
    pub files: Vec<(PathBuf, &'static str)>,
    /// The entry point.
    pub entrypoint: &'static [&'static str],
    /// The user and group, as numbers; empty for root.
    pub user: &'static str,
}

/// Returns an image of Fluent Bit with the libraries of the output and the input, and its entry
/// point, as in docker/agent.Dockerfile.
#[must_use]
pub fn agent(fluent_bit: &Path, output: &Path, input: &Path) -> Image {
    Image {
        name: AGENT,
        files: vec![
            (sink_agent(), "/bin/sink-agent"),
            (fluent_bit.to_owned(), "/bin/fluent-bit"),
            (output.to_owned(), "/bin/out_syslog_sink.so"),
            (input.to_owned(), "/bin/in_pod_logs.so"),
        ],
        entrypoint: &[
            "/bin/sink-agent",
            "--",
            "/bin/fluent-bit",
            "-e",
            "/bin/out_syslog_sink.so",
            "-e",
            "/bin/in_pod_logs.so",
        ],
        user: "",
    }
}

/// Returns the path of the agents' entry point, and builds it first if it is outdated.
fn sink_agent() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    run(Command::new(env!("CARGO"))
        .args(["build", "--package", "agent", "--quiet"])
        .current_dir(&root));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    target.join("debug/sink-agent")
}

/// Returns an image of Busybox, which the sandbox requires.
#[must_use]
pub fn shell() -> Image {
    let busybox = rig::program("busybox").expect("the sandbox has checked this");
    let place = |place| (busybox.clone(), place);
    Image {
        name: SHELL,
        files: ["/bin/sh", "/bin/sleep"].map(place).into(),
        entrypoint: &["/bin/sh"],
        user: "",
    }
}

impl Image {
    /// Writes the image in the format of `docker save`.
    #[must_use]
    pub fn archive(&self, folder: &Path) -> PathBuf {
        let folder = folder.join(self.name.replace(['/', ':'], "-"));
        let root = folder.join("root");
        for directory in ["tmp", "etc", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(directory)).expect("a folder");
        }
        for (file, place) in &self.files {
            copy(file, &root.join(place.trim_start_matches('/')));
            for library in libraries(file) {
                copy(
                    &library,
                    &root.join(library.strip_prefix("/").expect("absolute")),
                );
            }
        }
        let layer = folder.join("layer.tar");
        run(Command::new("tar")
            .args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
            .arg(&layer)
            .arg("-C")
            .arg(&root)
            .arg("."));
        let sum = run(Command::new("sha256sum").arg(&layer));
        let digest = sum.split(' ').next().expect("a sum");
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/bin"],
                "User": self.user,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{
            "Config": "config.json",
            "RepoTags": [self.name],
            "Layers": ["layer.tar"],
        }]);
        fs::write(folder.join("config.json"), config.to_string()).expect("a file");
        fs::write(folder.join("manifest.json"), manifest.to_string()).expect("a file");
        let archive = folder.join("image.tar");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&folder)
            .args(["manifest.json", "config.json", "layer.tar"]));
        archive
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// Returns the libraries that the loader would load, and the loader; nothing for a
/// static program.
#[must_use]
pub fn libraries(file: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(file).output().expect("ldd exists");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| {
            let line = line.trim().rsplit("=> ").next()?;
            let path = line.split(' ').next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}
