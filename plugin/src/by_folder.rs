//! Values that all outputs of a folder share, for as long as any output uses them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// The shared value of each folder.
#[derive(Debug)]
pub(crate) struct ByFolder<T>(Mutex<Option<HashMap<PathBuf, Weak<T>>>>);

impl<T> ByFolder<T> {
    /// Starts without folders.
    #[must_use]
    #[allow(
        clippy::new_without_default,
        reason = "a static needs a constant function"
    )]
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the folder's value, which is made if no output uses one.
    pub(crate) fn get_or(&self, folder: &Path, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut values = self.0.lock();
        let values = values.get_or_insert_default();
        values.retain(|_, value| value.strong_count() > 0);
        if let Some(running) = values.get(folder).and_then(Weak::upgrade) {
            return running;
        }
        let made = make();
        values.insert(folder.to_owned(), Arc::downgrade(&made));
        made
    }
}
