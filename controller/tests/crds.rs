//! The CRDs in the chart are those of the types.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails where something is not as it must be"
)]

use std::fs;
use std::path::Path;

use controller::resources::{crds, yaml};

/// `UPDATE_GOLDEN=1` writes them anew, to be looked at.
#[test]
fn the_files_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart/files/crds");
    for crd in crds() {
        let name = format!("{}.yaml", crd.metadata.name.as_deref().unwrap());
        let path = folder.join(&name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, yaml(&crd)).unwrap();
        }
        let file = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(file, yaml(&crd), "{name}: `make golden` writes it anew");
    }
}
