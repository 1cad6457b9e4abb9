//! Links the library with `-z nodelete`. Fluent Bit unloads plugins on a hot reload;
//! the library must stay mapped, because thread-local destructors may run later.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
