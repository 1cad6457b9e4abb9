//! The CRDs in the chart, and their reference in the docs, are those of the types.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use api::{crds, yaml};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// `UPDATE_GOLDEN=1` writes it again, to be looked at.
fn is_current(path: &str, content: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(project(path), content).unwrap();
    }
    let file = fs::read_to_string(project(path)).unwrap_or_default();
    assert_eq!(file, content, "{path}: run `make golden` to regenerate it");
}

#[test]
fn the_charts_crds_are_current() {
    for crd in crds() {
        let name = crd.metadata.name.as_deref().unwrap();
        is_current(&format!("deploy/chart/files/crds/{name}.yaml"), &yaml(&crd));
    }
}

#[test]
fn the_reference_is_current() {
    is_current("docs/RESOURCES.md", &reference::markdown(&crds()));
}
