//! The configuration keys of the queue on disk.

use std::path::PathBuf;
use std::time::Duration;

use super::options::Options;
use super::{ConfigError, value};

/// The configuration of an output's queue on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The folder that contains the queues of all outputs.
    pub path: PathBuf,
    /// The name of this output's folder in `path`.
    pub name: String,
    /// The maximum size of the queue, in bytes.
    pub limit: usize,
    /// The maximum size of all queues in `path`, in bytes.
    pub total_limit: Option<usize>,
    /// Whether a chunk is acknowledged to Fluent Bit only after `fdatasync`.
    pub sync: bool,
    /// The time after the start at which queues that no output has opened are
    /// deleted.
    pub orphan_age: Duration,
}

/// More than twice the largest message, so that any message fits.
const SMALLEST: usize = 50_000_000;
const LARGEST: usize = 1_000_000_000_000;
const LARGEST_TOTAL: usize = 1000 * LARGEST;

/// Parses the keys of the queue. Returns `None` if `queue_path` is not set.
pub(super) fn parse(options: &Options<'_>) -> Result<Option<QueueConfig>, ConfigError> {
    let name = options.optional("queue_name", name)?;
    let limit = options.parsed("queue_limit", |text| value::size(text, SMALLEST, LARGEST))?;
    let total_limit = options.optional("queue_total_limit", |text| {
        value::size(text, SMALLEST, LARGEST_TOTAL)
    })?;
    let sync = options.flag("queue_sync")?;
    let orphan_age = options.duration("queue_orphan_age")?;
    let Some(path) = options.optional("queue_path", path)? else {
        return Ok(None);
    };
    let Some(name) = name else {
        let problem = "missing, required with queue_path: set a name that no other output with \
                       this queue_path has, and keep it for as long as the receiver has the same owner";
        return Err(options.error("queue_name", problem));
    };
    Ok(Some(QueueConfig {
        path,
        name,
        limit,
        total_limit,
        sync,
        orphan_age,
    }))
}

fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("must be an absolute path, such as /var/lib/syslog-sink".to_owned())
    }
}

/// Parses a name that is a valid single folder name on every file system.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() <= 128 && text.chars().all(is_plain) && !text.starts_with('.') {
        Ok(text.to_owned())
    } else {
        let allowed =
            "must be 1 to 128 ASCII letters, digits, '-', '_' and '.', not starting with '.'";
        Err(format!("invalid folder name, {allowed}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_name_must_be_a_folder_name() {
        for valid in [
            "a",
            "shop.siem",
            "5d0f3c1e-7a53-4b6a-9d7e-1f5c5d3c1e2b",
            "A_1",
        ] {
            assert_eq!(name(valid).as_deref(), Ok(valid));
        }
        for invalid in [
            "..",
            ".",
            ".hidden",
            "a/b",
            "a b",
            "\u{e4}",
            &"x".repeat(129),
        ] {
            assert!(name(invalid).is_err(), "{invalid:?}");
        }
    }
}
