//! Values that all outputs with the same queue folder share, as long as an output uses
//! them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A map from folders to their shared values.
#[derive(Debug)]
pub(crate) struct SharedByFolder<T>(Mutex<Option<HashMap<PathBuf, Weak<T>>>>);

impl<T> SharedByFolder<T> {
    /// Creates an empty map.
    #[must_use]
    #[allow(
        clippy::new_without_default,
        reason = "a static needs a constant function"
    )]
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the value of a folder, or creates it if no output uses one.
    pub(crate) fn get_or_create(&self, folder: &Path, create: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut values = self.0.lock();
        let values = values.get_or_insert_default();
        values.retain(|_, value| value.strong_count() > 0);
        if let Some(existing) = values.get(folder).and_then(Weak::upgrade) {
            return existing;
        }
        let created = create();
        values.insert(folder.to_owned(), Arc::downgrade(&created));
        created
    }
}
