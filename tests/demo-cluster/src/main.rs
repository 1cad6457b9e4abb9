//! `make demo-cluster`: two namespaces whose pods write logs, their sinks, and a sink
//! with an error, shown with kubectl.
//!
//! ```text
//! pods -> Fluent Bit in a pod -> the plugin -> rsyslog    (a real node)
//! sinks -> sink-controller -> agents on nodes of KWOK     (without a real node)
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic aborts the demo"
)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cluster::sandbox::{Entered, enter_with};
use cluster::{ControlPlane, image, node};
use rig::fluent_bit;
use rig::process::run;
use rig::rsyslog::{Input, Rsyslog};
use rig::wait::until;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The time limit for everything that is waited for.
const BOUND: Duration = Duration::from_secs(120);
/// The number of simulated nodes (KWOK) if there is no real one.
const NODES: usize = 3;
/// The script of a pod.
const TALK: &str = "i=0; while true; do echo \"line $i\"; i=$((i+1)); sleep 1; done";

fn main() -> ExitCode {
    let real = fluent_bit::find().filter(|_| rig::program("rsyslogd").is_some());
    let entered = match real {
        Some(_) => {
            let _ = host::libraries();
            enter_with(&[])
        }
        None => Entered::Impossible,
    };
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    match (entered, real) {
        (Entered::Ended(status), _) if status.success() => ExitCode::SUCCESS,
        (Entered::Ended(_), _) => ExitCode::FAILURE,
        (Entered::Inside, Some(fluent_bit)) => {
            runtime.block_on(with_pods(&fluent_bit));
            ExitCode::SUCCESS
        }
        _ => runtime.block_on(without_pods()),
    }
}

/// Runs the complete demo: pods whose logs reach a server.
async fn with_pods(fluent_bit: &Path) {
    let rsyslog = Rsyslog::start(&Input::Tcp).expect("rsyslogd was found");
    let mut demo = Demo::start().await;
    let images = [
        image::agent(fluent_bit, host::library(), host::pod_logs_library()),
        image::shell(),
    ];
    demo.plane.add_real_node(&images).await;
    demo.start_controller(json!({"image": image::AGENT, "imagePullPolicy": "Never"}))
        .await;
    demo.show("get nodes");
    for (namespace, name) in [("shop", "web"), ("team-a", "db")] {
        demo.run_pod(namespace, name);
    }
    demo.apply_sinks(rsyslog.port());

    until(BOUND, || (rsyslog.count() >= 10).then_some(())).expect("logs arrive");
    demo.wait_for("shop", "logs", "Delivering", "True");
    demo.wait_for("team-a", "wrong", "Delivering", "False");
    demo.show("get logsinks --all-namespaces");
    println!("\nMessages that rsyslog received, only from the namespace shop:");
    print_some(&rsyslog, "pod.log/shop/");
    demo.show("-n shop run ghost --image=registry.invalid/ghost:1");
    let says = |words: &str| {
        let mut messages = rsyslog.messages().into_iter();
        messages.any(|message| message.msg.contains(words))
    };
    until(BOUND, || says("Back-off").then_some(())).expect("events arrive");
    println!("\nKubernetes events of the namespace arrive too:");
    print_some(&rsyslog, "k8s.event/shop/");
    let strangers = rsyslog.messages();
    let strangers = strangers
        .iter()
        .filter(|message| !message.app_name.contains("/shop/"));
    assert_eq!(
        strangers.count(),
        0,
        "a message of another namespace arrived"
    );
    demo.explain();
}

/// Prints the first messages whose APP-NAME begins with `app_name`.
fn print_some(rsyslog: &Rsyslog, app_name: &str) {
    let messages = rsyslog.messages().into_iter();
    let messages = messages.filter(|message| message.app_name.starts_with(app_name));
    for message in messages.take(10) {
        println!(
            "  {} {} {}",
            message.timestamp,
            message.app_name,
            message.msg.trim()
        );
    }
}

/// Runs the demo without a real node: the configuration and the conditions of sinks.
async fn without_pods() -> ExitCode {
    println!("A real node is not possible here. The nodes are simulated, so there are no logs.");
    let Some(plane) = ControlPlane::start().await else {
        return ExitCode::FAILURE;
    };
    let mut demo = Demo::new(plane).await;
    demo.plane.add_nodes(NODES).await;
    demo.start_controller(json!({})).await;
    demo.apply_sinks(514);
    demo.wait_for("shop", "logs", "Configured", "True");
    demo.wait_for("team-a", "none", "Accepted", "False");
    demo.show("get nodes");
    demo.show("get logsinks --all-namespaces");
    demo.explain();
    ExitCode::SUCCESS
}

struct Demo {
    plane: ControlPlane,
    folder: TempDir,
}

impl Demo {
    async fn start() -> Self {
        Self::new(
            ControlPlane::start()
                .await
                .expect("the sandbox has checked this"),
        )
        .await
    }

    async fn new(plane: ControlPlane) -> Self {
        plane.install().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let demo = Self { plane, folder };
        for namespace in ["shop", "team-a"] {
            demo.kubectl(&["create", "namespace", namespace]);
        }
        demo
    }

    async fn start_controller(&mut self, agent: Value) {
        let settings = json!({
            "paths": {"state": self.folder.path().join("state")},
            "agent": agent,
            "listen": "127.0.0.1:0",
            // Shorter than necessary for many nodes.
            "timing": {"debounceSeconds": 1, "scrapeIntervalSeconds": 2},
        });
        // Make builds it beside this program.
        let program = std::env::current_exe().expect("a program");
        let program = program.with_file_name("sink-controller");
        self.plane.start_controller(&program, &settings).await;
    }

    fn apply_sinks(&self, port: u16) {
        let sinks = [
            (
                "shop",
                "logs",
                json!({"host": node::ADDRESS, "port": port, "transport": "tcp"}),
            ),
            (
                "team-a",
                "wrong",
                json!({"host": node::ADDRESS, "port": 1, "transport": "tcp"}),
            ),
            (
                "team-a",
                "none",
                json!({"host": "logs.example.com", "tls": {"clientCertificateSecret": "none"}}),
            ),
        ];
        for (namespace, name, spec) in sinks {
            let sink = json!({
                "apiVersion": "syslogsink.io/v1alpha1",
                "kind": "LogSink",
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            });
            let file = self.folder.path().join(format!("{namespace}-{name}.json"));
            std::fs::write(&file, sink.to_string()).expect("a file");
            println!("\nA sink in {namespace}:\n  {spec}");
            self.kubectl(&["apply", "-f", &file.display().to_string()]);
        }
    }

    fn run_pod(&self, namespace: &str, name: &str) {
        let run = || {
            let mut command = self.plane.kubectl();
            command.args([
                "--namespace",
                namespace,
                "run",
                name,
                "--image",
                image::SHELL,
            ]);
            command.args(["--image-pull-policy=Never", "--", "-c", TALK]);
            command.output().ok()?.status.success().then_some(())
        };
        // A namespace's ServiceAccount is created shortly after the namespace.
        until(BOUND, run).expect("the pod is created");
    }

    /// Waits until a sink has a condition with this status.
    fn wait_for(&self, namespace: &str, sink: &str, condition: &str, status: &str) {
        let path = format!("jsonpath={{.status.conditions[?(@.type==\"{condition}\")].status}}");
        let is_met = || {
            let found = self.kubectl(&["-n", namespace, "get", "logsink", sink, "-o", &path]);
            (found.trim() == status).then_some(())
        };
        until(BOUND, is_met).unwrap_or_else(|error| {
            panic!(
                "{namespace}/{sink} is not {condition}: {error}\n{}",
                self.plane.log("controller")
            )
        });
    }

    /// Prints why sinks are not ready.
    fn explain(&self) {
        println!("\nConditions of the sinks of team-a:");
        let path = "jsonpath={range .items[*]}{.metadata.name}{\":\\n\"}{range .status.conditions[*]}{\"  \"}{.type}{\" \"}{.status}{\": \"}{.message}{\"\\n\"}{end}{end}";
        print!(
            "{}",
            self.kubectl(&["-n", "team-a", "get", "logsinks", "-o", path])
        );
    }

    fn show(&self, command: &str) {
        println!("\n$ kubectl {command}");
        let words: Vec<&str> = command.split(' ').collect();
        print!("{}", self.kubectl(&words));
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        run(self.plane.kubectl().args(arguments))
    }
}
