//! The controller against a real API server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where something is not as it must be"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use cluster::ControlPlane;
use controller::agent::{AGENT, REVISION};
use controller::apply::apply;
use controller::lease::{Candidate, LEASE, Terms};
use controller::plan::{Plan, Settings};
use controller::resources::{ClusterLogSink, LogSink, SinkStatus, crds};
use controller::run::{Pace, run};
use controller::snapshot::Snapshot;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind, ObjectMeta};
use kube::discovery::ApiResource;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const SYSTEM: &str = "syslog-sink";
/// Longer than anything takes that is waited for.
const BOUND: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    Settings {
        namespace: SYSTEM.to_owned(),
        ..Settings::default()
    }
}

fn pace() -> Pace {
    Pace {
        quiet: Duration::from_millis(200),
        gather: Duration::from_secs(1),
        resync: Duration::from_secs(2),
        retry: Duration::from_millis(200),
    }
}

/// A control plane with our CRDs and these namespaces; none where there is no
/// control plane.
async fn start(namespaces: &[&str]) -> Option<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin().await;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds() {
        api.create(&PostParams::default(), &crd).await.unwrap();
        let established = conditions::is_crd_established();
        await_condition(api.clone(), &crd.name_any(), established)
            .await
            .unwrap();
    }
    for name in namespaces.iter().chain([&SYSTEM]) {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some((*name).to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let api: Api<Namespace> = Api::all(client.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }
    Some((plane, client))
}

const TERMS: Terms = Terms {
    valid: Duration::from_secs(3),
    deadline: Duration::from_secs(2),
    renew: Duration::from_millis(300),
};

/// A controller that runs until it is aborted, which is like a crash.
fn controller(client: &Client, identity: &str) -> JoinHandle<()> {
    let candidate = Candidate::new(client.clone(), SYSTEM, identity, TERMS);
    let client = client.clone();
    tokio::spawn(async move {
        let never = std::future::pending();
        let ended = run(client, &settings(), pace(), candidate, never).await;
        panic!("the controller ended: {ended:?}");
    })
}

/// A client with the rights that the controller has where it is installed.
async fn controllers(plane: &ControlPlane, admin: &Client) -> Client {
    let manifest = include_str!("../../deploy/rbac.yaml");
    for document in manifest.split("---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
        let types = object.types.clone().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(admin.clone(), &namespace, &kind),
            None => Api::all_with(admin.clone(), &kind),
        };
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), SYSTEM);
    let request = TokenRequest::default();
    let token = accounts
        .create_token_request("sink-controller", &PostParams::default(), &request)
        .await
        .unwrap();
    plane.client(&token.status.unwrap().token.unwrap()).await
}

async fn put(client: &Client, namespace: &str, name: &str, spec: Value) -> kube::Result<()> {
    let api: Api<DynamicObject> = Api::namespaced_with(
        client.clone(),
        namespace,
        &ApiResource::erase::<LogSink>(&()),
    );
    let object = json!({
        "apiVersion": "syslogsink.io/v1alpha1",
        "kind": "LogSink",
        "metadata": {"name": name},
        "spec": spec,
    });
    let parameters = PatchParams::apply("test").force();
    api.patch(name, &parameters, &Patch::Apply(object))
        .await
        .map(drop)
}

/// Asks until the object is as it shall be.
async fn until<K, T>(api: &Api<K>, name: &str, what: impl Fn(&K) -> Option<T>) -> T
where
    K: Clone + DeserializeOwned + Debug,
{
    let asking = async {
        loop {
            if let Some(found) = api.get_opt(name).await.unwrap().as_ref().and_then(&what) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(BOUND, asking).await.ok();
    assert!(found.is_some(), "{name}: {:?}", api.get_opt(name).await);
    found.unwrap()
}

fn condition(status: Option<&SinkStatus>, kind: &str) -> Option<(String, String)> {
    let mut conditions = status?.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == kind)?;
    Some((
        found.status.clone(),
        format!("{}: {}", found.reason, found.message),
    ))
}

/// The files of the revision that the agents shall have.
async fn files(client: &Client) -> BTreeMap<String, String> {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let template = daemon_sets.get(AGENT).await.unwrap().spec.unwrap().template;
    let revision = template.metadata.unwrap().annotations.unwrap()[REVISION].clone();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let selector = format!("{REVISION}={revision}");
    let found = secrets
        .list(&ListParams::default().labels(&selector))
        .await
        .unwrap();
    found
        .into_iter()
        .flat_map(|secret| secret.data.unwrap())
        .map(|(name, content)| (name, String::from_utf8(content.0).unwrap()))
        .collect()
}

async fn until_files(
    client: &Client,
    as_they_shall_be: impl Fn(&BTreeMap<String, String>) -> bool,
) {
    let asking = async {
        while !as_they_shall_be(&files(client).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(BOUND, asking).await.is_ok();
    assert!(in_time, "{:#?}", files(client).await);
}

fn tcp(host: &str) -> Value {
    json!({"host": host, "transport": "tcp"})
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_become_configuration_and_are_told() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane, &client).await;
    let task = controller(&own, "only");
    let sinks: Api<LogSink> = Api::namespaced(client.clone(), "shop");

    put(&client, "shop", "good", tcp("logs.example.com"))
        .await
        .unwrap();
    put(
        &client,
        "shop",
        "bad",
        json!({"host": "logs.example.com", "tls": {"clientCertificateSecret": "none"}}),
    )
    .await
    .unwrap();
    let accepted = |kind: &'static str, status: &'static str| {
        move |sink: &LogSink| {
            condition(sink.status.as_ref(), kind).filter(|(found, _)| found == status)
        }
    };
    until(&sinks, "good", accepted("Accepted", "True")).await;
    // There are no nodes, so all of them have it.
    until(&sinks, "good", accepted("Configured", "True")).await;
    let (_, why) = until(&sinks, "bad", accepted("Accepted", "False")).await;
    assert!(
        why.starts_with("SecretNotFound: the Secret shop/none does not exist"),
        "{why}"
    );
    let generation = until(&sinks, "good", |sink| {
        sink.status.as_ref()?.observed_generation
    })
    .await;
    assert_eq!(generation, 1);

    let good = |files: &BTreeMap<String, String>| {
        let file = files.get("ns-shop.yaml");
        file.is_some_and(|text| text.contains("logs.example.com:514") && !text.contains("shop/bad"))
    };
    until_files(&client, good).await;

    // A Secret that comes later heals the sink that names it.
    let pki = rig::pki::Pki::new();
    let pair = pki.client();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "none"},
        "stringData": {
            "tls.crt": std::fs::read_to_string(pair.cert).unwrap(),
            "tls.key": std::fs::read_to_string(pair.key).unwrap(),
        },
    });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "shop");
    let secret = serde_json::from_value(secret).unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    until(&sinks, "bad", accepted("Accepted", "True")).await;

    // With the last sink of a namespace its reading ends.
    for name in ["good", "bad"] {
        sinks.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until_files(&client, |files| files.len() == 1).await;
    // Of old revisions nothing is left.
    let own: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let asking = async {
        let labelled = ListParams::default().labels(REVISION);
        while own.list_metadata(&labelled).await.unwrap().items.len() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(BOUND, asking).await.unwrap();
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_written_again() {
    let Some((_plane, client)) = start(&[]).await else {
        return;
    };
    let plan = Plan::new(&Snapshot::default(), &settings());
    apply(&client, &plan, &settings()).await.unwrap();
    let versions = async || {
        let daemon_set: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
        let lanes: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        let generation = daemon_set.get(AGENT).await.unwrap().metadata.generation;
        let lanes = lanes.get("syslog-sink-lanes").await.unwrap();
        (generation, lanes.metadata.resource_version)
    };
    let before = versions().await;
    for _ in 0..3 {
        apply(&client, &plan, &settings()).await.unwrap();
    }
    assert_eq!(versions().await, before);
    // What somebody else changes comes back.
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let broken = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "fluent-bit", "image": "somebody/elses"},
    ]}}}});
    let patch = Patch::Strategic(broken);
    daemon_sets
        .patch(AGENT, &PatchParams::default(), &patch)
        .await
        .unwrap();
    apply(&client, &plan, &settings()).await.unwrap();
    let daemon_set = daemon_sets.get(AGENT).await.unwrap();
    let containers = daemon_set.spec.unwrap().template.spec.unwrap().containers;
    assert_eq!(containers[0].image.as_deref(), Some("syslog-sink-agent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_what_it_can() {
    let Some((_plane, client)) = start(&["shop"]).await else {
        return;
    };
    let cases = [
        (json!({"host": "a", "port": 0}), "spec.port"),
        (json!({"host": "a", "port": 70000}), "spec.port"),
        (json!({"host": "a b"}), "spec.host"),
        (json!({"host": "a\n[OUTPUT]"}), "spec.host"),
        (json!({"transport": "tcp"}), "either host or servers"),
        (
            json!({"host": "a", "servers": [{"host": "b"}]}),
            "either host or servers",
        ),
        (json!({"host": "a", "transport": "sctp"}), "spec.transport"),
        (
            json!({"host": "a", "transport": "tcp", "tls": {}}),
            "tls is for the transports",
        ),
        (
            json!({"host": "a", "tls": {"ca": {}}}),
            "exactly one of pem",
        ),
        (
            json!({"host": "a", "maxMessageSize": 10}),
            "spec.maxMessageSize",
        ),
        (
            json!({"host": "a", "bufferLimit": "much"}),
            "spec.bufferLimit",
        ),
        (
            json!({"host": "a", "format": {"hostname": "x".repeat(2000)}}),
            "spec.format.hostname",
        ),
    ];
    for (spec, words) in cases {
        let error = put(&client, "shop", "sink", spec.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{spec}: {error}");
    }
    // Defaults are the schema's, so that everybody sees them.
    put(&client, "shop", "sink", json!({"host": "a"}))
        .await
        .unwrap();
    let sinks: Api<LogSink> = Api::namespaced(client.clone(), "shop");
    let raw = serde_json::to_value(sinks.get("sink").await.unwrap().spec).unwrap();
    assert_eq!(
        (&raw["transport"], &raw["bufferLimit"]),
        (&json!("tls"), &json!("512M"))
    );
    let cluster: Api<ClusterLogSink> = Api::all(client.clone());
    assert!(
        cluster
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

/// One in each of many namespaces, at once: all are told, and what is written
/// for them is one revision or a few.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_gathered() {
    const SINKS: usize = 60;
    let names: Vec<String> = (0..SINKS).map(|number| format!("ns-{number}")).collect();
    let namespaces: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some((_plane, client)) = start(&namespaces).await else {
        return;
    };
    let task = controller(&client, "only");
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    until(&daemon_sets, AGENT, |found| found.metadata.generation).await;
    let put_all: FuturesUnordered<_> = namespaces
        .iter()
        .map(|namespace| put(&client, namespace, "sink", tcp("logs.example.com")))
        .collect();
    let results: Vec<kube::Result<()>> = put_all.collect().await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for namespace in &namespaces {
        let sinks: Api<LogSink> = Api::namespaced(client.clone(), namespace);
        until(&sinks, "sink", |sink| {
            condition(sink.status.as_ref(), "Accepted").filter(|(status, _)| status == "True")
        })
        .await;
    }
    until_files(&client, |files| {
        files.keys().filter(|name| name.starts_with("ns-")).count() == SINKS
    })
    .await;
    let generation = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    assert!(generation <= Some(6), "{generation:?} rolls");
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_an_older_schema_is_told_and_hurts_nobody() {
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    let crds_api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let [real, _] = crds();
    let mut loose = serde_json::to_value(&real).unwrap();
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let replace = async |crd: Value| {
        let parameters = PatchParams::apply("test").force();
        let name = real.name_any();
        crds_api
            .patch(&name, &parameters, &Patch::Apply(crd))
            .await
            .unwrap();
    };
    let old = json!({"host": "logs.example.com", "transport": "sctp"});
    replace(loose).await;
    // The API server takes a moment to see its own schema.
    let storing = async {
        while put(&client, "shop", "old", old.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(BOUND, storing).await.unwrap();
    replace(serde_json::to_value(&real).unwrap()).await;
    put(&client, "shop", "good", tcp("logs.example.com"))
        .await
        .unwrap();

    let task = controller(&client, "only");
    let sinks: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "shop", &ApiResource::erase::<LogSink>(&()));
    let accepted = |object: &DynamicObject| {
        let condition = &object.data.get("status")?["conditions"][0];
        Some((condition["status"].clone(), condition["reason"].clone()))
    };
    let (good, _) = until(&sinks, "good", accepted).await;
    assert_eq!(good, json!("True"));
    let (old, reason) = until(&sinks, "old", accepted).await;
    assert_eq!((old, reason), (json!("False"), json!("InvalidObject")));

    // An API server that restarts is waited for, and nothing is forgotten.
    plane.restart_apiserver().await;
    put(&client, "shop", "later", tcp("later.example.com"))
        .await
        .unwrap();
    let (later, _) = until(&sinks, "later", accepted).await;
    assert_eq!(later, json!("True"));
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_takes_over_and_rolls_nothing() {
    let Some((_plane, client)) = start(&["shop"]).await else {
        return;
    };
    let sinks: Api<LogSink> = Api::namespaced(client.clone(), "shop");
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let led_by = |identity: &'static str| {
        move |lease: &Lease| {
            let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
            (holder == identity).then_some(())
        }
    };
    let accepted = |sink: &LogSink| {
        condition(sink.status.as_ref(), "Accepted").filter(|(status, _)| status == "True")
    };
    let first = controller(&client, "first");
    until(&leases, LEASE, led_by("first")).await;
    let second = controller(&client, "second");
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until(&sinks, "sink", accepted).await;
    let before = daemon_sets.get(AGENT).await.unwrap().metadata.generation;

    first.abort();
    until(&leases, LEASE, led_by("second")).await;
    put(&client, "shop", "later", tcp("logs.example.com"))
        .await
        .unwrap();
    until(&sinks, "later", accepted).await;
    let after = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    // One for the sink that came, none for the change of leaders.
    assert_eq!(after, before.map(|generation| generation + 1));
    let lease = leases.get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!(lease.lease_transitions, Some(1));
    second.abort();
}

/// `Configured` counts agents that are ready and have the revision; of a
/// revision that all have, old ones are deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_get_what_changed() {
    const NODES: usize = 100;
    let Some((mut plane, client)) = start(&["shop"]).await else {
        return;
    };
    plane.add_nodes(NODES).await;
    let own = controllers(&plane, &client).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SYSTEM);
    let account = json!({"metadata": {"name": AGENT}});
    let account = serde_json::from_value(account).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let task = controller(&own, "only");

    let sinks: Api<LogSink> = Api::namespaced(client.clone(), "shop");
    let everywhere = |sink: &LogSink| {
        let (status, why) = condition(sink.status.as_ref(), "Configured")?;
        (status == "True" && why.contains("100 of 100 nodes")).then_some(())
    };
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until(&sinks, "sink", everywhere).await;
    put(&client, "shop", "sink", tcp("other.example.com"))
        .await
        .unwrap();
    let generation = |sink: &LogSink| {
        let seen = sink.status.as_ref()?.observed_generation?;
        (seen == 2).then(|| everywhere(sink)).flatten()
    };
    until(&sinks, "sink", generation).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let labelled = ListParams::default().labels(REVISION);
    assert_eq!(
        secrets.list_metadata(&labelled).await.unwrap().items.len(),
        1
    );
    task.abort();
}
