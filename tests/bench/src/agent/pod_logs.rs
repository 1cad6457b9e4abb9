//! The input that reads pods' logs, beside tail with the kubernetes filter, and rsyslog's
//! imfile: from the containers' files to the acknowledgement.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use receiver::Receiver;
use rig::containers::container_id;
use rig::fluent_bit::{self, FluentBit};
use rig::process::Process;
use rig::wait::until;
use tempfile::TempDir;

use super::arrivals::{Arrivals, now, stamped};
use super::{Logs, number, quantile};
use crate::link::{Link, Links};
use crate::peers::processor_time;
use crate::report::{Report, Target};

const CONTAINERS: usize = 20;
/// The number of lines of all containers that are read at full speed.
const LINES: usize = 2_000_000;
/// The same for the slower peers.
const FEW: usize = 400_000;
const RUNS: usize = 3;
const LONG: Duration = Duration::from_secs(300);

pub(crate) fn measure(links: &Links, report: &mut Report) {
    if fluent_bit::find().is_none() {
        return report.skip("Reading pods' logs", "Fluent Bit is not installed");
    }
    speed(links, report);
    load(links, report);
    idle(report);
    delay(report);
}

/// Reads files that are complete, at full speed.
fn speed(links: &Links, report: &mut Report) {
    let what = "CPU time per line of 130 bytes, from file to acknowledgement";
    let many = written(CONTAINERS, LINES);
    let mut best = Duration::MAX;
    let mut ours = Duration::MAX;
    for (link, target) in [(Link::Tcp, 1.3), (Link::Tls, 1.5)] {
        let runs: Vec<Speed> = (0..RUNS)
            .map(|_| through_fluent_bit(links, link, &many, LINES, Input::PodLogs, Output::Ours))
            .collect();
        let cpu = runs.iter().map(|run| run.cpu).min().unwrap_or_default();
        let what = format!("{what}: pod_logs, plugin with a queue, {link}");
        report.figure(&what, micros(cpu, LINES), " us", Target::AtMost(target));
        if link == Link::Tcp {
            ours = cpu;
            best = runs.iter().map(|run| run.time).min().unwrap_or_default();
        }
    }
    report.figure(
        "Lines per second of one Fluent Bit, from the first message to the last: pod_logs, plugin with \
         a queue, TCP",
        LINES as f64 / best.as_secs_f64(),
        "",
        Target::AtLeast(400_000.0),
    );
    let few = written(CONTAINERS, FEW);
    let ours = micros(ours, LINES);
    for (name, output, target) in [
        ("plugin with a queue", Output::Ours, 4.0),
        ("built-in output", Output::BuiltIn, 6.0),
    ] {
        let run = through_fluent_bit(links, Link::Tcp, &few, FEW, Input::Tail, output);
        let cpu = micros(run.cpu, FEW);
        report.detailed(
            &format!("{what}: ratio of tail, kubernetes filter and {name} to pod_logs, TCP"),
            cpu / ours,
            "",
            Target::AtLeast(target),
            &format!(" ({cpu:.2} us)"),
        );
    }
    let what = format!("{what}: rsyslog, imfile to omfwd, TCP");
    match through_rsyslog(links, &few) {
        Some(cpu) => report.fact(&what, &format!("{:.2} us", micros(cpu, FEW))),
        None => report.skip(&what, "rsyslogd is not installed"),
    }
}

/// Measures 100 containers that write 1,000 lines per second each.
fn load(links: &Links, report: &mut Report) {
    const CONTAINERS: usize = 100;
    const SECONDS: u32 = 20;
    const TICKS: u32 = 20;
    let mut logs = Logs::new(CONTAINERS);
    let receiver = links.receiver(Link::Tcp);
    let agent = Agent::start(
        &logs,
        "1",
        &[output(Output::Ours, &receiver.address(), None)],
    );
    let begin = Instant::now();
    let mut lines = 0;
    for tick in 1..=SECONDS * TICKS {
        let text = text(1000 / TICKS as usize);
        for container in &mut logs.containers {
            container.append(text.as_bytes());
        }
        lines += CONTAINERS * 1000 / TICKS as usize;
        let due = Duration::from_secs(1) * tick / TICKS;
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    receiver.wait_for(lines as u64, LONG).unwrap();
    report.figure(
        "100 containers with 1,000 lines per second each: maximum memory of Fluent Bit",
        number(agent.fluent_bit.id(), "status", "VmHWM") as f64 / 1024.0,
        " MiB",
        Target::AtMost(48.0),
    );
}

/// Measures containers that write nothing.
fn idle(report: &mut Report) {
    const SPAN: Duration = Duration::from_secs(30);
    let settle = Duration::from_secs(12);
    let logs = Logs::new(1000);
    let nowhere = format!("127.0.0.1:{}", rig::port::free_port());
    let agent = Agent::start(&logs, "1", &[output(Output::Ours, &nowhere, None)]);
    thread::sleep(settle);
    report.figure(
        "1,000 idle containers: memory of Fluent Bit",
        number(agent.fluent_bit.id(), "status", "VmRSS") as f64 / 1024.0,
        " MiB",
        Target::AtMost(64.0),
    );
    let entries = fs::read_dir(format!("/proc/{}/fd", agent.fluent_bit.id())).unwrap();
    let links = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let instances = links.filter(|link| link.to_string_lossy().contains("inotify"));
    report.figure(
        "1,000 idle containers: inotify instances",
        instances.count() as f64,
        "",
        Target::AtMost(1.0),
    );
    drop(agent);

    let logs = Logs::new(110);
    let arrivals = Arrivals::listen(Ipv4Addr::LOCALHOST, false);
    let outputs: Vec<String> = (0..500)
        .map(|sink| output(Output::Ours, &arrivals.address(), Some(sink)))
        .collect();
    let agent = Agent::start(&logs, "1", &outputs);
    thread::sleep(settle);
    let before = processor_time(agent.fluent_bit.id());
    thread::sleep(SPAN);
    let cpu = processor_time(agent.fluent_bit.id()).saturating_sub(before);
    report.figure(
        "110 idle containers, 500 connected outputs: idle CPU",
        cpu.as_secs_f64() / SPAN.as_secs_f64() * 100.0,
        " % of a core",
        Target::AtMost(0.2),
    );
}

/// Measures the time from a line's write to its arrival, which includes Fluent Bit's shortest
/// flush interval.
fn delay(report: &mut Report) {
    const LINES: usize = 1000;
    let mut logs = Logs::new(10);
    let arrivals = Arrivals::listen(Ipv4Addr::LOCALHOST, true);
    let _agent = Agent::start(
        &logs,
        "0.01",
        &[output(Output::Ours, &arrivals.address(), None)],
    );
    // The outputs are known after a second.
    thread::sleep(Duration::from_secs(3));
    let begin = now();
    for line in 0..LINES {
        let at = now();
        let text = format!("2026-03-01T12:00:00.000000000Z stdout F {}\n", stamped(at));
        let count = logs.containers.len();
        logs.containers[line % count].append(text.as_bytes());
        thread::sleep(Duration::from_millis(10));
    }
    let end = now();
    let all = || (arrivals.count() >= LINES as u64).then_some(());
    until(LONG, all).unwrap();
    let ages = arrivals.ages(begin..end, LINES);
    // Fluent Bit takes up to 250 ms of it: it looks at an input's buffer that often.
    report.fact(
        "Time from a line's write to its arrival, `flush 0.01`",
        &format!(
            "median {} ms, 99th percentile {} ms",
            quantile(&ages, 0.5).as_millis(),
            quantile(&ages, 0.99).as_millis()
        ),
    );
}

/// The input of a Fluent Bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    PodLogs,
    /// With the CRI parser and the kubernetes filter.
    Tail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Ours,
    BuiltIn,
}

#[derive(Clone, Copy, Debug)]
struct Speed {
    cpu: Duration,
    /// The time from the first message to the last.
    time: Duration,
}

fn micros(cpu: Duration, lines: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / lines as f64
}

/// Returns lines of 130 bytes in the format of a container runtime.
fn text(lines: usize) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        let line = stamped(0);
        writeln!(text, "2026-03-01T12:00:00.123456789Z stdout F {line}...").unwrap();
    }
    text
}

/// Returns containers that have written so many lines.
fn written(containers: usize, lines: usize) -> Logs {
    let mut logs = Logs::new(containers);
    let text = text(lines / containers);
    for container in &mut logs.containers {
        container.append(text.as_bytes());
    }
    logs
}

/// A Fluent Bit with `pod_logs`.
struct Agent {
    fluent_bit: FluentBit,
    _dir: TempDir,
}

impl Agent {
    /// Starts Fluent Bit with a flush interval in seconds.
    fn start(logs: &Logs, flush: &str, outputs: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = input(Input::PodLogs, &logs.path(), dir.path());
        Self {
            fluent_bit: run(dir.path(), flush, &input, &outputs.concat()),
            _dir: dir,
        }
    }
}

fn run(dir: &Path, flush: &str, input: &str, outputs: &str) -> FluentBit {
    let outputs = outputs.replace("{dir}", &dir.display().to_string());
    let configuration = format!(
        "service:\n  flush: {flush}\n  grace: 1\n  log_level: error\n  storage.path: {}/chunks\n  \
         storage.max_chunks_up: 1000\npipeline:\n{input}  outputs:\n{outputs}",
        dir.display()
    );
    let file = dir.join("fluent-bit.yaml");
    fs::write(&file, configuration).unwrap();
    let program = fluent_bit::find().expect("Fluent Bit was found");
    let libraries = [host::library(), host::pod_logs_library()];
    FluentBit::start(&program, &libraries, &file, &[])
}

/// Returns the input, and the filter for tail.
fn input(input: Input, logs: &Path, dir: &Path) -> String {
    let (logs, dir) = (logs.display(), dir.display());
    match input {
        Input::PodLogs => format!(
            "  inputs:
    - name: pod_logs
      path: {logs}/pods
      queue_path: {dir}/queues
      start: beginning
      mem_buf_limit: 16M
"
        ),
        Input::Tail => format!(
            "  inputs:
    - name: tail
      path: {logs}/containers/*.log
      tag: kube.var.log.containers.<file>.log
      tag_regex: (?<file>[^/]+)\\.log$
      db: {dir}/tail.db
      multiline.parser: cri
      read_from_head: on
      refresh_interval: 1
      mem_buf_limit: 200M
      storage.type: filesystem
  filters:
    - name: kubernetes
      match: kube.*
      kube_tag_prefix: kube.var.log.containers.
      annotations: off
      dns_retries: 1
      dns_wait_time: 1
      kube_meta_preload_cache_dir: {dir}
"
        ),
    }
}

/// Returns an output. With a number, it takes only the namespace of that number.
fn output(output: Output, address: &str, number: Option<usize>) -> String {
    let (host, port) = address.rsplit_once(':').unwrap();
    match output {
        Output::Ours => {
            let scope = match number {
                Some(number) => format!("namespace: ns-{number}\n      match: ns.ns-{number}"),
                None => "cluster: on\n      match: ns.*".to_owned(),
            };
            let name = number.unwrap_or_default();
            format!(
                "    - name: syslog_sink
      identity: group
      {scope}
      servers: {address}
      transport: tcp
      queue_path: {{dir}}/queues
      queue_name: sink-{name}
      queue_limit: 20G
      retry_limit: no_limits
"
            )
        }
        Output::BuiltIn => format!(
            "    - name: syslog
      match: '*'
      host: {host}
      port: {port}
      mode: tcp
      workers: 1
      retry_limit: no_limits
      syslog_format: rfc5424
      syslog_message_key: log
      syslog_hostname_preset: node-1
"
        ),
    }
}

/// Returns the processor time until all lines have arrived.
fn through_fluent_bit(
    links: &Links,
    link: Link,
    logs: &Logs,
    lines: usize,
    from: Input,
    to: Output,
) -> Speed {
    let dir = tempfile::tempdir().unwrap();
    for container in &logs.containers {
        write_labels(dir.path(), &container.namespace, &container.pod);
    }
    let (receiver, arrivals) = match to {
        Output::Ours => (Some(links.receiver(link)), None),
        // Without the framing of RFC 6587.
        Output::BuiltIn => (None, Some(Arrivals::listen(Ipv4Addr::LOCALHOST, false))),
    };
    let count = || match (&receiver, &arrivals) {
        (Some(receiver), _) => receiver.count(),
        (_, Some(arrivals)) => arrivals.count(),
        (None, None) => 0,
    };
    let address = receiver.as_ref().map(Receiver::address);
    let address = address.or_else(|| Some(arrivals.as_ref()?.address()));
    let mut outputs = output(to, &address.expect("one of the two listens"), None);
    if let Some(ca) = links.ca(link).filter(|_| to == Output::Ours) {
        outputs = outputs.replace(
            "transport: tcp",
            &format!("transport: tls\n      tls_ca_file: {}", ca.display()),
        );
    }
    if from == Input::Tail {
        outputs = outputs.replace("identity: group\n", "identity: tag\n");
        outputs = outputs.replace("match: ns.*", "match: kube.*\n      workers: 1");
    }
    let input = input(from, &logs.path(), dir.path());
    let agent = run(dir.path(), "1", &input, &outputs);
    until(LONG, || (count() > 0).then_some(()))
        .unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    let begin = Instant::now();
    until(LONG, || (count() >= lines as u64).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", count(), agent.log()));
    let time = begin.elapsed();
    Speed {
        cpu: processor_time(agent.id()),
        time,
    }
}

/// Writes the file of a pod's labels for the kubernetes filter.
fn write_labels(folder: &Path, namespace: &str, pod: &str) {
    let id = container_id(namespace, pod, "nginx");
    let text = format!(
        r#"{{"metadata":{{"name":"{pod}","namespace":"{namespace}","uid":"{}",
        "labels":{{"app":"web","team":"storefront"}}}},"spec":{{"nodeName":"node-1"}}}}"#,
        &id[..32]
    );
    fs::write(folder.join(format!("{namespace}_{pod}.meta")), text).unwrap();
}

/// Returns the processor time of rsyslog, or `None` if it is not installed.
fn through_rsyslog(links: &Links, logs: &Logs) -> Option<Duration> {
    let program = rig::program("rsyslogd")?;
    let dir = tempfile::tempdir().unwrap();
    let receiver = links.receiver(Link::Tcp);
    let address = receiver.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let configuration = format!(
        "global(workDirectory=\"{dir}\")\nmodule(load=\"imfile\" mode=\"inotify\")\n\
         input(type=\"imfile\" File=\"{logs}/pods/*/*/0.log\" Tag=\"pods\" Facility=\"user\")\n\
         action(type=\"omfwd\" target=\"{host}\" port=\"{port}\" protocol=\"tcp\" \
         TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\" \
         queue.type=\"LinkedList\" queue.filename=\"q\" queue.saveOnShutdown=\"on\")\n",
        dir = dir.path().display(),
        logs = logs.path().display(),
    );
    let file = dir.path().join("rsyslog.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(program);
    command.args(["-n", "-i"]).arg(dir.path().join("pid"));
    command.arg("-f").arg(&file);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = Process(command.spawn().expect("rsyslogd starts"));
    until(LONG, || (receiver.count() >= FEW as u64).then_some(())).unwrap();
    Some(processor_time(process.0.id()))
}
