//! Generates the bindings of `fluent-bit` from its C header: `make bindings`.
//!
//! The generated file is checked in, so that building a plugin does not require
//! libclang. A test fails if the file is out of date.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    fs::write(path("src/bindings.rs"), generate())
}

/// Returns the path of a file in the folder of `fluent-bit`.
fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(file)
}

fn generate() -> String {
    bindgen::Builder::default()
        .header(path("include/fluent_bit_proxy.h").to_string_lossy())
        .allowlist_file(".*fluent_bit_proxy[.]h")
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .use_core()
        .merge_extern_blocks(true)
        .disable_header_comment()
        .raw_line("// Generated from include/fluent_bit_proxy.h by `make bindings`. Do not edit.")
        .generate()
        .expect("the header is valid C")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_are_current() {
        if std::panic::catch_unwind(bindgen::clang_version).is_err() {
            eprintln!("skipped: libclang is not installed (Debian: libclang-dev)");
            return;
        }
        let current = fs::read_to_string(path("src/bindings.rs")).unwrap();
        assert_eq!(
            current,
            generate(),
            "src/bindings.rs is out of date: run `make bindings`"
        );
    }
}
