//! A test host: a C program that loads the plugin's library and calls it as Fluent
//! Bit's proxy does. See `src/c/host.h`.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a panic fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rig::process::Process;
use serde::Deserialize;

/// The path of the host.
pub const EXECUTABLE: &str = env!("HOST");
/// The path of a host without the functions that Fluent Bit exports to plugins.
pub const BARE_EXECUTABLE: &str = env!("BARE_HOST");

/// Returns the path of the output's library: the value of `SYSLOG_SINK_LIBRARY` if it is
/// set. Otherwise builds the library in release mode.
#[must_use]
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build("SYSLOG_SINK_LIBRARY", "plugin", "libout_syslog_sink.so"))
}

/// Returns the path of the library of the input that reads pod logs, like [`library`]; the
/// variable is `POD_LOGS_LIBRARY`.
#[must_use]
pub fn pod_logs_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build("POD_LOGS_LIBRARY", "pod-logs", "libin_pod_logs.so"))
}

/// Returns the paths of both libraries.
#[must_use]
pub fn libraries() -> [&'static Path; 2] {
    [pod_logs_library(), library()]
}

/// Returns the path in a variable, or else builds a package and returns its library's path.
fn build(variable: &str, package: &str, file: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", package, "--quiet"])
        .current_dir(&root)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "{package} does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let library = target.join("release").join(file);
    fs::canonicalize(library).expect("the library was built")
}

/// A builder for `host run`.
#[derive(Clone, Debug)]
pub struct Host {
    /// The command that runs the host, `ip netns exec ...` for example; may be empty.
    wrapper: Vec<String>,
    arguments: Vec<String>,
    outputs: Vec<String>,
}

/// The results and measurements of a run.
#[derive(Debug)]
pub struct Run {
    /// The results of each output; empty if an output could not be initialized.
    pub outputs: Vec<Flushed>,
    /// Whether the plugin did not write beyond the host's structures.
    pub intact: bool,
    /// The peak memory of the process, in KiB.
    pub peak_kib: u64,
    /// The time from loading the library until all outputs are initialized.
    pub start: Duration,
    /// The wall-clock time of all flushes.
    pub wall: Duration,
    /// The processor time of all flushes, including the plugin's own thread.
    pub cpu: Duration,
    /// The workers' share of `cpu`.
    pub workers_cpu: Duration,
    /// The processor time during [`Host::idle`].
    pub idle_cpu: Duration,
    /// The memory at the end of [`Host::idle`], in KiB.
    pub idle_kib: u64,
    /// The number of threads at the end of [`Host::idle`], of the host and the plugin.
    pub idle_threads: u64,
    /// The duration of each flush, with [`Host::rounds`].
    pub flushes: Vec<Duration>,
    /// The plugin's log.
    pub log: String,
}

/// The results of an output's chunks.
#[derive(Debug, Deserialize)]
pub struct Flushed {
    /// The output's name.
    pub name: String,
    /// The number of chunks that ended with `FLB_OK`.
    pub ok: u32,
    /// The number of chunks that ended with `FLB_RETRY`.
    pub retry: u32,
    /// The number of chunks that ended with `FLB_ERROR`.
    pub error: u32,
    /// The maximum stack use of a flush, in bytes.
    pub stack: usize,
    /// The numbers of the chunks that did not end with `FLB_OK`; empty with
    /// [`Host::rounds`].
    pub failed: Vec<usize>,
}

#[derive(Deserialize)]
struct Summary {
    outputs: Vec<Flushed>,
    intact: bool,
    peak_kib: u64,
    start_us: u64,
    wall_us: u64,
    cpu_us: u64,
    workers_cpu_us: u64,
    idle_cpu_us: u64,
    idle_kib: u64,
    idle_threads: u64,
    flush_ns: Vec<u64>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// Creates a host like Fluent Bit 5.1, with the smaller stacks of older versions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wrapper: Vec::new(),
            arguments: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Sets the number of chunks that each output flushes concurrently.
    #[must_use]
    pub fn workers(self, count: u32) -> Self {
        self.argument("--workers", &count.to_string())
    }

    /// Sets the maximum number of retries of a chunk, which happen every 100 ms.
    #[must_use]
    pub fn retries(self, count: u32) -> Self {
        self.argument("--retries", &count.to_string())
    }

    /// Flushes all chunks `count` times, without the checks that take time.
    #[must_use]
    pub fn rounds(self, count: u32) -> Self {
        self.argument("--rounds", &count.to_string())
    }

    /// Pauses between the flushes of [`Host::rounds`].
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.argument("--pause-us", &time.as_micros().to_string())
    }

    /// Waits after the flushes, before [`Host::idle`].
    #[must_use]
    pub fn settle(self, time: Duration) -> Self {
        self.argument("--settle-ms", &time.as_millis().to_string())
    }

    /// Idles after the flushes, and measures the idle costs.
    #[must_use]
    pub fn idle(self, time: Duration) -> Self {
        self.argument("--idle-ms", &time.as_millis().to_string())
    }

    /// Keeps the outputs open until the closure of [`Host::run_while`] returns.
    #[must_use]
    pub fn hold(self) -> Self {
        self.argument("--hold", "1")
    }

    /// Runs the host by another command, to which the host's command line is appended.
    #[must_use]
    pub fn wrapper(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Adds an output. It sends all namespaces, unless an option sets the namespace.
    #[must_use]
    pub fn output(mut self, name: &str, options: &[(&str, &str)]) -> Self {
        self.outputs
            .extend(["--output".to_owned(), name.to_owned()]);
        let sets_namespace = |(key, value): &(&str, &str)| {
            matches!(*key, "namespace" | "cluster") || (*key, *value) == ("identity", "none")
        };
        let is_set = options.iter().any(sets_namespace);
        let default = (!is_set).then_some(&("cluster", "on"));
        for (key, value) in options.iter().chain(default) {
            self.outputs
                .extend(["--option".to_owned(), format!("{key}={value}")]);
        }
        self
    }

    /// Runs the host, which flushes each chunk (tag and data) to each output.
    #[must_use]
    pub fn run(&self, chunks: &[(String, Vec<u8>)]) -> Run {
        self.run_while(chunks, || {})
    }

    /// Runs the host like [`Host::run`], and calls `meanwhile` while it runs. If
    /// `meanwhile` panics, the host is killed and its log printed.
    #[must_use]
    pub fn run_while(&self, chunks: &[(String, Vec<u8>)], meanwhile: impl FnOnce()) -> Run {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("chunks"), rig::event::chunk_file(chunks)).expect("a file");
        let file = |name: &str| fs::File::create(path(name)).expect("a file");
        let mut words = self.wrapper.iter().map(String::as_str).chain([EXECUTABLE]);
        let process = Command::new(words.next().unwrap_or(EXECUTABLE))
            .args(words)
            .arg("run")
            .arg(library())
            .args(&self.arguments)
            .arg("--chunks")
            .arg(path("chunks"))
            .args(&self.outputs)
            .stdin(Stdio::piped())
            .stdout(file("summary"))
            .stderr(file("log"))
            .spawn()
            .expect("the host starts");
        let mut process = Process(process);
        let on_panic = ShowLog(path("log"));
        meanwhile();
        drop(on_panic);
        // Waiting closes the standard input of the host, which ends `hold`.
        let status = process.0.wait().expect("the host ends");
        let text = |name: &str| {
            let bytes = fs::read(path(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Run::read(status, &text("summary"), text("log"))
    }
}

/// Prints a log if it is dropped during a panic.
struct ShowLog(PathBuf);

impl Drop for ShowLog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.0).unwrap_or_default());
        }
    }
}

impl Run {
    fn read(status: ExitStatus, summary: &str, log: String) -> Self {
        let Summary {
            outputs,
            intact,
            peak_kib,
            start_us,
            wall_us,
            cpu_us,
            workers_cpu_us,
            idle_cpu_us,
            idle_kib,
            idle_threads,
            flush_ns,
        } = serde_json::from_str(summary)
            .unwrap_or_else(|error| panic!("the host ended with {status}: {error}\n{log}"));
        Self {
            outputs,
            intact,
            peak_kib,
            start: Duration::from_micros(start_us),
            wall: Duration::from_micros(wall_us),
            cpu: Duration::from_micros(cpu_us),
            workers_cpu: Duration::from_micros(workers_cpu_us),
            idle_cpu: Duration::from_micros(idle_cpu_us),
            idle_kib,
            idle_threads,
            flushes: flush_ns.into_iter().map(Duration::from_nanos).collect(),
            log,
        }
    }
}
