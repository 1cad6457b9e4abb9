//! The configuration keys of an `[INPUT]`. `docs/POD_LOGS.md` is their reference.

use std::collections::BTreeSet;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reader::LogFolder;
use thiserror::Error;

/// The keys, with their defaults; empty if a key has none.
const KEYS: &[(&str, &str)] = &[
    ("path", "/var/log/pods"),
    ("link_paths", "/var/lib/docker/containers"),
    ("queue_path", ""),
    ("position_path", ""),
    ("namespaces", ""),
    ("exclude_namespaces", ""),
    ("exclude_pods", ""),
    ("start", "end"),
    ("max_line_size", "1M"),
    ("labels_path", ""),
    ("labels_wait", "5s"),
    ("records", "group"),
    ("node_name", ""),
];

/// The configuration of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The folder of all pods' logs.
    pub(crate) path: PathBuf,
    /// The folders, besides the one that `path` is in, to which links in it may lead.
    pub(crate) link_paths: Vec<PathBuf>,
    /// The folder of the outputs' queues.
    pub(crate) queue_path: Option<PathBuf>,
    /// The file with the input's own positions, for outputs without queues.
    pub(crate) position_path: Option<PathBuf>,
    /// The only namespaces whose containers are read; all if it is empty.
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) exclude_namespaces: BTreeSet<String>,
    /// Pods as `<namespace>/<pod>`.
    pub(crate) exclude_pods: BTreeSet<String>,
    pub(crate) start: StartFrom,
    /// The maximum size of a text in bytes.
    pub(crate) max_line_size: usize,
    /// The folder with the files of pods' labels.
    pub(crate) labels_path: Option<PathBuf>,
    /// The time for which a container waits for its labels.
    pub(crate) labels_wait: Duration,
    pub(crate) records: Records,
    /// The name of this node; that of the machine if it is not configured.
    pub(crate) node_name: String,
}

/// The point from which logs are read that were there before the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFrom {
    Beginning,
    End,
    /// The lines of the last so much time.
    Last(Duration),
}

/// The form of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    /// In groups, whose metadata has the container.
    Group,
    /// Each with the container.
    Flat,
}

/// An invalid value.
#[derive(Debug, Error)]
#[error("invalid value \"{value}\" of {key}: {problem}")]
pub(crate) struct ConfigError {
    key: &'static str,
    value: String,
    problem: String,
}

impl Config {
    /// Parses the keys that `get` returns.
    ///
    /// # Errors
    ///
    /// Returns an error that names the key, its value, and what is allowed.
    pub(crate) fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let keys = Keys { get: &get };
        Ok(Self {
            path: keys.parsed("path", absolute)?,
            link_paths: keys.parsed("link_paths", absolutes)?,
            queue_path: keys.optional("queue_path", absolute)?,
            position_path: keys.optional("position_path", absolute)?,
            namespaces: keys.parsed("namespaces", names)?,
            exclude_namespaces: keys.parsed("exclude_namespaces", names)?,
            exclude_pods: keys.parsed("exclude_pods", pods)?,
            start: keys.parsed("start", start)?,
            max_line_size: keys.parsed("max_line_size", size)?,
            labels_path: keys.optional("labels_path", absolute)?,
            labels_wait: keys.parsed("labels_wait", duration)?,
            records: keys.parsed("records", records)?,
            node_name: keys.text("node_name").1.unwrap_or_else(machine_name),
        })
    }

    /// Returns the folder of all pods' logs, with the folders to which links in it may lead.
    pub(crate) fn logs(&self) -> LogFolder {
        let own = self
            .path
            .parent()
            .filter(|folder| *folder != Path::new("/"));
        let own = own.unwrap_or(&self.path).to_owned();
        LogFolder {
            path: self.path.clone(),
            links: iter::once(own).chain(self.link_paths.clone()).collect(),
        }
    }
}

struct Keys<'g> {
    get: &'g dyn Fn(&str) -> Option<String>,
}

impl Keys<'_> {
    /// Returns a key, and its value if there is one or a default.
    fn text(&self, name: &str) -> (&'static str, Option<String>) {
        let found = KEYS.iter().find(|(key, _)| *key == name);
        let (key, default) = found.expect("the table has all keys");
        let value = (self.get)(key).filter(|value| !value.trim().is_empty());
        let default = (!default.is_empty()).then(|| (*default).to_owned());
        (key, value.or(default))
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let (key, value) = self.text(name);
        let value = value.unwrap_or_default();
        parse(value.trim()).map_err(|problem| ConfigError {
            key,
            value,
            problem,
        })
    }

    fn optional<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        match self.text(name).1 {
            Some(_) => self.parsed(name, parse).map(Some),
            None => Ok(None),
        }
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("must be an absolute path, such as /var/log/pods".to_owned())
    }
}

/// Parses folders. The root is refused, because links could then lead anywhere.
fn absolutes(text: &str) -> Result<Vec<PathBuf>, String> {
    let paths: Vec<PathBuf> = list(text).map(PathBuf::from).collect();
    let is_allowed = |path: &PathBuf| path.is_absolute() && path.parent().is_some();
    match paths.iter().find(|path| !is_allowed(path)) {
        None => Ok(paths),
        Some(path) => Err(format!(
            "{} is not a folder for links: an absolute path is expected, such as /var/lib/docker/containers",
            path.display()
        )),
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    (1..=253).contains(&text.len()) && text.bytes().all(is_allowed)
}

fn names(text: &str) -> Result<BTreeSet<String>, String> {
    match list(text).find(|name| !is_name(name)) {
        None => Ok(list(text).map(str::to_owned).collect()),
        Some(name) => Err(format!(
            "{name} is not a namespace: names of namespaces, separated by commas, are expected"
        )),
    }
}

fn pods(text: &str) -> Result<BTreeSet<String>, String> {
    let is_pod = |pod: &str| {
        let parts = pod.split_once('/');
        parts.is_some_and(|(namespace, pod)| is_name(namespace) && is_name(pod))
    };
    match list(text).find(|pod| !is_pod(pod)) {
        None => Ok(list(text).map(str::to_owned).collect()),
        Some(pod) => Err(format!(
            "{pod} is not a pod: <namespace>/<pod>, separated by commas, is expected"
        )),
    }
}

fn start(text: &str) -> Result<StartFrom, String> {
    match text {
        "beginning" => Ok(StartFrom::Beginning),
        "end" => Ok(StartFrom::End),
        _ => duration(text).map(StartFrom::Last).map_err(|_| {
            "must be end, beginning, or a time such as 30m or 2h for the lines since then"
                .to_owned()
        }),
    }
}

fn records(text: &str) -> Result<Records, String> {
    match text {
        "group" => Ok(Records::Group),
        "flat" => Ok(Records::Flat),
        _ => Err("must be group or flat".to_owned()),
    }
}

/// Parses a time with a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let parse = || {
        let unit = text.chars().last()?;
        let (_, seconds) = units.iter().find(|(name, _)| *name == unit)?;
        let number: u32 = text[..text.len() - 1].parse().ok()?;
        (number <= 1_000_000).then(|| Duration::from_secs(u64::from(number) * seconds))
    };
    parse().ok_or_else(|| "must be a number with the unit s, m, h or d, such as 5s".to_owned())
}

/// The smallest and the largest maximum of a text's size. The runtime writes parts of 16 KiB.
const SIZES: std::ops::RangeInclusive<usize> = 1024..=64 * 1024 * 1024;

/// Parses a number of bytes, with a unit of 1,024 bytes each or of its square.
fn size(text: &str) -> Result<usize, String> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1 << 10),
        None => match text.strip_suffix(['m', 'M']) {
            Some(number) => (number, 1 << 20),
            None => (text, 1),
        },
    };
    let size = number.parse::<usize>().ok();
    let size = size.and_then(|size| size.checked_mul(factor));
    size.filter(|size| SIZES.contains(size))
        .ok_or_else(|| "must be between 1k and 64M, such as 1M".to_owned())
}

fn machine_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &[(&str, &str)]) -> Result<Config, String> {
        let keys: Vec<(String, String)> = keys
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let get = |key: &str| {
            let found = keys.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.clone())
        };
        Config::parse(get).map_err(|error| error.to_string())
    }

    /// The table of `docs/POD_LOGS.md` has the same keys and defaults, in the same order.
    #[test]
    fn the_reference_lists_all_keys_and_defaults() {
        let reference = include_str!("../../docs/POD_LOGS.md");
        let (_, section) = reference.split_once("## All keys").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let rows: Vec<(&str, &str)> = rows
            .map(|line| {
                let cells = line.split('|').skip(1);
                let mut cells = cells.map(|cell| cell.trim().trim_matches('`'));
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        assert_eq!(rows, KEYS);
    }

    #[test]
    fn absent_and_empty_values_are_defaults() {
        let config = parse(&[("path", ""), ("node_name", "node-1")]).unwrap();
        assert_eq!(config.path, PathBuf::from("/var/log/pods"));
        let links = ["/var/log", "/var/lib/docker/containers"].map(PathBuf::from);
        assert_eq!(config.logs().links[..], links);
        assert_eq!((config.queue_path, config.namespaces.len()), (None, 0));
        assert_eq!(config.start, StartFrom::End);
        assert_eq!(
            (config.max_line_size, config.node_name.as_str()),
            (1 << 20, "node-1")
        );
        assert!(!parse(&[]).unwrap().node_name.is_empty());
    }

    #[test]
    fn values_are_parsed() {
        let config = parse(&[
            ("path", "/logs"),
            ("link_paths", "/data/docker, /data/other"),
            ("namespaces", "shop, bank"),
            ("exclude_pods", "logging/agent-x7"),
            ("start", "2h"),
            ("max_line_size", "64k"),
            ("records", "flat"),
        ]);
        let config = config.unwrap();
        let links = ["/logs", "/data/docker", "/data/other"].map(PathBuf::from);
        assert_eq!(config.logs().links[..], links);
        assert_eq!(
            config.namespaces,
            BTreeSet::from(["bank", "shop"].map(str::to_owned))
        );
        assert!(config.exclude_pods.contains("logging/agent-x7"));
        assert_eq!(config.start, StartFrom::Last(Duration::from_secs(7200)));
        assert_eq!(
            (config.max_line_size, config.records),
            (65_536, Records::Flat)
        );
    }

    #[test]
    fn an_invalid_value_is_named_with_what_is_allowed() {
        for (key, value, expected) in [
            (
                "path",
                "logs",
                "must be an absolute path, such as /var/log/pods",
            ),
            (
                "link_paths",
                "/var/lib/docker/containers, /",
                "/ is not a folder for links: an absolute path is expected, such as /var/lib/docker/containers",
            ),
            (
                "start",
                "2",
                "must be end, beginning, or a time such as 30m or 2h for the lines since then",
            ),
            (
                "max_line_size",
                "5",
                "must be between 1k and 64M, such as 1M",
            ),
            ("records", "x", "must be group or flat"),
            (
                "exclude_pods",
                "agent",
                "agent is not a pod: <namespace>/<pod>, separated by commas, is expected",
            ),
            (
                "namespaces",
                "a, B",
                "B is not a namespace: names of namespaces, separated by commas, are expected",
            ),
        ] {
            let error = parse(&[(key, value)]).unwrap_err();
            assert_eq!(
                error,
                format!("invalid value \"{value}\" of {key}: {expected}")
            );
        }
    }
}
