//! Compiles the host twice: with the functions that Fluent Bit exports to plugins, and
//! without them, like a host that does not export its symbols.

use std::env;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 6] = [
    "main.c",
    "cases.c",
    "proxy.c",
    "flush.c",
    "memory.c",
    "msgpack.c",
];
const EXPORTS: &str = "exports.c";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=src/c");
    link(
        &out.join("host"),
        &[&SOURCES[..], &[EXPORTS]].concat(),
        "HOST",
        &[],
    );
    link(&out.join("bare-host"), &SOURCES, "BARE_HOST", &["-DBARE"]);
}

fn link(program: &Path, sources: &[&str], variable: &str, flags: &[&str]) {
    let status = cc::Build::new()
        .opt_level(1)
        .get_compiler()
        .to_command()
        .args([
            "-std=gnu11",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-rdynamic",
        ])
        .args(flags)
        .args(sources.iter().map(|source| Path::new("src/c").join(source)))
        .arg("-o")
        .arg(program)
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("a C compiler is installed");
    assert!(status.success(), "the host does not compile");
    println!("cargo::rustc-env={variable}={}", program.display());
}
