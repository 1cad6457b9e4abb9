//! `make scale`: runs the controller's program in a cluster of a thousand nodes, ten
//! thousand pods and five hundred sinks, and writes its cost for the API server and for
//! itself into docs/SCALE.md.
//!
//! ```text
//! control plane, KWOK nodes and pods -> controller -> 500 sinks at once -> all nodes have them
//!                                                  -> one more sink -> all nodes have it
//!                                                  -> logs flow -> idle
//!                                                  -> Events in all namespaces
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic aborts the measurement"
)]

mod agents;
mod plan;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use api::LogSink;
use cluster::ControlPlane;
use controller::names::{AGENT, LABEL, REVISION, selector};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use receiver::{Listen, Options, Receiver};
use rig::document::write_table;
use rig::port::free_port;
use serde_json::json;
use tokio::time::sleep;

use crate::agents::Agents;

const SYSTEM: &str = "syslog-sink";
/// The maximum number of concurrent requests of this program.
const AT_ONCE: usize = 16;
/// The number of Events in each namespace.
const EVENTS: usize = 60;
/// The time limit of a phase.
const BOUND: Duration = Duration::from_secs(600);
/// The duration of the idle phase.
const IDLE: Duration = Duration::from_secs(120);
/// The time until all periodic writes have happened.
const SETTLE: Duration = Duration::from_secs(240);
/// The flow schema that counts the controller's requests.
const FLOW: &str = "sink-controller";

/// The numbers of objects; the arguments can reduce them for a trial run.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    pods: usize,
    sinks: usize,
}

fn main() -> ExitCode {
    let plan = plan::measure();
    println!("{plan}");
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse().ok())
        .collect();
    let (size, is_whole) = match numbers.as_slice() {
        [nodes, pods, sinks] => (
            Size {
                nodes: *nodes,
                pods: *pods,
                sinks: *sinks,
            },
            false,
        ),
        _ => (
            Size {
                nodes: 1000,
                pods: 10_000,
                sinks: 500,
            },
            true,
        ),
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let Some(rows) = runtime.block_on(measure(size)) else {
        return ExitCode::FAILURE;
    };
    let table = format!("{}\n{plan}\n", table(&rows));
    println!("{table}");
    if is_whole {
        write_table("SCALE.md", "scale", &table).expect("the document can be written");
    }
    ExitCode::SUCCESS
}

/// The measurements of a phase.
struct Row {
    phase: String,
    took: Duration,
    cpu: Duration,
    requests: u64,
    memory: u64,
    note: String,
}

struct Run {
    plane: ControlPlane,
    client: Client,
    /// The process ID of the controller.
    controller: u32,
    rows: Vec<Row>,
    size: Size,
    /// The receiver of the controller's Events.
    receiver: Receiver,
}

async fn measure(size: Size) -> Option<Vec<Row>> {
    let mut plane = ControlPlane::start().await?;
    plane.install().await;
    let client = plane.admin().await;
    eprintln!("{} nodes, {} pods ...", size.nodes, size.pods);
    plane.add_nodes(size.nodes).await;
    let namespaces: Vec<String> = (0..size.sinks)
        .map(|number| format!("team-{number}"))
        .collect();
    create_namespaces(&client, &namespaces).await;
    create_pods(&client, &namespaces, size).await;
    plane.apply(&flow_schema()).await;

    let port = free_port();
    let sinks = namespaces
        .iter()
        .map(|namespace| format!("{namespace}/sink"));
    let agents = Agents::start(port, sinks.collect());
    let begun = Instant::now();
    let settings = json!({
        "namespace": SYSTEM,
        "agent": {"metricsPort": port},
        "listen": format!("127.0.0.1:{}", free_port()),
    });
    // Make builds it beside this program.
    let program = std::env::current_exe().expect("a program");
    let program = program.with_file_name("sink-controller");
    let controller = plane.start_controller(&program, &settings).await;
    let mut run = Run {
        plane,
        client,
        controller,
        rows: Vec::new(),
        size,
        receiver: Receiver::start(Options {
            keep: false,
            ..Options::new(Listen::Tcp)
        })
        .expect("a port"),
    };
    run.story(begun, &namespaces, &agents).await;
    Some(run.rows)
}

/// Processor time, and requests to the API server.
#[derive(Clone, Copy, Default)]
struct Usage {
    cpu: Duration,
    requests: u64,
}

impl Run {
    /// Runs the phases one after another.
    async fn story(&mut self, begun: Instant, namespaces: &[String], agents: &Agents) {
        self.until_all_have(None).await;
        let phase = "Start of agents on all nodes, without sinks";
        self.row(phase, begun, Usage::default(), "").await;

        let (begun, before) = (Instant::now(), self.usage().await);
        let empty = self.revision().await;
        let all = namespaces.iter();
        let all: Vec<_> = all
            .map(|namespace| self.put(namespace, "127.0.0.1"))
            .collect();
        futures::stream::iter(all)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
        self.until_revision_is_not(&empty).await;
        let planned = begun.elapsed().as_secs_f64();
        self.until_all_have(Some(&empty)).await;
        self.wait_for_condition("Configured").await;
        self.wait_for_condition("Delivering").await;
        let phase = format!(
            "{} new sinks at once, until all nodes have them and all deliver",
            self.size.sinks
        );
        let note = format!("first revision planned after {planned:.1} s");
        self.row(&phase, begun, before, &note).await;

        let (begun, before) = (Instant::now(), self.usage().await);
        let old = self.revision().await;
        self.put(&namespaces[0], "localhost").await;
        self.until_all_have(Some(&old)).await;
        self.row(
            "Change of one sink, until all nodes have it",
            begun,
            before,
            "",
        )
        .await;

        let (begun, before, asked) = (Instant::now(), self.usage().await, agents.asked());
        while begun.elapsed() < IDLE {
            agents.deliver(1000);
            sleep(Duration::from_secs(1)).await;
        }
        let note = format!("{} agents scraped", agents.asked() - asked);
        self.row("Two minutes of delivery by all sinks", begun, before, &note)
            .await;

        // The last counts are written once more.
        sleep(SETTLE).await;
        let (begun, before, asked) = (Instant::now(), self.usage().await, agents.asked());
        sleep(IDLE).await;
        let note = format!("{} agents scraped", agents.asked() - asked);
        self.row("Two idle minutes", begun, before, &note).await;
        self.events(namespaces).await;
    }

    /// Measures Events, which go to the sink of their namespace.
    async fn events(&mut self, namespaces: &[String]) {
        let (begun, before, known) = (Instant::now(), self.usage().await, self.receiver.count());
        let count = namespaces.len() * EVENTS;
        let all = (0..count).map(|number| happens(&self.client, namespaces, number));
        let all: Vec<_> = all.collect();
        futures::stream::iter(all)
            .buffer_unordered(4 * AT_ONCE)
            .collect::<()>()
            .await;
        let written = begun.elapsed().as_secs_f64();
        let arrived = self.receiver.wait_for(known + count as u64, BOUND);
        arrived.expect("all Events arrive");
        let phase = format!("{count} Events, {EVENTS} per sink");
        let note = format!("{:.0} written per second", count as f64 / written);
        self.row(&phase, begun, before, &note).await;
    }

    async fn put(&self, namespace: &str, host: &str) {
        let kind = ApiResource::erase::<LogSink>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let object = json!({
            "apiVersion": "syslogsink.io/v1alpha1",
            "kind": "LogSink",
            "metadata": {"name": "sink"},
            "spec": {"host": host, "port": self.receiver.port(), "transport": "tcp"},
        });
        let parameters = PatchParams::apply("scale").force();
        let applied = api.patch("sink", &parameters, &Patch::Apply(object)).await;
        applied.expect("the API server accepts the object");
    }

    async fn usage(&self) -> Usage {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.controller));
        let stat = stat.expect("the controller runs");
        // The fields after the name: user and system time are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let second = rustix::param::clock_ticks_per_second();
        Usage {
            cpu: Duration::from_millis(ticks * 1000 / second),
            requests: self.requests().await,
        }
    }

    async fn requests(&self) -> u64 {
        let request = http_get("/metrics");
        let text = self
            .client
            .request_text(request)
            .await
            .expect("the API server answers");
        let counted = "apiserver_flowcontrol_dispatched_requests_total{";
        let ours = text.lines().filter(|line| {
            line.starts_with(counted) && line.contains(&format!("flow_schema=\"{FLOW}\""))
        });
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.controller));
        let status = status.expect("the controller runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .expect("a peak");
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    async fn row(&mut self, phase: &str, begun: Instant, before: Usage, note: &str) {
        let took = begun.elapsed();
        let now = self.usage().await;
        let row = Row {
            phase: phase.to_owned(),
            took,
            cpu: now.cpu.saturating_sub(before.cpu),
            requests: now.requests - before.requests,
            memory: self.memory(),
            note: note.to_owned(),
        };
        eprintln!("{}", line(&row));
        self.rows.push(row);
    }

    async fn revision(&self) -> String {
        let daemon_sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), SYSTEM);
        let daemon_set = daemon_sets.get(AGENT).await.expect("the DaemonSet exists");
        let template = daemon_set.spec.expect("a spec").template;
        template.metadata.unwrap().annotations.unwrap()[REVISION].clone()
    }

    async fn until_revision_is_not(&self, old: &str) {
        while self.revision().await == old {
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until each node's agent is ready with the same revision, which differs
    /// from `old`.
    async fn until_all_have(&self, old: Option<&str>) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let ours = ListParams::default().labels(&selector(LABEL));
        loop {
            let pods = pods.list(&ours).await.expect("the API server answers");
            let revisions = pods.iter().filter_map(|pod| {
                let agent = controller::fleet::Agent::new(pod)?;
                agent.ready_since.map(|_| agent.revision)
            });
            let revisions: Vec<String> = revisions.collect();
            let wanted = revisions.first();
            if revisions.len() == self.size.nodes
                && wanted.map(String::as_str) != old
                && revisions.iter().all(|revision| Some(revision) == wanted)
            {
                return;
            }
            assert!(
                self.is_alive(),
                "the controller exited: {}",
                self.plane.log("controller")
            );
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn is_alive(&self) -> bool {
        std::fs::exists(format!("/proc/{}", self.controller)).unwrap_or(false)
    }

    /// Waits until all sinks have a condition.
    async fn wait_for_condition(&self, condition: &str) {
        let sinks: Api<LogSink> = Api::all(self.client.clone());
        loop {
            let all = sinks
                .list(&ListParams::default())
                .await
                .expect("the API server answers");
            let has_condition = |sink: &&LogSink| {
                let status = sink.status.as_ref();
                let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
                conditions.any(|found| found.type_ == condition && found.status == "True")
            };
            if all.iter().filter(has_condition).count() == self.size.sinks {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

fn http_get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).expect("a path")
}

/// Returns a flow schema that counts the controller's requests separately.
fn flow_schema() -> String {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": FLOW},
        "spec": {
            "matchingPrecedence": 100,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "rules": [{
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": {"name": "sink-controller", "namespace": SYSTEM},
                }],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "clusterScope": true, "namespaces": ["*"],
                }],
            }],
        },
    })
    .to_string()
}

async fn create_namespaces(client: &Client, names: &[String]) {
    let api: Api<Namespace> = Api::all(client.clone());
    let create = |name: String| {
        let api = api.clone();
        async move {
            let namespace =
                serde_json::from_value(json!({"metadata": {"name": name}})).expect("one");
            api.create(&PostParams::default(), &namespace)
                .await
                .expect("the API server accepts the object");
        }
    };
    let all: Vec<_> = names.iter().cloned().map(create).collect();
    futures::stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Creates the pods of tenants, already assigned to nodes, so that nothing is
/// scheduled.
async fn create_pods(client: &Client, namespaces: &[String], size: Size) {
    let create = |number: usize| {
        let namespace = &namespaces[number % namespaces.len()];
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pod = json!({
            "metadata": {"name": format!("pod-{number}")},
            "spec": {
                "nodeName": format!("node-{}", number % size.nodes),
                "serviceAccountName": "default",
                "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "tenant"}],
            },
        });
        async move {
            let pod = serde_json::from_value(pod).expect("one");
            // A namespace's ServiceAccount is created shortly after the namespace.
            while let Err(error) = api.create(&PostParams::default(), &pod).await {
                assert!(error.to_string().contains("serviceaccount"), "{error}");
                sleep(Duration::from_millis(200)).await;
            }
        }
    };
    let all: Vec<_> = (0..size.pods).map(create).collect();
    futures::stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

async fn happens(client: &Client, namespaces: &[String], number: usize) {
    let namespace = &namespaces[number % namespaces.len()];
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let event = json!({
        "metadata": {"name": format!("event-{number}")},
        "involvedObject": {"kind": "Pod", "name": "pod", "namespace": namespace},
        "type": "Warning",
        "reason": "BackOff",
        "message": "Back-off restarting failed container main in pod",
        "source": {"component": "kubelet", "host": "node-7"},
    });
    let event = serde_json::from_value(event).expect("one");
    let created = api.create(&PostParams::default(), &event).await;
    created.expect("the API server accepts the object");
}

fn line(row: &Row) -> String {
    let Row {
        phase,
        took,
        cpu,
        requests,
        memory,
        note,
    } = row;
    format!(
        "| {phase} | {:.0} s | {:.1} s | {requests} | {} MiB | {note} |",
        took.as_secs_f64(),
        cpu.as_secs_f64(),
        memory / 1024
    )
}

fn table(rows: &[Row]) -> String {
    let mut table =
        "| Phase | Duration | CPU time | API requests | Peak memory so far | Note |\n|---|---:|---:|---:|---:|---|\n"
            .to_owned();
    for row in rows {
        let _ = writeln!(table, "{}", line(row));
    }
    table
}
