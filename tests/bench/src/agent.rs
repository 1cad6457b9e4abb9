//! Benchmarks of a real Fluent Bit that reads containers' logs, with queues on disk.
//!
//! ```text
//! lag      the time from a line's write to its arrival, by round trip
//! flow     the throughput with 50 containers that write at a high rate
//! backlog  a queue that was filled while the receiver was down
//! many     hundreds of outputs
//! disk     bytes written to disk, and lines lost by a kill
//! pod_logs the input that reads pods' logs
//! ```

mod arrivals;
mod backlog;
mod disk;
mod flow;
mod lag;
mod many;
mod pod_logs;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rig::containers::{Container, Node};
use rig::fluent_bit::{self, FluentBit};
use tempfile::TempDir;

pub(crate) use self::backlog::measure as backlog;
pub(crate) use self::disk::measure as disk;
pub(crate) use self::flow::measure as flow;
pub(crate) use self::lag::measure as lag;
pub(crate) use self::many::measure as many;
pub(crate) use self::pod_logs::measure as pod_logs;

/// A running Fluent Bit and its files.
struct Agent {
    fluent_bit: FluentBit,
    dir: TempDir,
}

/// The settings of an agent.
#[derive(Clone, Copy)]
struct Settings<'s> {
    /// The command that runs it, if any.
    wrapper: &'s [String],
    /// The folder of the containers' logs.
    logs: &'s Path,
    /// `filesystem` or `memory`.
    storage: &'s str,
    /// The sections of the outputs.
    outputs: &'s str,
}

impl Agent {
    fn start(settings: Settings<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fluent_bit = run(settings, dir.path());
        Self { fluent_bit, dir }
    }

    /// Kills Fluent Bit and starts it again with the state on disk.
    fn kill_and_start(&mut self, settings: Settings<'_>) {
        self.fluent_bit.kill();
        self.fluent_bit = run(settings, self.dir.path());
    }

    fn status(&self, field: &str) -> u64 {
        number(self.fluent_bit.id(), "status", field)
    }
}

/// Returns a number from a file of a process below `/proc`.
fn number(process: u32, file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
    let value = |line: &str| {
        let value = line.strip_prefix(field)?.strip_prefix(':')?;
        value.split_whitespace().next()?.parse().ok()
    };
    text.lines().find_map(value).expect("the field is a number")
}

/// Returns the number of bytes that a process has read from its open logs.
fn bytes_read(process: u32) -> u64 {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    let is_log = |path: &Path| fs::read_link(path).is_ok_and(|to| to.ends_with("0.log"));
    let logs = entries.flatten().filter(|entry| is_log(&entry.path()));
    let position = |name: &str| number(process, &format!("fdinfo/{name}"), "pos");
    logs.map(|entry| position(&entry.file_name().to_string_lossy()))
        .sum()
}

fn run(settings: Settings<'_>, dir: &Path) -> FluentBit {
    let Settings {
        wrapper,
        logs,
        storage,
        outputs,
    } = settings;
    let configuration = format!(
        "[SERVICE]\n    Flush 1\n    Grace 1\n    Log_Level error\n    \
         storage.path {dir}/chunks\n    storage.max_chunks_up 1000\n    scheduler.base 1\n    \
         scheduler.cap 5\n\
         [INPUT]\n    Name tail\n    Path {logs}/containers/*.log\n    \
         Tag kube.var.log.containers.<file>.log\n    Tag_Regex (?<file>[^/]+)\\.log$\n    \
         DB {dir}/tail.db\n    multiline.parser cri\n    Read_from_Head On\n    \
         Refresh_Interval 1\n    Mem_Buf_Limit 200M\n    storage.type {storage}\n{outputs}",
        dir = dir.display(),
        logs = logs.display(),
    );
    let file = dir.join("fluent-bit.conf");
    fs::write(&file, configuration).unwrap();
    let program = fluent_bit::find().expect("Fluent Bit was found");
    FluentBit::start_by(wrapper, &program, &[host::library()], &file, &[])
}

/// Returns an output of the plugin, with a queue below `queues`.
fn ours(address: &str, queues: &Path) -> String {
    format!(
        "[OUTPUT]\n    Name syslog_sink\n    Match *\n    cluster on\n    servers {address}\n    \
         transport tcp\n    queue_path {}\n    queue_name sink\n    queue_limit 20480M\n",
        queues.display()
    )
}

/// Returns the built-in output.
fn built_in(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap();
    format!(
        "[OUTPUT]\n    Name syslog\n    Match *\n    Host {host}\n    Port {port}\n    Mode tcp\n    \
         Workers 1\n    Retry_Limit no_limits\n    Syslog_Format rfc5424\n    \
         Syslog_Message_Key log\n    Syslog_Hostname_Preset node-1\n"
    )
}

/// A node with containers.
struct Logs {
    dir: TempDir,
    containers: Vec<Container>,
}

impl Logs {
    fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::new(dir.path());
        let start = |number| node.start("shop", &format!("web-{number}"), "nginx");
        Self {
            containers: (0..count).map(start).collect(),
            dir,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

/// Returns the quantile of the values.
fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(Duration::MAX)
}
