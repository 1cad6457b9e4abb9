//! Tests with dead, unreachable and special nodes.

use api::LogSink;
use controller::clock;
use controller::names::{AGENT, REVISION};
use controller::settings::{AgentSettings, Settings, Timing};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

use crate::world::{
    SYSTEM, condition, controller_with, controllers, put, revision, settings, sinks, start, tcp,
    timing, until, until_condition, wait_until,
};

/// Creation timestamps come from the API server's clock, which may differ from the
/// local one.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_comes_from_the_api_server() {
    let Some((_plane, client)) = start(&[]).await else {
        return;
    };
    let time = clock::ask(&client).await.unwrap().expect("a date");
    let difference = Timestamp::now().duration_since(time);
    assert!(
        difference.abs() < SignedDuration::from_secs(60),
        "{difference}"
    );
}

/// Returns settings with this image for the agents.
fn with_image(image: &str) -> Settings {
    Settings {
        agent: AgentSettings {
            image: image.to_owned(),
            ..AgentSettings::default()
        },
        timing: Timing {
            canary_timeout: Duration::from_secs(8),
            rollout_timeout: Duration::from_secs(5),
            ..timing()
        },
        ..settings()
    }
}

/// Waits until `Configured` has this generation and message, and returns the message.
async fn until_configured(client: &Client, generation: i64, words: &str) -> String {
    until(&sinks(client, "shop"), "sink", |sink: &LogSink| {
        let status = sink.status.as_ref();
        let (status, why) = condition(status, "Configured")
            .filter(|_| status.and_then(|status| status.observed_generation) == Some(generation))?;
        (status == "True" && why.contains(words)).then_some(why)
    })
    .await
}

/// Returns the agents by node, with their revisions.
async fn agents(client: &Client) -> Vec<(String, String)> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let mut agents: Vec<(String, String)> = pods
        .iter()
        .map(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            (
                node.unwrap_or_default(),
                pod.annotations().get(REVISION).cloned().unwrap_or_default(),
            )
        })
        .collect();
    agents.sort();
    agents
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_and_unreachable_nodes_do_not_block_a_roll() {
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    plane.add_nodes(4).await;
    let own = controllers(&plane).await;
    let task = controller_with(&own, "only", with_image("agent"));
    put(&client, "shop", "sink", tcp("a.example.com"))
        .await
        .unwrap();
    until_configured(&client, 1, "4 of 4 nodes run a ready agent with the sink").await;
    let before = revision(&client).await.unwrap();

    // As many nodes as are replaced at a time.
    plane.kill_node("node-0").await;
    for (generation, host) in [(2, "b.example.com"), (3, "c.example.com")] {
        put(&client, "shop", "sink", tcp(host)).await.unwrap();
        let why = until_configured(&client, generation, "3 of 3 nodes").await;
        assert!(
            why.contains("node-0 is excluded: the node is not ready (NodeStatusUnknown"),
            "{why}"
        );
    }
    // A node that a cloud provider has created, and that never becomes ready.
    plane.add_node("node-9", false).await;
    wait_until("it has an agent's pod", async || {
        let agents = agents(&client).await;
        agents.iter().any(|(node, _)| node == "node-9")
    })
    .await;
    put(&client, "shop", "sink", tcp("d.example.com"))
        .await
        .unwrap();
    until_configured(
        &client,
        4,
        "3 of 3 nodes run a ready agent with the sink, 2 are excluded",
    )
    .await;
    // The dead node's agent was not deleted: a pod that cannot terminate would block
    // the roll.
    let agents = agents(&client).await;
    assert_eq!(agents[0], ("node-0".to_owned(), before));

    plane.revive_node("node-0").await;
    until_configured(
        &client,
        4,
        "4 of 4 nodes run a ready agent with the sink, node-9 is excluded",
    )
    .await;
    task.abort();
}

async fn patch_node(client: &Client, name: &str, patch: Value) {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(patch);
    nodes
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn taint(key: &str) -> Value {
    json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}})
}

/// The `DaemonSet` controller decides by selectors and taints.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_an_agent_are_neither_counted_nor_changed() {
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    plane.add_nodes(4).await;
    let agent = AgentSettings {
        tolerations: Vec::new(),
        ..AgentSettings::default()
    };
    let own = controllers(&plane).await;
    let task = controller_with(
        &own,
        "only",
        Settings {
            agent,
            ..settings()
        },
    );
    put(&client, "shop", "sink", tcp("a.example.com"))
        .await
        .unwrap();
    until_configured(&client, 1, "4 of 4 nodes").await;
    let before = revision(&client).await.unwrap();

    // Cordoned, which does not affect agents; about to be removed; and with a different
    // operating system.
    patch_node(&client, "node-1", taint("node.kubernetes.io/unschedulable")).await;
    patch_node(&client, "node-0", taint("ToBeDeletedByClusterAutoscaler")).await;
    let windows = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}});
    patch_node(&client, "node-3", windows).await;
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    until(&daemon_sets, AGENT, |daemon_set| {
        let status = daemon_set.status.as_ref()?;
        (status.desired_number_scheduled == 2).then_some(())
    })
    .await;
    put(&client, "shop", "sink", tcp("b.example.com"))
        .await
        .unwrap();
    until_configured(&client, 2, "2 of 2 nodes run a ready agent with the sink").await;
    let after = revision(&client).await.unwrap();
    let expected = [("node-0", &before), ("node-1", &after), ("node-2", &after)];
    let expected = expected.map(|(node, revision)| (node.to_owned(), revision.clone()));
    assert_eq!(agents(&client).await, expected);
    task.abort();
}

/// Upgrades the controller to one whose agents' image fails. Returns the status message
/// of a sink that is created then.
async fn failed_upgrade(image: &str, nodes: usize, reason: &str) -> Option<String> {
    let (mut plane, client) = start(&["shop", "team-a"]).await?;
    plane.add_nodes(nodes).await;
    let own = controllers(&plane).await;
    let first = controller_with(&own, "first", with_image("agent"));
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    let all = format!("{nodes} of {nodes} nodes");
    until_configured(&client, 1, &all).await;
    let before = revision(&client).await.unwrap();
    first.abort();
    let second = controller_with(&own, "second", with_image(image));
    put(&client, "team-a", "new", tcp("logs.example.com"))
        .await
        .unwrap();
    let message = until(&sinks(&client, "team-a"), "new", |sink| {
        let (_, message) = condition(sink.status.as_ref(), "Configured")?;
        message.contains(reason).then_some(message)
    })
    .await;
    // All agents have the previous revision again, and the other sink was hardly
    // affected.
    wait_until("all agents are as before", async || {
        let agents = agents(&client).await;
        agents.len() == nodes && agents.iter().all(|(_, revision)| *revision == before)
    })
    .await;
    until_configured(&client, 1, &all).await;
    second.abort();
    // A fixed image is rolled out.
    let third = controller_with(&own, "third", with_image("fixed"));
    until_condition(&sinks(&client, "team-a"), "new", "Configured", "True").await;
    third.abort();
    Some(message)
}

/// Because of a different CPU architecture or mount, for example.
#[tokio::test(flavor = "multi_thread")]
async fn agents_that_crash_on_some_nodes_are_rolled_back_on_all() {
    let Some(why) = failed_upgrade("broken-on", 4, "new image or settings failed").await else {
        return;
    };
    assert!(
        why.contains("on node node-3: the container exited with code 1"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_no_kubelet_starts_are_rolled_back() {
    let Some(why) = failed_upgrade("stuck", 5, "no new agent starts").await else {
        return;
    };
    assert!(why.contains("the pod does not start"), "{why}");
}
