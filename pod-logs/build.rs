//! Links the library with `-z nodelete`. Fluent Bit unloads plugins on a hot reload, but the
//! library must stay mapped, because destructors of thread-local variables may run later in
//! threads of Fluent Bit.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
