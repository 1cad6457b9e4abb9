//! The input that reads pod logs, in a real Fluent Bit that restarts while the kubelet rotates
//! and compresses files.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rig::containers::{Container, Node};
use rig::fluent_bit::{self, FluentBit};
use rig::port::free_port;
use rig::wait::{self, BOUND};
use tempfile::TempDir;

use crate::arrivals::Arrivals;
use crate::load::Counts;
use crate::scenarios::queue::metric;
use crate::{Outcome, Skipped};

/// The end of a Fluent Bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is asked to stop.
    Orderly,
    /// It is killed.
    Kill,
}

/// A number of containers, and how much they write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    containers: usize,
    restarts: usize,
    /// The number of lines that each container writes at a time.
    lines: usize,
}

impl Size {
    pub(crate) const SHORT: Self = Self {
        containers: 6,
        restarts: 5,
        lines: 500,
    };
    /// A megabyte a second for each container, while Fluent Bit runs and while it does not.
    pub(crate) const LONG: Self = Self {
        containers: 20,
        restarts: 100,
        lines: 1500,
    };
}

/// The maximum number of lines in a chunk of 2 MB.
const CHUNK: usize = 16_000;

/// A node with containers, and the state that survives a Fluent Bit.
struct World {
    program: PathBuf,
    dir: TempDir,
    http_port: u16,
    containers: Vec<Container>,
    /// The number of each container's next line.
    next: usize,
}

impl World {
    fn new(containers: usize, outputs: &[(&str, u16)]) -> Result<Self, Skipped> {
        let program =
            fluent_bit::find().ok_or_else(|| Skipped("Fluent Bit is not installed".into()))?;
        let dir = tempfile::tempdir().unwrap();
        let node = Node::new(&dir.path().join("log"));
        let start = |number| node.start("shop", &format!("web-{number}"), "app");
        let this = Self {
            program,
            containers: (0..containers).map(start).collect(),
            dir,
            http_port: free_port(),
            next: 0,
        };
        this.configure(outputs);
        Ok(this)
    }

    fn configure(&self, outputs: &[(&str, u16)]) {
        let dir = self.dir.path().display();
        let mut configuration = format!(
            "service:
  flush: 0.2
  grace: 2
  http_server: on
  http_listen: 127.0.0.1
  http_port: {http_port}
plugins:
  - {library}
pipeline:
  inputs:
    - name: pod_logs
      path: {dir}/log/pods
      queue_path: {dir}/queues
      start: beginning
      mem_buf_limit: 16M
  outputs:
",
            http_port = self.http_port,
            library = host::pod_logs_library().display(),
        );
        for (name, port) in outputs {
            write!(
                configuration,
                "    - name: syslog_sink
      match: ns.*
      identity: group
      cluster: on
      servers: 127.0.0.1:{port}
      transport: tcp
      framing: newline
      queue_path: {dir}/queues
      alias: {name}
      queue_name: {name}
      queue_limit: 20G
      backoff_min: 50ms
      backoff_max: 200ms
      retry_limit: no_limits
",
            )
            .unwrap();
        }
        fs::write(self.dir.path().join("fluent-bit.yaml"), configuration).unwrap();
    }

    fn start(&self) -> FluentBit {
        let configuration = self.dir.path().join("fluent-bit.yaml");
        FluentBit::start(&self.program, &[host::library()], &configuration, &[])
    }

    /// Lets each container write lines.
    fn write(&mut self, lines: usize) {
        let filler = "x".repeat(90);
        for (number, container) in self.containers.iter_mut().enumerate() {
            let mut text = String::new();
            for line in self.next..self.next + lines {
                let nanos = line % 1_000_000_000;
                let head = format!("2026-03-01T12:00:00.{nanos:09}Z stdout F");
                writeln!(text, "{head} {number} {line} {filler}").unwrap();
            }
            container.append(text.as_bytes());
        }
        self.next += lines;
    }

    fn rotate(&mut self) {
        self.containers.iter_mut().for_each(Container::rotate);
    }

    /// Returns the number of all lines so far.
    fn total(&self) -> usize {
        self.next * self.containers.len()
    }

    /// Waits until all lines have arrived, or no more arrive.
    fn wait_for_all(&self, arrivals: &Arrivals, bound: Duration) -> Counts {
        let complete = || (arrivals.sum().arrived == self.total()).then_some(());
        // The lost lines are counted.
        let _ = wait::until(bound, complete);
        let sum = arrivals.sum();
        Counts {
            sent: self.total(),
            lost: self.total() - sum.arrived,
            duplicated: sum.duplicated,
            may_be_duplicated: 0,
            in_order: Some(sum.is_in_order),
        }
    }
}

/// One output's queue cannot be opened, and is repaired later. The containers write more than
/// Fluent Bit's memory may take. The other output gets everything meanwhile, and the first one
/// later, without a restart.
pub(crate) fn broken_neighbour() -> Outcome {
    const CONTAINERS: usize = 6;
    const LINES: usize = 40_000;
    let (port, broken_port) = (free_port(), free_port());
    let mut world = World::new(CONTAINERS, &[("sink", port), ("broken", broken_port)])?;
    let [arrivals, late] = [port, broken_port].map(|port| Arrivals::start(port, CONTAINERS));
    let queue = world.dir.path().join("queues/broken/0");
    fs::create_dir_all(queue.parent().unwrap()).unwrap();
    fs::write(&queue, "").unwrap();
    let agent = world.start();
    world.write(LINES);
    let counts = world.wait_for_all(&arrivals, BOUND);
    assert_eq!((counts.lost, late.sum().arrived), (0, 0), "{}", agent.log());

    fs::remove_file(&queue).unwrap();
    let repaired = wait::until(4 * BOUND, || {
        world.write(1);
        (late.sum().arrived > world.total() / 2).then_some(())
    });
    repaired.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    let counts = world.wait_for_all(&late, BOUND);
    let good = world.wait_for_all(&arrivals, BOUND);
    agent.stop();
    assert_eq!((good.lost, good.duplicated), (0, 0));
    // Chunks that waited in Fluent Bit arrive beside those that are read again.
    Ok(counts.in_any_order().with_duplicates(2 * CHUNK))
}

/// Restarts Fluent Bit again and again. While it does not run, each container writes on, and
/// its files are rotated so many times: never, once, and more often, so that some are
/// compressed.
///
/// The receiver of kills is down until the end: a receiver that does not acknowledge gets
/// messages again after a kill, which is not the input's doing.
pub(crate) fn restart(size: Size, end: End) -> Outcome {
    let Size {
        containers,
        restarts,
        lines,
    } = size;
    let port = free_port();
    let mut world = World::new(containers, &[("sink", port)])?;
    let early = (end == End::Orderly).then(|| Arrivals::start(port, containers));
    let taken = |world: &World| match &early {
        Some(arrivals) => arrivals.sum().arrived,
        None => {
            metric(world.http_port, "syslog_sink_queue_messages", "sink").unwrap_or(0.0) as usize
        }
    };
    let wait_for = |world: &World, agent: &FluentBit, count: usize| {
        let arrived = wait::until(4 * BOUND, || (taken(world) >= count).then_some(()));
        arrived.unwrap_or_else(|error| panic!("{count} lines {error}\n{}", agent.log()));
    };
    let mut agent = world.start();
    for restart in 0..restarts {
        // The kubelet keeps the files of one restart only.
        let before = world.total();
        wait_for(&world, &agent, before);
        world.write(lines);
        if restart % 3 == 0 {
            world.rotate();
        }
        world.write(lines);
        wait_for(&world, &agent, before + 1);
        match end {
            End::Orderly => {
                agent.stop();
            }
            End::Kill => agent.kill(),
        }
        for _ in 0..restart % 4 {
            world.write(lines);
            world.rotate();
        }
        world.write(lines);
        agent = world.start();
    }
    let arrivals = early
        .clone()
        .unwrap_or_else(|| Arrivals::start(port, containers));
    let counts = world.wait_for_all(&arrivals, 4 * BOUND);
    let log = agent.stop();
    assert!(!log.contains("deleted"), "{log}");
    Ok(match end {
        End::Orderly => counts,
        // A kill between the write to the queue and that of the position repeats a chunk.
        End::Kill => counts.with_duplicates(restarts * CHUNK),
    })
}
