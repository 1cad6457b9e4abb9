//! Fluent Bit unloads plugins on a hot reload. A library that stays mapped
//! cannot pull its code from under a destructor that runs late.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
