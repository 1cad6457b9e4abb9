//! Tests of the rollout of configuration to the nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::LogSink;
use cluster::ControlPlane;
use controller::apply::Applier;
use controller::history::Step;
use controller::names::{AGENT, REVISION};
use controller::plan::Plan;
use controller::preview::preview;
use controller::settings::{AgentSettings, Settings, Timing};
use controller::snapshot::Snapshot;
use controller::watch::stored_revisions;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tower::filter::FilterLayer;

use crate::world::{
    SYSTEM, condition, controller, controller_with, controllers, put, revision, settings, sinks,
    start, tcp, timing, until, until_condition, until_files, wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_objects_are_not_written_again() {
    let Some((_plane, client)) = start(&[]).await else {
        return;
    };
    let (settings, snapshot) = (settings(), Snapshot::default());
    let plan = Plan::new(&snapshot, &settings);
    let applier = Applier::new(client.clone(), &settings).await.unwrap();
    let apply = async || {
        let history = &snapshot.history;
        let step = replace_all(&plan);
        let applied = applier.apply(&plan, &snapshot, history, &step).await;
        applied.unwrap();
    };
    apply().await;
    let versions = async || {
        let daemon_set: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
        let lanes: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        let generation = daemon_set.get(AGENT).await.unwrap().metadata.generation;
        let lanes = lanes.get("syslog-sink-state").await.unwrap();
        (generation, lanes.metadata.resource_version)
    };
    let before = versions().await;
    for _ in 0..3 {
        apply().await;
    }
    assert_eq!(versions().await, before);
    // Changes by other users are reverted.
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let broken = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "fluent-bit", "image": "somebody/elses"},
    ]}}}});
    let patch = Patch::Strategic(broken);
    daemon_sets
        .patch(AGENT, &PatchParams::default(), &patch)
        .await
        .unwrap();
    apply().await;
    let daemon_set = daemon_sets.get(AGENT).await.unwrap();
    let containers = daemon_set.spec.unwrap().template.spec.unwrap().containers;
    assert_eq!(containers[0].image.as_deref(), Some("syslog-sink-agent"));
}

/// `Configured` counts ready agents with the revision. When all agents have a revision,
/// older revisions are deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_a_hundred_nodes() {
    const NODES: usize = 100;
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    plane.add_nodes(NODES).await;
    let own = controllers(&plane).await;
    let task = controller(&own, "only");

    let sinks: Api<LogSink> = Api::namespaced(client.clone(), "shop");
    let is_configured = |sink: &LogSink| {
        let (status, why) = condition(sink.status.as_ref(), "Configured")?;
        (status == "True" && why.contains("100 of 100 nodes")).then_some(())
    };
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until(&sinks, "sink", is_configured).await;
    put(&client, "shop", "sink", tcp("other.example.com"))
        .await
        .unwrap();
    let is_second_configured = |sink: &LogSink| {
        let seen = sink.status.as_ref()?.observed_generation?;
        (seen == 2).then(|| is_configured(sink)).flatten()
    };
    until(&sinks, "sink", is_second_configured).await;
    // Old revisions are deleted.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let labelled = ListParams::default().labels(REVISION);
    wait_until("one revision is left", async || {
        secrets.list_metadata(&labelled).await.unwrap().items.len() <= 1
    })
    .await;
    task.abort();
}

/// An image whose container exits at once: only the canary node runs it.
#[tokio::test(flavor = "multi_thread")]
async fn crashing_agents_are_rolled_back() {
    const NODES: usize = 10;
    let Some((mut plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    plane.add_nodes(NODES).await;
    let own = controllers(&plane).await;
    let first = controller(&own, "first");
    put(&client, "shop", "old", tcp("logs.example.com"))
        .await
        .unwrap();
    until_condition(&sinks(&client, "shop"), "old", "Configured", "True").await;
    let before = revision(&client).await;
    first.abort();

    // A new version of the controller has a broken image for the agents.
    let broken = Settings {
        agent: AgentSettings {
            image: "broken".to_owned(),
            ..AgentSettings::default()
        },
        ..settings()
    };
    let second = controller_with(&own, "second", broken);
    put(&client, "team-a", "new", tcp("logs.example.com"))
        .await
        .unwrap();
    let why = until(&sinks(&client, "team-a"), "new", |sink| {
        let (_, why) = condition(sink.status.as_ref(), "Configured")?;
        why.contains("new image or settings failed").then_some(why)
    })
    .await;
    assert!(
        why.contains("0 of 10 nodes") && why.contains("exited with code 1"),
        "{why}"
    );
    // The other agents were not changed.
    assert_eq!(revision(&client).await, before);
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let pods = pods.list(&ListParams::default()).await.unwrap();
    let has_new_revision = |pod: &&Pod| pod.annotations().get(REVISION) != before.as_ref();
    let crashed = pods.iter().filter(has_new_revision).count();
    assert!(crashed <= 1, "{crashed} agents have the broken revision");
    let why = until_condition(&sinks(&client, "shop"), "old", "Configured", "True").await;
    assert!(why.contains("10 of 10 nodes"), "{why}");
    second.abort();

    // A fixed version is rolled out.
    let third = controller(&own, "third");
    until_condition(&sinks(&client, "team-a"), "new", "Configured", "True").await;
    third.abort();
}

fn replace_all(plan: &Plan) -> Step {
    Step {
        revision: plan.revision.clone(),
        replace: Vec::new(),
    }
}

/// Returns a client that fails after this many requests.
async fn client_failing_after(plane: &ControlPlane, requests: i64) -> Client {
    let left = Arc::new(AtomicI64::new(requests));
    let filter = move |request: http::Request<Body>| {
        if left.fetch_sub(1, Ordering::Relaxed) > 0 {
            Ok(request)
        } else {
            Err("the controller was killed")
        }
    };
    let config = plane.config("admin-token").await;
    let builder = ClientBuilder::try_from(config).unwrap();
    builder.with_layer(&FilterLayer::new(filter)).build()
}

/// Asserts that everything that the agents mount exists and is complete.
async fn assert_mounted_objects_are_complete(client: &Client) {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let Some(daemon_set) = daemon_sets.get_opt(AGENT).await.unwrap() else {
        return;
    };
    let pod = daemon_set.spec.unwrap().template.spec.unwrap();
    let volumes = pod.volumes.unwrap();
    let sources = volumes
        .iter()
        .filter_map(|volume| volume.projected.as_ref());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    for source in sources.flat_map(|projected| projected.sources.iter().flatten()) {
        let name = &source.secret.as_ref().unwrap().name;
        assert!(
            secrets.get_opt(name).await.unwrap().is_some(),
            "{name} is missing"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_can_be_killed_at_every_step() {
    let Some((plane, client)) = start(&[]).await else {
        return;
    };
    let settings = settings();
    let admin = client.clone();
    let plan_of = |image: &str, sinks: usize| {
        let mut snapshot = Snapshot::default();
        for number in 0..sinks {
            let name = controller::snapshot::ObjectName::new("shop", &format!("sink-{number}"));
            let spec = serde_json::from_value(tcp(image)).unwrap();
            let stored = controller::snapshot::Stored::Spec(Box::new(spec));
            snapshot.log_sinks.insert(name, stored);
        }
        let plan = Plan::new(&snapshot, &settings);
        (snapshot, plan)
    };
    let apply = async |client: Client, (snapshot, plan): &(Snapshot, Plan)| {
        let applier = Applier::new(client, &settings).await?;
        let snapshot = Snapshot {
            stored: stored_revisions(&admin, &settings).await?,
            ..snapshot.clone()
        };
        let history = &snapshot.history;
        let step = replace_all(plan);
        applier.apply(plan, &snapshot, history, &step).await
    };
    let mut steps = 0;
    for requests in 0.. {
        // From one revision to another each time.
        let old = plan_of("old.example.com", 1);
        apply(client.clone(), &old).await.unwrap();
        let new = plan_of("new.example.com", 2);
        let killed = apply(client_failing_after(&plane, requests).await, &new).await;
        assert_mounted_objects_are_complete(&client).await;
        let is_done = killed.is_ok();
        // The next controller completes the change.
        apply(client.clone(), &new).await.unwrap();
        assert_mounted_objects_are_complete(&client).await;
        assert_eq!(revision(&client).await, Some(new.1.revision.clone()));
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
        let labelled = ListParams::default().labels(REVISION);
        let left = secrets.list_metadata(&labelled).await.unwrap();
        let left: BTreeSet<_> = left
            .iter()
            .map(|secret| secret.labels()[REVISION].clone())
            .collect();
        assert_eq!(left, BTreeSet::from([new.1.revision.clone()]));
        if is_done {
            steps = requests;
            break;
        }
    }
    // Two ConfigMaps, ServiceAccount, Secret, DaemonSet, deletion.
    assert_eq!(steps, 6);
}

/// Another user changes the `DaemonSet` repeatedly.
#[tokio::test(flavor = "multi_thread")]
async fn changes_by_other_users_are_reverted() {
    let Some((_plane, client)) = start(&["shop"]).await else {
        return;
    };
    let task = controller(&client, "only");
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let image = |daemon_set: &DaemonSet| {
        let pod = daemon_set.spec.as_ref()?.template.spec.as_ref()?;
        pod.containers[0].image.clone()
    };
    let is_ours = |daemon_set: &DaemonSet| {
        (image(daemon_set)? == "syslog-sink-agent").then_some(daemon_set.metadata.generation)
    };
    until(&daemon_sets, AGENT, is_ours).await;
    for number in 0..5 {
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "fluent-bit", "image": format!("elses:{number}")},
        ]}}}});
        let parameters = PatchParams::default();
        daemon_sets
            .patch(AGENT, &parameters, &Patch::Strategic(patch))
            .await
            .unwrap();
        until(&daemon_sets, AGENT, is_ours).await;
    }
    // Each change was reverted with one write, and sinks are still served.
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until_condition(&sinks(&client, "shop"), "sink", "Accepted", "True").await;
    until_files(&client, |files| files.contains_key("ns-shop.yaml")).await;
    let generation = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    assert!(generation <= Some(1 + 2 * 5 + 2), "{generation:?}");
    // Deleted objects are created again: the DaemonSet and the agents' ServiceAccount.
    daemon_sets
        .delete(AGENT, &DeleteParams::default())
        .await
        .unwrap();
    until(&daemon_sets, AGENT, |found| {
        found.metadata.deletion_timestamp.is_none().then_some(())
    })
    .await;
    task.abort();
}

/// Creates the Deployment that owns the controller's objects.
async fn create_deployment(client: &Client) -> Settings {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let labels = json!({"app": "sink-controller"});
    let deployment = json!({
        "metadata": {"name": "sink-controller"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "controller", "image": "controller"}]},
            },
        },
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    Settings {
        deployment: Some("sink-controller".to_owned()),
        ..settings()
    }
}

/// The controller's objects are deleted with its Deployment.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_deleted_with_the_deployment() {
    let Some((_plane, client)) = start(&[]).await else {
        return;
    };
    let settings = create_deployment(&client).await;
    let task = controller_with(&client, "only", settings);
    until_files(&client, |files| !files.is_empty()).await;
    task.abort();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    deployments
        .delete("sink-controller", &DeleteParams::default())
        .await
        .unwrap();
    wait_until_deleted::<DaemonSet>(&client).await;
    wait_until_deleted::<Secret>(&client).await;
    wait_until_deleted::<ConfigMap>(&client).await;
}

/// The tests' API server, like `OpenShift`'s, requires permission to delete an object
/// from a user who changes its owner.
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_objects_can_change() {
    let Some((plane, client)) = start(&[]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "before");
    until_files(&client, |files| !files.is_empty()).await;
    task.abort();
    let settings = create_deployment(&client).await;
    let task = controller_with(&own, "after", settings);
    // The DaemonSet is written last.
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    until(&daemon_sets, AGENT, |found| {
        found.metadata.owner_references.as_ref().map(|_| ())
    })
    .await;
    task.abort();
}

/// Waits until no object of a kind is left that the controller created.
async fn wait_until_deleted<K>(client: &Client)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), SYSTEM);
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=sink-controller");
    wait_until("nothing is left", async || {
        api.list_metadata(&ours).await.unwrap().items.is_empty()
    })
    .await;
}

/// A preview shows the effect of an upgrade in advance.
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_shows_changes_and_changes_nothing() {
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    plane.add_nodes(2).await;
    let with_image = |image: &str| Settings {
        agent: AgentSettings {
            image: image.to_owned(),
            ..AgentSettings::default()
        },
        timing: Timing {
            rollout_timeout: Duration::from_secs(2),
            ..timing()
        },
        ..settings()
    };
    let task = controller_with(&client, "only", with_image("agent:1"));
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until_condition(&sinks(&client, "shop"), "sink", "Configured", "True").await;
    let own = controllers(&plane).await;
    let look = async |image: &str| {
        let settings = with_image(image);
        preview(own.clone(), &settings).await.unwrap().to_string()
    };
    wait_until("the roll has ended", async || {
        look("agent:1")
            .await
            .ends_with("# No object would change\n")
    })
    .await;
    task.abort();
    let before = revision(&client).await;
    assert!(
        look("agent:1")
            .await
            .contains("0 of 2 agents would be replaced")
    );
    let other = look("agent:2").await;
    assert!(other.contains("2 of 2 agents would be replaced"), "{other}");
    for line in [
        "# changed: DaemonSet syslog-sink/syslog-sink-agent\n",
        "# created: Secret syslog-sink/syslog-sink-agent-",
        "image: agent:2\n",
    ] {
        assert!(other.contains(line), "{line} in\n{other}");
    }
    assert!(!other.contains("agent:1\n"), "{other}");
    assert_eq!(revision(&client).await, before);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let labelled = ListParams::default().labels(REVISION);
    let stored = secrets.list_metadata(&labelled).await.unwrap();
    assert_eq!(stored.items.len(), 1);
}
