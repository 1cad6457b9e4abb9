//! The same records through a real Fluent Bit with the plugin, with the built-in
//! `syslog` output, and with the `null` output, which shows the cost of the pipeline
//! before any output. Also through rsyslog's omfwd.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use receiver::Receiver;
use rig::event::container_tag;
use rig::fluent_bit::{self, FluentBit};
use rig::load::USUAL_TEXT;
use rig::port::free_port;
use rig::process::Process;
use rig::wait::until;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::link::{Link, Links};
use crate::plot::{Content, Plot};
use crate::report::{Report, Target};

const RECORDS: usize = 200_000;
const RUNS: usize = 3;
/// The time limit for one of the slower peers on a busy machine.
const LONG: Duration = Duration::from_secs(120);

pub(crate) fn measure(links: &Links, report: &mut Report) {
    let input = Input::new();
    let mut bars = Vec::new();
    in_fluent_bit(links, report, &input, &mut bars);
    rsyslog(links, report, &input, &mut bars);
    if !bars.is_empty() {
        report.plot(Plot {
            name: "cpu-beside-peers",
            title: "Additional CPU time per message by output",
            y: "us",
            content: Content::Bars(bars),
        });
    }
}

fn in_fluent_bit(links: &Links, report: &mut Report, input: &Input, bars: &mut Vec<(String, f64)>) {
    let what = |link| {
        format!(
            "CPU time added to Fluent Bit, {link}: ratio of the built-in syslog output to the plugin"
        )
    };
    let Some(program) = fluent_bit::find() else {
        return report.skip(&what(Link::Tls), "Fluent Bit is not installed");
    };
    let run = |output: &str| {
        let cpu = (0..RUNS).map(|_| input.through_fluent_bit(&program, output));
        cpu.min().unwrap().as_secs_f64() * 1e6 / RECORDS as f64
    };
    let null = run("    Name null\n");
    report.fact(
        "CPU time per record in Fluent Bit without an output (tail, JSON parser)",
        &format!("{null:.2} us"),
    );
    for (link, target) in [(Link::Tls, Some(8.0)), (Link::Tcp, None)] {
        let receiver = links.line_receiver(link);
        let built_in = run(&built_in(links, link, &receiver)) - null;
        let receiver = links.receiver(link);
        let plugin = run(&plugin(links, link, &receiver)) - null;
        let detail = format!(" ({built_in:.2} us to {plugin:.2} us)");
        // The ratio is meaningless below the resolution of a process's CPU time.
        let ratio = built_in / plugin.max(0.01);
        match target {
            Some(target) => {
                let target = Target::AtLeast(target);
                report.detailed(&what(link), ratio, "", target, &detail);
            }
            None => report.fact(&what(link), &format!("{ratio:.1}{detail}")),
        }
        bars.push((format!("built-in, {link}"), built_in));
        bars.push((format!("plugin, {link}"), plugin));
    }
}

fn plugin(links: &Links, link: Link, receiver: &Receiver) -> String {
    let options = links.options(link, &receiver.address());
    let lines = options
        .iter()
        .map(|(key, value)| format!("    {key} {value}\n"));
    ["    Name syslog_sink\n    Workers 1\n    cluster on\n".to_owned()]
        .into_iter()
        .chain(lines)
        .collect()
}

/// Returns the built-in output, with messages as similar as possible.
fn built_in(links: &Links, link: Link, receiver: &Receiver) -> String {
    let tls = match links.ca(link) {
        None => "    Mode tcp\n".to_owned(),
        Some(ca) => format!(
            "    Mode tls\n    tls On\n    tls.ca_file {}\n",
            ca.display()
        ),
    };
    format!(
        "    Name syslog\n    Host localhost\n    Port {}\n{tls}    Workers 1\n    \
         Syslog_Format rfc5424\n    Syslog_Message_Key log\n    Syslog_SD_Key kubernetes\n    \
         Syslog_Hostname_Preset node-1.example.com\n    Syslog_Appname_Preset pod.log/shop/web\n",
        receiver.port()
    )
}

/// Measures rsyslog, which reads the same lines and sends them unchanged.
fn rsyslog(links: &Links, report: &mut Report, input: &Input, bars: &mut Vec<(String, f64)>) {
    let what = "CPU time per line in rsyslog: imfile to omfwd, TLS, whole process";
    let Some(program) = rig::program("rsyslogd") else {
        return report.skip(what, "rsyslogd is not installed");
    };
    if !rig::rsyslog::has_module("lmnsd_ossl.so") {
        return report.skip(what, "rsyslog has no lmnsd_ossl.so");
    }
    let cpu = (0..RUNS)
        .map(|_| input.through_rsyslog(&program, links))
        .min()
        .unwrap();
    let cpu = cpu.as_secs_f64() * 1e6 / RECORDS as f64;
    report.fact(what, &format!("{cpu:.2} us"));
    bars.push(("rsyslog, TLS".to_owned(), cpu));
}

/// A file of records in JSON.
struct Input {
    dir: TempDir,
}

impl Input {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = Self { dir };
        let mut file = std::io::BufWriter::new(fs::File::create(input.path("records")).unwrap());
        for number in 0..RECORDS {
            let record = json!({
                "log": format!("{number:0>USUAL_TEXT$}"),
                "stream": "stdout",
                "kubernetes": {
                    "pod_name": "web-6d4cf56db6-x2k8p",
                    "namespace_name": "shop",
                    "host": "node-1.example.com",
                    "labels": {
                        "app": "web",
                        "pod-template-hash": "6d4cf56db6",
                        "team": "storefront",
                    },
                },
            });
            writeln!(file, "{record}").unwrap();
        }
        file.flush().unwrap();
        fs::write(
            input.path("parsers.conf"),
            "[PARSER]\n    Name json\n    Format json\n",
        )
        .unwrap();
        input
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the processor time of Fluent Bit until all records are delivered.
    fn through_fluent_bit(&self, program: &Path, output: &str) -> Duration {
        let port = free_port();
        let configuration = format!(
            "[SERVICE]\n    Flush 1\n    Log_Level warn\n    HTTP_Server On\n    \
             HTTP_Listen 127.0.0.1\n    HTTP_Port {port}\n    Parsers_File {parsers}\n\
             [INPUT]\n    Name tail\n    Path {records}\n    Parser json\n    Read_from_Head On\n    \
             Tag {tag}\n    Buffer_Chunk_Size 1M\n    Buffer_Max_Size 1M\n    threaded On\n\
             [OUTPUT]\n    Match *\n{output}",
            parsers = self.path("parsers.conf").display(),
            records = self.path("records").display(),
            tag = container_tag("shop", "web-6d4cf56db6-x2k8p", "nginx"),
        );
        let file = self.path("fluent-bit.conf");
        fs::write(&file, configuration).unwrap();
        let fluent_bit = FluentBit::start(program, &[host::library()], &file, &[]);
        until(LONG, || (delivered(port) == RECORDS as u64).then_some(())).unwrap_or_else(|error| {
            panic!(
                "{} records delivered, {error}:\n{}",
                delivered(port),
                fluent_bit.log()
            )
        });
        processor_time(fluent_bit.id())
    }

    /// Returns the processor time of rsyslog until all lines have arrived.
    fn through_rsyslog(&self, program: &Path, links: &Links) -> Duration {
        let receiver = links.receiver(Link::Tls);
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let configuration = format!(
            "global(workDirectory=\"{dir}\" maxMessageSize=\"8k\"\n  \
             DefaultNetstreamDriver=\"ossl\" DefaultNetstreamDriverCAFile=\"{ca}\")\n\
             module(load=\"imfile\")\n\
             input(type=\"imfile\" File=\"{records}\" Tag=\"web:\")\n\
             action(type=\"omfwd\" target=\"localhost\" port=\"{port}\" protocol=\"tcp\"\n  \
             TCP_Framing=\"octet-counted\" template=\"RSYSLOG_SyslogProtocol23Format\"\n  \
             StreamDriver=\"ossl\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/certvalid\")\n",
            dir = dir.path().display(),
            ca = links.ca(Link::Tls).unwrap_or_default().display(),
            records = self.path("records").display(),
            port = receiver.port(),
        );
        let file = dir.path().join("rsyslog.conf");
        fs::write(&file, configuration).unwrap();
        let rsyslog = start_rsyslog(program, &file, dir.path());
        let arrived = until(LONG, || (receiver.count() >= RECORDS as u64).then_some(()));
        arrived.unwrap_or_else(|error| panic!("{} lines arrived, {error}", receiver.count()));
        processor_time(rsyslog.0.id())
    }
}

fn start_rsyslog(program: &Path, configuration: &Path, dir: &Path) -> Process {
    let process = Command::new(program)
        .args(["-n", "-i"])
        .arg(dir.join("pid"))
        .arg("-f")
        .arg(configuration)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rsyslogd starts");
    Process(process)
}

/// Returns the number of records that Fluent Bit's output has processed.
fn delivered(port: u16) -> u64 {
    let response = fluent_bit::get(port, "/api/v1/metrics").unwrap_or_default();
    let metrics: Value = serde_json::from_str(&response).unwrap_or_default();
    let outputs = metrics["output"].as_object();
    outputs
        .and_then(|outputs| outputs.values().next())
        .and_then(|output| output["proc_records"].as_u64())
        .unwrap_or(0)
}

/// Returns the user and system time of another process (proc(5): fields 14 and 15).
pub(crate) fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let behind_name = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = behind_name.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().expect("a number");
    let second = rustix::param::clock_ticks_per_second();
    Duration::from_secs(ticks(14) + ticks(15)) / u32::try_from(second).expect("a small number")
}
