//! Tests of how sinks become configuration, and of their conditions.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{ClusterLogSink, LogSink, crds};
use controller::names::{AGENT, REVISION};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, ResourceExt};
use rig::process::run;
use serde_json::{Value, json};

use crate::world::{
    BOUND, SYSTEM, condition, controller, controllers, put, put_cluster, sinks, start, tcp, until,
    until_files, wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn sinks_become_configuration_and_get_conditions() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
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
    // There are no nodes, so `Configured` is true.
    until(&sinks, "good", accepted("Configured", "True")).await;
    let (_, why) = until(&sinks, "bad", accepted("Accepted", "False")).await;
    assert!(
        why.starts_with(
            "SecretNotFound: tls.clientCertificateSecret: the Secret shop/none does not exist"
        ),
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

    // A Secret that is created later fixes the sink that references it.
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

    // The input of a namespace is removed with its last sink.
    for name in ["good", "bad"] {
        sinks.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until_files(&client, |files| files.len() == 1).await;
    // Old revisions are deleted.
    let own: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let labelled = ListParams::default().labels(REVISION);
    wait_until("one revision is left", async || {
        own.list_metadata(&labelled).await.unwrap().items.len() <= 1
    })
    .await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_rejects_invalid_sinks() {
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
            json!({"host": "a", "bufferLimit": "49M"}),
            "allowed is 50M to 1000G",
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
    // The defaults are in the schema, so that they are visible to everyone.
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

/// One sink in each of many namespaces, all at once: all get conditions, and they
/// become one revision or a few.
#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_changes_are_debounced() {
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
async fn an_object_of_an_older_schema_is_refused_and_does_not_affect_others() {
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
    // The API server applies a changed schema after a moment.
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
        let condition = object.data.get("status")?.get("conditions")?.get(0)?;
        Some((condition["status"].clone(), condition["reason"].clone()))
    };
    let (good, _) = until(&sinks, "good", accepted).await;
    assert_eq!(good, json!("True"));
    let (old, reason) = until(&sinks, "old", accepted).await;
    assert_eq!((old, reason), (json!("False"), json!("InvalidObject")));

    // The controller waits for a restarting API server, and keeps its state.
    plane.restart_apiserver().await;
    put(&client, "shop", "later", tcp("later.example.com"))
        .await
        .unwrap();
    let (later, _) = until(&sinks, "later", accepted).await;
    assert_eq!(later, json!("True"));
    task.abort();
}

/// Common uses of resources by people and tools.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_waits_for_conditions_and_shows_servers() {
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let task = controller(&client, "only");
    let servers = json!({
        "servers": [{"host": "first.example.com", "port": 1514}, {"host": "second.example.com"}],
        "transport": "tcp",
        "events": false,
    });
    put(&client, "shop", "several", servers).await.unwrap();
    put(
        &client,
        "shop",
        "bad",
        json!({"host": "a", "format": {"hostname": "$("}}),
    )
    .await
    .unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = plane.kubectl();
        run(command.args(["--namespace", "shop"]).args(arguments))
    };
    // There are no nodes, so there are no agents.
    for condition in ["Accepted", "Configured", "Ready", "Delivering=Unknown"] {
        let condition = format!("--for=condition={condition}");
        kubectl(&["wait", "logsink/several", &condition, "--timeout=3m"]);
    }
    for condition in ["Ready=False", "Stalled"] {
        let condition = format!("--for=condition={condition}");
        kubectl(&["wait", "logsink/bad", &condition, "--timeout=3m"]);
    }
    let table = kubectl(&["get", "sinks", "--no-headers"]);
    let row = table.lines().find(|line| line.contains("several")).unwrap();
    assert!(
        row.contains("first.example.com") && row.contains("1514"),
        "{row}"
    );
    task.abort();
}

/// kstatus considers an object without any status to be ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_not_ready_before_a_controller_has_seen_it() {
    let Some((_plane, client)) = start(&["shop"]).await else {
        return;
    };
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    put_cluster(&client, "all", tcp("logs.example.com")).await;
    let sink = sinks(&client, "shop").get("sink").await.unwrap();
    let cluster: Api<ClusterLogSink> = Api::all(client.clone());
    let all = cluster.get("all").await.unwrap();
    for (status, generation) in [
        (sink.status, sink.metadata.generation),
        (all.status, all.metadata.generation),
    ] {
        let status = status.unwrap_or_default();
        assert_eq!(status.observed_generation, Some(-1));
        assert_eq!((generation, status.conditions.len()), (Some(1), 0));
    }
}
