//! The error of a file operation.

use std::io;
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    /// The operation: a verb.
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// Returns the operating system's error.
    #[must_use]
    pub const fn cause(&self) -> &io::Error {
        &self.source
    }

    /// Returns the error and its cause in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Adds the operation and the path to an I/O error.
pub(crate) trait Context<T> {
    /// Wraps the error. `action` is a verb, such as "read".
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
