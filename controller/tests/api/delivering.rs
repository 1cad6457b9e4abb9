//! Tests of the sinks' delivery status: a real Fluent Bit is the agent of a simulated
//! node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::LogSink;
use controller::names::REVISION;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::containers::Node;
use rig::fluent_bit::{self, FluentBit};
use rig::pki::Pki;
use rig::port::free_port;
use serde_json::{Value, json};

use crate::rendered::{self, write_files};
use crate::world::{
    SYSTEM, condition, controller_with, controllers, files_of, put, settings_in, sinks, start,
    until, until_condition, wait_until,
};

const LINES: usize = 500;
/// Together longer than the buffers of a connection.
const LENGTH: usize = 6000;

/// Returns the revision of the node's pod. It differs from the revision of the
/// `DaemonSet` during a trial.
async fn revision_of_pod(client: &Client) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let pod = pods
        .iter()
        .find(|pod| pod.metadata.deletion_timestamp.is_none())?;
    pod.annotations().get(REVISION).cloned()
}

/// Runs Fluent Bit with the configuration of the pod's revision, restarts it if it
/// exits, and switches to a new revision.
async fn kubelet(client: Client, program: PathBuf, folder: PathBuf) {
    let mut running: Option<(String, FluentBit)> = None;
    loop {
        let wanted = revision_of_pod(&client).await;
        let is_running = running.as_mut().is_some_and(|(revision, agent)| {
            Some(&*revision) == wanted.as_ref() && !agent.has_ended()
        });
        if let Some(wanted) = wanted
            && !is_running
        {
            drop(running.take());
            let files = files_of(&client, &wanted).await;
            let configuration = write_files(files.iter(), &folder);
            let agent = rendered::start(&program, &configuration);
            running = Some((wanted, agent));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_report_whether_they_deliver_and_why_not() {
    let Some(program) = fluent_bit::find() else {
        return;
    };
    // Built before anything waits for the libraries.
    let _ = host::libraries();
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings_in(&dir);
    settings.timing.behind = Duration::from_secs(1);
    plane.add_nodes(1).await;
    let own = controllers(&plane).await;
    let task = controller_with(&own, "only", settings);
    let agent = tokio::spawn(kubelet(client.clone(), program, dir.path().join("config")));

    let good = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let slow = Receiver::start(Options::new(Listen::Tcp)).unwrap();
    let pki = Pki::new();
    let pair = pki.server();
    let tls = Receiver::start(Options::new(Listen::Tls(TlsFiles {
        cert: pair.cert,
        key: pair.key,
        client_ca: None,
    })))
    .unwrap();
    let other_ca = fs::read_to_string(pki.other_ca()).unwrap();
    let closed = free_port();
    for (name, spec) in [
        (
            "good",
            json!({"host": "127.0.0.1", "port": good.port(), "transport": "tcp"}),
        ),
        (
            "slow",
            json!({"host": "127.0.0.1", "port": slow.port(), "transport": "tcp"}),
        ),
        (
            "wrong-port",
            json!({"host": "127.0.0.1", "port": closed, "transport": "tcp"}),
        ),
        (
            "unknown-host",
            json!({"host": "logs.invalid", "transport": "tcp"}),
        ),
        (
            "refused",
            json!({"host": "localhost", "port": tls.port(), "tls": {"ca": {"pem": other_ca}}}),
        ),
    ] {
        put(&client, "shop", name, logs_only(spec)).await.unwrap();
    }
    let sinks = sinks(&client, "shop");
    for (name, words) in [
        (
            "wrong-port",
            "ConnectFailed: 1 of 1 nodes are not connected: no connection can be made",
        ),
        (
            "unknown-host",
            "NameNotResolved: 1 of 1 nodes are not connected: the host name",
        ),
        (
            "refused",
            "TlsFailed: 1 of 1 nodes are not connected: TLS failed",
        ),
    ] {
        let why = until_condition(&sinks, name, "Delivering", "False").await;
        assert!(why.starts_with(words), "{why}");
        let error = sinks.get(name).await.unwrap().status.unwrap().last_error;
        assert_eq!(error.unwrap().node, "node-0");
    }
    for name in ["good", "slow"] {
        let why = until_condition(&sinks, name, "Delivering", "True").await;
        assert_eq!(why, "Connected: 1 of 1 nodes are connected");
    }
    slow.pause();

    // Delivered messages are counted.
    write_lines(&dir.path().join("log"));
    until(&sinks, "good", |sink| {
        let counts = sink.status.as_ref()?.counts.as_ref()?;
        (counts.acknowledged == LINES as u64).then_some(())
    })
    .await;
    assert_eq!(good.received().len(), LINES);

    assert_behind_until_resumed(&client, &sinks, &slow).await;

    // Events announce the failure and the recovery.
    wait_for_event(&client, "wrong-port", "ConnectFailed").await;
    let fixed = json!({"host": "127.0.0.1", "port": good.port(), "transport": "tcp"});
    put(&client, "shop", "wrong-port", logs_only(fixed))
        .await
        .unwrap();
    until_condition(&sinks, "wrong-port", "Delivering", "True").await;
    wait_for_event(&client, "wrong-port", "Connected").await;
    agent.abort();
    task.abort();
}

/// A connected sink that reads nothing is not delivering, until it has read everything.
async fn assert_behind_until_resumed(client: &Client, sinks: &Api<LogSink>, slow: &Receiver) {
    // Before, its connection may time out: nothing is acknowledged once the window is full.
    let is_behind = |sink: &LogSink| {
        let (_, why) = condition(sink.status.as_ref(), "Delivering")?;
        why.starts_with("Behind").then_some(why)
    };
    let why = until(sinks, "slow", is_behind).await;
    // The duration depends on the machine, and the connection may have timed out already.
    let words = " of 1 nodes are connected; messages wait for ";
    let node = " on 1 of 1 nodes, on node-0 for example";
    assert!(why.contains(words) && why.ends_with(node), "{why}");
    let waiting = |sink: &LogSink| {
        let counts = sink.status.as_ref()?.counts.as_ref()?;
        Some((counts.waiting, counts.oldest_waiting_time.is_some()))
    };
    let (messages, since) = until(sinks, "slow", waiting).await;
    assert!(messages > 0 && since, "{messages}");
    wait_for_event(client, "slow", "Behind").await;
    slow.resume();
    until_condition(sinks, "slow", "Delivering", "True").await;
    let none = Some((0, false));
    until(sinks, "slow", |sink| (waiting(sink) == none).then_some(())).await;
}

fn logs_only(mut spec: Value) -> Value {
    spec["events"] = json!(false);
    spec
}

fn write_lines(folder: &Path) {
    let mut container = Node::new(folder).start("shop", "web", "app");
    for line in 0..LINES {
        container.write(
            "2026-03-01T12:00:00.123456789Z",
            "stdout",
            &format!("web {line} {:x<LENGTH$}", ""),
        );
    }
}

/// Waits for an Event about a sink.
async fn wait_for_event(client: &Client, sink: &str, reason: &str) {
    let events: Api<Event> = Api::namespaced(client.clone(), "shop");
    let matches = |event: &Event| {
        let regarding = event.regarding.as_ref();
        regarding.and_then(|about| about.name.as_deref()) == Some(sink)
            && event.reason.as_deref() == Some(reason)
    };
    wait_until(&format!("{sink} has an Event {reason}"), async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.iter().any(matches)
    })
    .await;
}
