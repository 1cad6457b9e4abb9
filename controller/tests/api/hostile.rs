//! Tests of what users should not do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{ClusterLogSink, LogSink};
use controller::names::AGENT;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::world::{
    SYSTEM, controller, controllers, put, put_cluster, put_secret, sinks, start, tcp, timing,
    until, until_condition, until_files,
};

/// Asserts that a sink of another namespace is configured.
async fn assert_others_are_configured(client: &Client) {
    put(client, "team-a", "good", tcp("good.example.com"))
        .await
        .unwrap();
    until_condition(&sinks(client, "team-a"), "good", "Accepted", "True").await;
    until_files(client, |files| {
        let file = files.get("ns-team-a.yaml");
        file.is_some_and(|text| text.contains("good.example.com"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sinks_in_a_namespace_are_limited_to_sixteen() {
    const SINKS: usize = 1000;
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let names: Vec<String> = (0..SINKS).map(|number| format!("sink-{number}")).collect();
    let all = names
        .iter()
        .map(|name| put(&client, "shop", name, tcp("logs.example.com")));
    let all: Vec<_> = all.collect();
    let results: Vec<kube::Result<()>> = futures::stream::iter(all)
        .buffer_unordered(32)
        .collect()
        .await;
    assert!(results.iter().all(Result::is_ok));
    assert_others_are_configured(&client).await;
    let sinks = sinks(&client, "shop");
    let accepted = async || {
        let mut counts = BTreeMap::new();
        for sink in sinks.list(&ListParams::default()).await.unwrap() {
            let conditions = sink.status.unwrap_or_default().conditions;
            let accepted = conditions
                .into_iter()
                .find(|found| found.type_ == "Accepted");
            let reason = accepted.map(|accepted| accepted.reason);
            *counts.entry(reason).or_default() += 1;
        }
        counts
    };
    let expected = BTreeMap::from([
        (Some("Accepted".to_owned()), 16),
        (Some("TooManySinks".to_owned()), SINKS - 16),
    ]);
    let polling = async {
        while accepted().await != expected {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(120), polling)
        .await
        .is_ok();
    assert!(in_time, "{:?}", accepted().await);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_maximum_length_are_accepted() {
    let namespace = "n".repeat(63);
    let Some((plane, client)) = start(&[&namespace, "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let name = format!("{}.{}", "a".repeat(126), "b".repeat(126));
    put(&client, &namespace, &name, tcp("logs.example.com"))
        .await
        .unwrap();
    put_cluster(&client, &name, tcp("logs.example.com")).await;
    let cluster: Api<ClusterLogSink> = Api::all(client.clone());
    until_condition(&sinks(&client, &namespace), &name, "Configured", "True").await;
    until(&cluster, &name, |sink| {
        let mut conditions = sink.status.as_ref()?.conditions.iter();
        conditions.find(|found| found.type_ == "Configured" && found.status == "True")?;
        Some(())
    })
    .await;
    assert_others_are_configured(&client).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_sinks_are_refused() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let mebibyte = "x".repeat(1024 * 1024);
    // The schema rejects values over its limits, and names the field.
    for (spec, field) in [
        (json!({"host": mebibyte}), "spec.host"),
        (
            json!({"host": "a", "tls": {"ca": {"pem": mebibyte}}}),
            "spec.tls.ca.pem",
        ),
        (
            json!({"host": "a", "format": {"message": mebibyte}}),
            "spec.format.message",
        ),
        (
            json!({"host": "a", "tls": {"pins": vec!["x"; 100_000]}}),
            "spec.tls.pins",
        ),
    ] {
        let error = put(&client, "shop", "huge", spec).await.unwrap_err();
        assert!(error.to_string().contains(field), "{error:.300}");
    }
    // The plan checks everything else.
    let labels: BTreeMap<String, String> = (0..20_000)
        .map(|number| (format!("label-{number}"), "x".repeat(30)))
        .collect();
    let spec = json!({"host": "a", "transport": "tcp", "selection": {"podSelector": {"matchLabels": labels}}});
    put(&client, "shop", "huge", spec).await.unwrap();
    let why = until_condition(&sinks(&client, "shop"), "huge", "Accepted", "False").await;
    assert!(why.contains("at most 8192 are allowed"), "{why}");
    assert_others_are_configured(&client).await;
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_secrets_are_refused() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "shop");
    let create = async |secret: Value| {
        let secret = serde_json::from_value(secret).unwrap();
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
    };
    create(json!({
        "metadata": {"name": "docker"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": "{}"},
    }))
    .await;
    create(json!({
        "metadata": {"name": "noise"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "/////w==", "tls.key": "AAAA"},
    }))
    .await;
    create(json!({"metadata": {"name": "empty"}})).await;
    // An existing Secret of another namespace.
    let elsewhere: Api<Secret> = Api::namespaced(client.clone(), "team-a");
    let secret = json!({"metadata": {"name": "theirs"}, "stringData": {"tls.crt": "x"}});
    let secret = serde_json::from_value(secret).unwrap();
    elsewhere
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
    for (name, secret, words) in [
        ("docker", "docker", "KeyNotFound"),
        ("noise", "noise", "BadCertificate"),
        ("empty", "empty", "KeyNotFound"),
        (
            "theirs",
            "theirs",
            "SecretNotFound: tls.clientCertificateSecret: the Secret shop/theirs does not exist",
        ),
    ] {
        let spec = json!({"host": "a", "tls": {"clientCertificateSecret": secret}});
        put(&client, "shop", name, spec).await.unwrap();
        let why = until_condition(&sinks(&client, "shop"), name, "Accepted", "False").await;
        assert!(why.starts_with(words), "{why}");
    }
    // The schema rejects invalid names.
    for name in ["../../team-a/secrets/theirs", "A B", "a\nb", "a%2f..%2fb"] {
        let spec = json!({"host": "a", "tls": {"clientCertificateSecret": name}});
        let error = put(&client, "shop", "no-name", spec).await.unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("spec.tls.clientCertificateSecret"),
            "{error}"
        );
    }
    assert_others_are_configured(&client).await;
    task.abort();
}

/// Timestamps in the managed fields that the API server accepts and few clients can
/// parse. An unreadable object must not make other objects unreadable.
#[tokio::test(flavor = "multi_thread")]
async fn objects_with_extreme_timestamps_do_not_affect_others() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    put_secret(&client, "shop", "far", "Opaque", json!({"ca.crt": "none"})).await;
    let spec = json!({"host": "a", "tls": {"ca": {"secret": {"name": "far"}}}});
    put(&client, "shop", "far", spec).await.unwrap();
    let far = "/apis/syslogsink.io/v1alpha1/namespaces/shop/logsinks/far";
    for (path, version, field) in [
        ("/api/v1/namespaces/shop/secrets/far", "v1", "f:data"),
        (far, "syslogsink.io/v1alpha1", "f:spec"),
    ] {
        let manager = json!({
            "apiVersion": version,
            "fieldsType": "FieldsV1",
            "fieldsV1": {field: {}},
            "manager": "test",
            "operation": "Apply",
            "time": "9999-12-31T23:59:59Z",
        });
        let patch = json!({"metadata": {"managedFields": [manager]}});
        let answer = merge(&client, path, &patch).await;
        assert!(answer.contains("9999-12-31"), "{answer}");
    }
    let task = controller(&own, "only");
    assert_others_are_configured(&client).await;
    let why = until_condition(&sinks(&client, "team-a"), "good", "Accepted", "True").await;
    assert!(why.starts_with("Accepted"), "{why}");
    merge(&client, far, &json!({"spec": {"host": "b"}})).await;
    assert_others_are_configured(&client).await;
    task.abort();
}

/// Patches an object that no typed client can read, and returns the new object.
async fn merge(client: &Client, path: &str, patch: &Value) -> String {
    let request = http::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap()
}

/// Applied and deleted ten times a second: other sinks are served, and the number of
/// writes is limited by the debounce time.
#[tokio::test(flavor = "multi_thread")]
async fn a_flapping_sink_does_not_affect_others() {
    let Some((plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let own = controllers(&plane).await;
    let task = controller(&own, "only");
    let flapping = {
        let client = client.clone();
        tokio::spawn(async move {
            let sinks: Api<LogSink> = sinks(&client, "shop");
            for number in 0.. {
                let spec = tcp(&format!("{number}.example.com"));
                put(&client, "shop", "flapping", spec).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
                let gone = sinks.delete("flapping", &DeleteParams::default()).await;
                assert!(gone.is_ok(), "{gone:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    let begun = Instant::now();
    assert_others_are_configured(&client).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let generation = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    // Without a node a roll never ends, so changes are debounced for this long.
    let rounds = begun.elapsed().as_millis() / timing().debounce.as_millis();
    let most = 3 + rounds as i64;
    assert!(generation <= Some(most), "{generation:?} of {most}");
    flapping.abort();
    let _ = flapping.await;
    let _ = sinks(&client, "shop")
        .delete("flapping", &DeleteParams::default())
        .await;
    until_files(&client, |files| {
        !files.contains_key("ns-shop.yaml") && files.contains_key("ns-team-a.yaml")
    })
    .await;
    task.abort();
}

/// A controller that was disconnected for so long that its resource version has
/// expired.
#[tokio::test(flavor = "multi_thread")]
async fn expired_resource_versions_are_listed_again() {
    let Some((mut plane, client)) = start(&["shop", "team-a"]).await else {
        return;
    };
    let config = plane.config(&plane.controllers_token().await).await;
    let gate = Gate::new(&config).await;
    let task = controller(&gate.client(config), "only");
    put(&client, "shop", "gone", tcp("gone.example.com"))
        .await
        .unwrap();
    until_files(&client, |files| files.contains_key("ns-shop.yaml")).await;
    gate.cut();
    sinks(&client, "shop")
        .delete("gone", &DeleteParams::default())
        .await
        .unwrap();
    for number in 0..20 {
        put(
            &client,
            "shop",
            "other",
            tcp(&format!("{number}.example.com")),
        )
        .await
        .unwrap();
    }
    plane.forget_old_versions();
    plane.restart_apiserver().await;
    gate.open();
    until_files(&client, |files| {
        let file = files.get("ns-shop.yaml");
        file.is_some_and(|text| !text.contains("gone") && text.contains("19.example.com"))
    })
    .await;
    task.abort();
}
