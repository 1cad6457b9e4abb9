//! End-to-end test on a real node: the controller's program, agents with a real Fluent
//! Bit in pods, pods that write logs, and an rsyslog that receives them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster::{ControlPlane, image, node, sandbox};
use controller::names::{AGENT, LABEL, selector};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use rig::fluent_bit;
use rig::port::free_port;
use rig::process::run;
use rig::rsyslog::{Input, Parsed, Rsyslog};
use serde_json::{Value, json};

use crate::world::{BOUND, SYSTEM, put, put_cluster, sinks, start, until, until_condition};

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A cluster of one node that runs the controller.
struct Real {
    plane: ControlPlane,
    client: Client,
    port: u16,
    /// The agents' state, until the test ends.
    _folder: tempfile::TempDir,
}

impl Real {
    async fn start(fluent_bit: &Path) -> Self {
        let (mut plane, client) = start(&["shop", "team-a"]).await.unwrap();
        let images = [
            image::agent(fluent_bit, host::library(), host::pod_logs_library()),
            image::shell(),
        ];
        plane.add_real_node(&images).await;
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let settings = json!({
            "namespace": SYSTEM,
            "paths": {"state": folder.path().join("state")},
            "agent": {"image": image::AGENT, "imagePullPolicy": "Never"},
            "listen": format!("127.0.0.1:{port}"),
            "log": "text",
        });
        let program = Path::new(env!("CARGO_BIN_EXE_sink-controller"));
        plane.start_controller(program, &settings).await;
        Self {
            plane,
            client,
            port,
            _folder: folder,
        }
    }

    /// Returns the logs of the controller and the agents, and the kubelet's log lines
    /// about pods.
    fn log(&self) -> String {
        let controller = self.plane.log("controller");
        let mut parts = vec![("controller".to_owned(), controller)];
        parts.extend(agents_logs());
        let kubelet = self.plane.log("kubelet");
        let errors: Vec<&str> = kubelet
            .lines()
            .filter(|line| line.starts_with('E'))
            .collect();
        parts.push(("kubelet".to_owned(), errors.join("\n")));
        let parts = parts
            .iter()
            .map(|(name, text)| format!("{name}:\n{}\n", tail(text)));
        parts.collect()
    }

    /// Creates a pod that runs a script.
    async fn pod(&self, namespace: &str, name: &str, script: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": image::SHELL,
                    "imagePullPolicy": "Never",
                    "args": ["-c", script],
                }],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        // A namespace's ServiceAccount is created shortly after the namespace.
        let creating = async {
            while let Err(error) = pods.create(&PostParams::default(), &pod).await {
                assert!(error.to_string().contains("serviceaccount"), "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(BOUND, creating).await.unwrap();
    }

    /// Returns the name of the ready agent.
    async fn agent(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let ours = ListParams::default().labels(&selector(LABEL));
        let pods = pods.list(&ours).await.unwrap();
        let alive = pods
            .items
            .into_iter()
            .find(|pod| pod.metadata.deletion_timestamp.is_none());
        alive.unwrap().metadata.name.unwrap()
    }
}

/// Returns the log of each container of the agents, by file name.
fn agents_logs() -> Vec<(String, String)> {
    let files = std::fs::read_dir("/var/log/containers");
    let files = files.into_iter().flatten().flatten();
    let log = |file: std::fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        name.starts_with(AGENT).then_some((name, text))
    };
    files.filter_map(log).collect()
}

/// Prints a line every 50 ms, forever.
const TALK: &str = "i=0; while true; do echo \"line $i\"; i=$((i+1)); sleep 0.05; done";

fn tcp(rsyslog: &Rsyslog) -> Value {
    json!({"host": node::ADDRESS, "port": rsyslog.port(), "transport": "tcp"})
}

/// Returns the pod of a message, from the fields set by the agent, or by the controller
/// for an Event.
fn pod_of(message: &Parsed) -> String {
    let parts: Vec<&str> = message.app_name.split('/').collect();
    match parts.as_slice() {
        ["pod.log", namespace, pod, _] | ["k8s.event", namespace, pod] => {
            format!("{namespace}/{pod}")
        }
        _ => panic!("{message:?}"),
    }
}

/// Returns how often each line of a pod arrived.
fn lines(rsyslog: &Rsyslog, pod: &str) -> BTreeMap<u32, usize> {
    let mut lines = BTreeMap::new();
    for message in rsyslog.messages() {
        if pod_of(&message) == pod
            && let Some(number) = message.msg.trim().strip_prefix("line ")
        {
            *lines.entry(number.parse().unwrap()).or_default() += 1;
        }
    }
    lines
}

async fn wait_until(what: &str, real: &Real, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(BOUND * 2, waiting).await.is_ok();
    assert!(in_time, "{what}\n{}", real.log());
}

#[test]
fn pods_logs_reach_their_sinks_and_no_others() {
    let Some(fluent_bit) = fluent_bit::find() else {
        return;
    };
    if rig::program("rsyslogd").is_none() {
        return rig::skip("rsyslogd is not installed (Debian: rsyslog)");
    }
    if !sandbox::enter("node::pods_logs_reach_their_sinks_and_no_others") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run_steps(&fluent_bit));
}

async fn run_steps(fluent_bit: &Path) {
    let (shop, all) = (
        Rsyslog::start(&Input::Tcp).unwrap(),
        Rsyslog::start(&Input::Tcp).unwrap(),
    );
    let real = Real::start(fluent_bit).await;
    real.pod("shop", "web", TALK).await;
    real.pod("team-a", "db", TALK).await;
    logs_arrive(&real, &shop, &all).await;
    a_broken_sink_does_not_affect_others(&real, &shop).await;
    killed_agents_lose_nothing(&real, &shop).await;
    events_of_the_kubelet_arrive(&real, &shop).await;
    a_deleted_sink_gets_nothing(&real, &shop, &all).await;

    // Each line since the sink's creation has arrived, and no line of another namespace.
    let strangers = shop.messages();
    let strangers = strangers.iter().map(pod_of);
    assert_eq!(strangers.filter(|pod| !pod.starts_with("shop/")).count(), 0);
    for pod in ["shop/web", "team-a/db"] {
        let found = lines(&all, pod);
        let mut numbers = found.keys();
        let (first, last) = (numbers.next().unwrap(), numbers.next_back().unwrap());
        let count = (last - first) as usize + 1;
        assert_eq!(found.len(), count, "{pod} lacks lines");
    }
    let metrics = fluent_bit::get(real.port, "/metrics").unwrap();
    assert!(metrics.contains("sink_controller_leading 1"), "{metrics}");
    assert_eq!(fluent_bit::get(real.port, "/readyz").as_deref(), Some("ok"));
}

async fn logs_arrive(real: &Real, shop: &Rsyslog, all: &Rsyslog) {
    // A namespace's sink gets the logs of the namespace.
    let begun = Instant::now();
    put(&real.client, "shop", "sink", tcp(shop)).await.unwrap();
    wait_until("the first line", real, || shop.count() > 0).await;
    println!("the first line arrived after {:?}", begun.elapsed());
    let sinks = sinks(&real.client, "shop");
    until_condition(&sinks, "sink", "Configured", "True").await;
    until_condition(&sinks, "sink", "Delivering", "True").await;
    // A cluster sink gets the logs of both namespaces.
    put_cluster(&real.client, "all", tcp(all)).await;
    wait_until("both namespaces", real, || {
        !lines(all, "shop/web").is_empty() && !lines(all, "team-a/db").is_empty()
    })
    .await;
    // The labels come from the API server.
    wait_until("labels", real, || {
        let mut messages = shop.messages().into_iter();
        messages.any(|message| message.structured_data.contains("app=\"web\""))
    })
    .await;
    // A pod that runs for a second.
    let brief = "i=0; while [ $i -lt 200 ]; do echo \"line $i\"; i=$((i+1)); done; sleep 1";
    real.pod("shop", "brief", brief).await;
    wait_until("the brief pod's lines", real, || {
        lines(shop, "shop/brief").len() == 200
    })
    .await;
}

async fn a_broken_sink_does_not_affect_others(real: &Real, shop: &Rsyslog) {
    let begun = Instant::now();
    let wrong = json!({"host": node::ADDRESS, "port": 1, "transport": "tcp"});
    put(&real.client, "team-a", "wrong", wrong).await.unwrap();
    let sinks = sinks(&real.client, "team-a");
    let why = until_condition(&sinks, "wrong", "Delivering", "False").await;
    println!("the wrong port was reported after {:?}", begun.elapsed());
    assert!(why.starts_with("ConnectFailed"), "{why}");
    let count = shop.count();
    wait_until("more lines", real, || shop.count() > count + 20).await;
}

async fn killed_agents_lose_nothing(real: &Real, shop: &Rsyslog) {
    const LINES: usize = 400;
    let steady =
        format!("i=0; while [ $i -lt {LINES} ]; do echo \"line $i\"; i=$((i+1)); sleep 0.05; done");
    real.pod("shop", "steady", &steady).await;
    for killed in 1..=3 {
        wait_until("lines between two kills", real, || {
            lines(shop, "shop/steady").len() > killed * 80
        })
        .await;
        kill_fluent_bit();
    }
    wait_until("all lines", real, || {
        lines(shop, "shop/steady").len() == LINES
    })
    .await;
    let again: usize = lines(shop, "shop/steady")
        .values()
        .map(|count| count - 1)
        .sum();
    println!("{again} of {LINES} lines were duplicated by three kills");
    // A deleted pod is created again and continues.
    let pods: Api<Pod> = Api::namespaced(real.client.clone(), SYSTEM);
    let agent = real.agent().await;
    pods.delete(&agent, &DeleteParams::default()).await.unwrap();
    let last = *lines(shop, "shop/web").keys().next_back().unwrap();
    wait_until("lines after the deletion", real, || {
        lines(shop, "shop/web").contains_key(&(last + 200))
    })
    .await;
}

/// The Events that operators look for, as the kubelet and the scheduler write them.
async fn events_of_the_kubelet_arrive(real: &Real, shop: &Rsyslog) {
    let pods: Api<Pod> = Api::namespaced(real.client.clone(), "shop");
    for (name, container) in [
        ("no-image", json!({"image": "registry.invalid/none:1"})),
        (
            "big",
            json!({"image": image::SHELL, "resources": {"requests": {"cpu": "1000"}}}),
        ),
    ] {
        let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [container]}});
        pod["spec"]["containers"][0]["name"] = json!("main");
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    for (pod, reason, words) in [
        ("shop/no-image", "Failed", "Error: ErrImagePull"),
        (
            "shop/no-image",
            "BackOff",
            "Back-off pulling image \"registry.invalid/none:1\"",
        ),
        ("shop/brief", "Started", "ontainer"),
        (
            "shop/big",
            "FailedScheduling",
            "0/1 nodes are available: 1 Insufficient cpu",
        ),
    ] {
        let matches = |message: &Parsed| {
            pod_of(message) == pod
                && message.app_name.starts_with("k8s.event/")
                && message
                    .structured_data
                    .contains(&format!("reason=\"{reason}\""))
                && message.msg.contains(words)
        };
        wait_until(&format!("{pod}: {words}"), real, || {
            shop.messages().iter().any(matches)
        })
        .await;
        let message = shop.messages().into_iter().find(matches).unwrap();
        println!("{} {}", message.app_name, message.msg.trim());
    }
}

/// The logs of a deleted sink's namespace are no longer read, but the other sinks still
/// get theirs.
async fn a_deleted_sink_gets_nothing(real: &Real, shop: &Rsyslog, all: &Rsyslog) {
    let sinks = sinks(&real.client, "shop");
    let daemon_sets: Api<DaemonSet> = Api::namespaced(real.client.clone(), SYSTEM);
    let generation = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    sinks
        .delete("sink", &DeleteParams::default())
        .await
        .unwrap();
    until(&daemon_sets, AGENT, |found| {
        let status = found.status.as_ref()?;
        (found.metadata.generation > generation
            && status.observed_generation == found.metadata.generation
            && status.updated_number_scheduled == Some(1)
            && status.number_ready == 1)
            .then_some(())
    })
    .await;
    let (count, seen) = (shop.count(), lines(all, "shop/web").len());
    wait_until("the cluster sink still gets lines", real, || {
        lines(all, "shop/web").len() > seen + 100
    })
    .await;
    assert_eq!(shop.count(), count);
}

/// Kills the only Fluent Bit: there are no other processes in the sandbox.
fn kill_fluent_bit() {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if name.trim() == "fluent-bit" {
            let id = process.file_name().into_string().unwrap();
            run(Command::new("kill").args(["-KILL", &id]));
        }
    }
}
