//! The host: a program in C that loads the plugin's library and drives it as
//! Fluent Bit's proxy does. See `src/c/host.h`.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "a test that cannot be set up fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rig::process::Process;
use serde::Deserialize;

/// The host.
pub const EXECUTABLE: &str = env!("HOST");
/// The host without the functions that Fluent Bit exports to plugins.
pub const BARE_EXECUTABLE: &str = env!("BARE_HOST");

/// The plugin's library: the file that `SYSLOG_SINK_LIBRARY` names, or else
/// the release build, made first where it is not current.
#[must_use]
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("SYSLOG_SINK_LIBRARY") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--release", "--package", "plugin", "--quiet"])
            .current_dir(&root)
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the plugin does not build");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let library = target.join("release/libout_syslog_sink.so");
        fs::canonicalize(library).expect("the library was built")
    })
}

/// Outputs and chunks for `host run`.
#[derive(Clone, Debug)]
pub struct Host {
    /// A command that runs the host: none, or `ip netns exec ...`.
    wrapper: Vec<String>,
    arguments: Vec<String>,
    outputs: Vec<String>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// One for each output; none where an output could not be initialised.
    pub outputs: Vec<Flushed>,
    /// Whether the plugin wrote nowhere that it must not.
    pub intact: bool,
    /// The most memory that the process had, in KiB.
    pub peak_kib: u64,
    /// From the library's loading to the last output's initialisation.
    pub start: Duration,
    /// The time of all flushes.
    pub wall: Duration,
    /// The processor time of all flushes, and of the plugin's own thread
    /// meanwhile.
    pub cpu: Duration,
    /// The part of it that is the workers'.
    pub workers_cpu: Duration,
    /// The processor time of [`Host::idle`].
    pub idle_cpu: Duration,
    /// The memory at its end, in KiB.
    pub idle_kib: u64,
    /// The threads at its end: the host's own, and the plugin's.
    pub idle_threads: u64,
    /// How long each flush took, with [`Host::rounds`].
    pub flushes: Vec<Duration>,
    /// What the plugin logged.
    pub log: String,
}

/// What came of one output's chunks.
#[derive(Debug, Deserialize)]
pub struct Flushed {
    /// The output's name.
    pub name: String,
    /// Chunks that ended with `FLB_OK`.
    pub ok: u32,
    /// Chunks that ended with `FLB_RETRY`.
    pub retry: u32,
    /// Chunks that ended with `FLB_ERROR`.
    pub error: u32,
    /// The most stack that a flush used, in bytes.
    pub stack: usize,
    /// The numbers of the chunks that did not end with `FLB_OK`, where they were
    /// flushed with the host's checks.
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
    /// A host like Fluent Bit 5.1 with the stacks of older versions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            wrapper: Vec::new(),
            arguments: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Chunks flushed at the same time, for each output.
    #[must_use]
    pub fn workers(self, count: u32) -> Self {
        self.argument("--workers", &count.to_string())
    }

    /// How often a chunk comes again, every 100 ms.
    #[must_use]
    pub fn retries(self, count: u32) -> Self {
        self.argument("--retries", &count.to_string())
    }

    /// Flushes all chunks so many times, without the checks that cost time.
    #[must_use]
    pub fn rounds(self, count: u32) -> Self {
        self.argument("--rounds", &count.to_string())
    }

    /// Does nothing for so long between two flushes of [`Host::rounds`].
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.argument("--pause-us", &time.as_micros().to_string())
    }

    /// Does nothing for so long after the flushes, before [`Host::idle`].
    #[must_use]
    pub fn settle(self, time: Duration) -> Self {
        self.argument("--settle-ms", &time.as_millis().to_string())
    }

    /// Does nothing for so long after the flushes, and measures that.
    #[must_use]
    pub fn idle(self, time: Duration) -> Self {
        self.argument("--idle-ms", &time.as_millis().to_string())
    }

    /// Keeps the outputs until what [`Host::run_while`] has happen has happened.
    #[must_use]
    pub fn hold(self) -> Self {
        self.argument("--hold", "1")
    }

    /// Runs the host by another command, whose last arguments it becomes.
    #[must_use]
    pub fn by(mut self, wrapper: &[String]) -> Self {
        self.wrapper = wrapper.to_vec();
        self
    }

    fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Adds an output: of all namespaces, unless an option decides that.
    #[must_use]
    pub fn output(mut self, name: &str, options: &[(&str, &str)]) -> Self {
        self.outputs
            .extend(["--output".to_owned(), name.to_owned()]);
        let decides = |(key, value): &(&str, &str)| {
            matches!(*key, "namespace" | "cluster") || (*key, *value) == ("identity", "none")
        };
        let is_decided = options.iter().any(decides);
        let all = (!is_decided).then_some(&("cluster", "on"));
        for (key, value) in options.iter().chain(all) {
            self.outputs
                .extend(["--option".to_owned(), format!("{key}={value}")]);
        }
        self
    }

    /// Flushes each chunk (tag and data) to each output.
    #[must_use]
    pub fn run(&self, chunks: &[(String, Vec<u8>)]) -> Run {
        self.run_while(chunks, || {})
    }

    /// The same while something happens. The host does not outlive a panic.
    #[must_use]
    pub fn run_while(&self, chunks: &[(String, Vec<u8>)], happens: impl FnOnce()) -> Run {
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
        let unwinding = ShowLog(path("log"));
        happens();
        drop(unwinding);
        // This closes its standard input.
        let status = process.0.wait().expect("the host ends");
        let text = |name: &str| {
            let bytes = fs::read(path(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Run::read(status, &text("summary"), text("log"))
    }
}

/// Prints a log when it is dropped by a panic.
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
