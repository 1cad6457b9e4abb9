//! Base images for an engine that cannot pull images: Debian from debootstrap, with
//! this machine's Rust and Fluent Bit, under the names of the original images. The
//! Dockerfiles are unchanged.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cluster::image::libraries;
use rig::fluent_bit;
use rig::process::run;

use crate::Engine;

/// The image that builds the plugin: Debian 11.
pub const RUST: &str = "docker.io/library/rust:1.95-bullseye";
const FLUENT_BIT: &str = "docker.io/fluent/fluent-bit:5.1.1";
const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";
pub(crate) const ALL: [&str; 3] = [RUST, FLUENT_BIT, DEBIAN];
/// A plain Debian 11.
const BULLSEYE: &str = "localhost/bullseye";

/// Rust, and the crates that this machine has already downloaded.
const OF_RUST: &str = "\
FROM localhost/bullseye
COPY bin /usr/local/rust/bin
COPY lib /usr/local/rust/lib
COPY registry /usr/local/cargo/registry
ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
";

/// Fluent Bit, and the libraries that Debian's image lacks.
const OF_FLUENT_BIT: &str = "\
FROM docker.io/library/debian:bookworm-slim
COPY root /
";

/// Builds the base images. Prints a reason and returns `false` if that fails.
pub(crate) fn load(engine: &Engine) -> bool {
    let Some(fluent_bit) = fluent_bit::find() else {
        return false;
    };
    let (Some(bookworm), Some(bullseye)) = (debian("bookworm"), debian("bullseye")) else {
        return false;
    };
    run(engine.docker().arg("import").arg(bookworm).arg(DEBIAN));
    run(engine.docker().arg("import").arg(bullseye).arg(BULLSEYE));
    rust(engine);
    with_fluent_bit(engine, &fluent_bit);
    true
}

/// Returns the root file system of a Debian with a C compiler, which is created once.
fn debian(suite: &str) -> Option<PathBuf> {
    let folder = user_folder("XDG_CACHE_HOME", ".cache").join("syslog-sink");
    let archive = folder.join(format!("debian-{suite}.tar"));
    if archive.exists() {
        return Some(archive);
    }
    if rig::program("debootstrap").is_none() {
        rig::skip("debootstrap is not installed (Debian: debootstrap)");
        return None;
    }
    eprintln!("Creating a Debian {suite} (takes a minute, only once) ...");
    fs::create_dir_all(&folder).expect("a folder");
    let root = tempfile::tempdir().expect("a temporary folder");
    let made = Command::new("debootstrap")
        .args([
            "--variant=minbase",
            "--include=ca-certificates,gcc,libc6-dev",
            suite,
        ])
        .arg(root.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        rig::skip(&format!("debootstrap cannot create a Debian {suite} here"));
        return None;
    }
    let new = archive.with_extension("new");
    run(Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .arg("-cf")
        .arg(&new)
        .arg("."));
    fs::rename(&new, &archive).expect("a file");
    Some(archive)
}

/// Returns the folder that a variable names, or else a folder in the user's home.
fn user_folder(variable: &str, of_home: &str) -> PathBuf {
    let named = env::var_os(variable).map(PathBuf::from);
    named.unwrap_or_else(|| {
        let home = env::var_os("HOME").expect("HOME is set");
        Path::new(&home).join(of_home)
    })
}

fn rust(engine: &Engine) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("Dockerfile"), OF_RUST).expect("a file");
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]));
    let mut context = Command::new("tar")
        .arg("-c")
        .arg("-C")
        .arg(folder.path())
        .arg("Dockerfile")
        .arg("-C")
        .arg(sysroot.trim())
        .args(["bin", "lib", "-C"])
        .arg(user_folder("CARGO_HOME", ".cargo"))
        .args(["registry/cache", "registry/index"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar exists");
    let stream = context.stdout.take().expect("stdout is piped");
    let mut docker = engine.docker();
    run(docker.args(["build", "--tag", RUST, "-"]).stdin(stream));
    let sent = context.wait();
    assert!(sent.is_ok_and(|status| status.success()), "tar");
}

fn with_fluent_bit(engine: &Engine, fluent_bit: &Path) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("Dockerfile"), OF_FLUENT_BIT).expect("a file");
    let root = folder.path().join("root");
    let copy = |file: &Path, place: &Path| {
        let target = root.join(place.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("a folder");
        fs::copy(file, target).expect("a file");
    };
    copy(fluent_bit, Path::new("/fluent-bit/bin/fluent-bit"));
    for library in libraries(fluent_bit) {
        // The folder may be a symbolic link (/lib), which must not be replaced.
        let parent = library.parent().expect("a folder");
        let parent = parent.canonicalize().expect("the folder exists");
        copy(&library, &parent.join(library.file_name().expect("a file")));
    }
    let mut docker = engine.docker();
    run(docker
        .args(["build", "--tag", FLUENT_BIT])
        .arg(folder.path()));
}
