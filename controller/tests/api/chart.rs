//! Tests of the Helm chart on a real control plane, and of the plain manifests that are
//! generated from it.

use std::fs;
use std::path::{Path, PathBuf};

use api::{LogSink, crds};
use cluster::ControlPlane;
use controller::names::AGENT;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rig::fluent_bit;
use rig::port::free_port;
use rig::process::run;
use serde_json::{Value, json};

use crate::world::{SYSTEM, put, revision, sinks, tcp, until_condition, wait_until};

/// The namespace in front of the chart's manifests, for users without Helm. Agents
/// mount folders of the node, which only this level of Pod Security allows.
const NAMESPACE: &str = "\
# Made from the chart by `make golden`: for `kubectl apply --server-side -f`.
apiVersion: v1
kind: Namespace
metadata:
  name: syslog-sink
  labels:
    pod-security.kubernetes.io/enforce: privileged
";

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// Returns the output of Helm, or its error output if it fails.
fn helm(plane: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
    let chart = folder("chart").display().to_string();
    let arguments = arguments.iter().map(|argument| match *argument {
        "CHART" => chart.as_str(),
        other => other,
    });
    let output = plane.helm().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> String {
    run(plane.kubectl().args(arguments))
}

/// Removes the lines that only concern Helm.
fn plain(rendered: &str) -> String {
    let of_helm = ["# Source: ", "    helm.sh/", "        helm.sh/"];
    let lines = rendered.lines().filter(|line| {
        let is_of_helm = of_helm.iter().any(|start| line.starts_with(start));
        !is_of_helm && !line.ends_with("app.kubernetes.io/managed-by: Helm")
    });
    let lines: Vec<&str> = lines.map(str::trim_end).collect();
    format!("{NAMESPACE}{}\n", lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_manifests_match_the_chart() {
    let Some(plane) = ControlPlane::start().await else {
        return;
    };
    let name = ["template", "syslog-sink", "CHART", "--namespace", SYSTEM];
    let keep = ["--set", "crds.keep=false"];
    let rendered = helm(&plane, &[&name[..], &keep[..]].concat()).unwrap();
    let manifests = plain(&rendered);
    let path = folder("install.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &manifests).unwrap();
    }
    let file = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == manifests,
        "install.yaml is outdated: run `make golden`"
    );
    // The API server accepts each of them, both as a new and as an existing object.
    let path = path.display().to_string();
    for _ in 0..2 {
        kubectl(&plane, &["apply", "--server-side", "-f", &path]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_values_are_rejected() {
    let Some(plane) = ControlPlane::start().await else {
        return;
    };
    helm(&plane, &["lint", "--strict", "CHART"]).unwrap();
    for (value, words) in [
        ("controller.replicas=0", "/controller/replicas"),
        ("agent.metricsPort=none", "/agent/metricsPort"),
        ("agent.imagee=x", "imagee"),
        ("agent.stateFolder=relative", "/agent/stateFolder"),
        ("settings.maxLanez=3", "maxLanez"),
    ] {
        let error = helm(&plane, &["template", "x", "CHART", "--set", value]).unwrap_err();
        assert!(error.contains(words), "{value}: {error}");
    }
}

/// The API server, and the CRDs of the Prometheus operator, accept every manifest of
/// the chart without unknown fields.
#[tokio::test(flavor = "multi_thread")]
async fn the_prometheus_operators_crds_accept_the_monitoring_manifests() {
    let (Some(plane), Some(crds)) = (ControlPlane::start().await, cluster::prometheus_crds())
    else {
        return;
    };
    let apply = ["apply", "--server-side", "--validate=strict", "-f"];
    let kinds = ["servicemonitors", "podmonitors", "prometheusrules"];
    for kind in kinds {
        let file = crds.join(format!("monitoring.coreos.com_{kind}.yaml"));
        kubectl(
            &plane,
            &[&apply[..], &[&file.display().to_string()]].concat(),
        );
        let name = format!("crd/{kind}.monitoring.coreos.com");
        kubectl(&plane, &["wait", "--for=condition=Established", &name]);
    }
    let all = "monitoring.enabled=true,monitoring.rules=true,monitoring.dashboard=true";
    let name = ["template", "syslog-sink", "CHART", "--namespace", SYSTEM];
    let rendered = helm(&plane, &[&name[..], &["--set", all]].concat()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rendered).unwrap();
    kubectl(&plane, &["create", "namespace", SYSTEM]);
    let path = file.path().display().to_string();
    kubectl(&plane, &[&apply[..], &[&path]].concat());
    for kind in kinds {
        let found = kubectl(&plane, &["get", kind, "-n", SYSTEM, "-o", "name"]);
        assert!(!found.is_empty(), "{kind}");
    }
}

/// Starts the controller's program with the settings of the chart.
async fn start_controller(plane: &mut ControlPlane, client: &Client) -> u16 {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let map = maps.get("sink-controller").await.unwrap();
    let text = map.data.unwrap()["settings.yaml"].clone();
    let mut settings: Value = serde_saphyr::from_str(&text).unwrap();
    let port = free_port();
    settings["namespace"] = json!(SYSTEM);
    settings["listen"] = json!(format!("127.0.0.1:{port}"));
    settings["timing"] = json!({
        "debounceSeconds": 0.2, "resyncSeconds": 1,
        "scrapeIntervalSeconds": 0.5, "canaryReadySeconds": 1,
    });
    let program = Path::new(env!("CARGO_BIN_EXE_sink-controller"));
    plane.start_controller(program, &settings).await;
    port
}

/// Returns all objects in the controller's namespace, except those that Kubernetes
/// creates in every namespace.
async fn remaining_objects(client: &Client) -> Vec<String> {
    async fn names<K>(client: &Client) -> Vec<String>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(client.clone(), SYSTEM);
        let found = api.list(&ListParams::default()).await.unwrap();
        let names = found.iter().map(ResourceExt::name_any);
        let kind = K::kind(&());
        names.map(|name| format!("{kind} {name}")).collect()
    }
    let mut all = names::<DaemonSet>(client).await;
    all.extend(names::<Secret>(client).await);
    all.extend(names::<ConfigMap>(client).await);
    all.extend(names::<ServiceAccount>(client).await);
    all.extend(names::<Lease>(client).await);
    let usual = ["ConfigMap kube-root-ca.crt", "ServiceAccount default"];
    all.retain(|name| !usual.contains(&name.as_str()));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_installs_upgrades_and_uninstalls_completely() {
    let Some(mut plane) = ControlPlane::start().await else {
        return;
    };
    let client = plane.admin().await;
    plane.add_nodes(3).await;
    kubectl(&plane, &["create", "namespace", SYSTEM]);
    let privileged = "pod-security.kubernetes.io/enforce=privileged";
    kubectl(&plane, &["label", "namespace", SYSTEM, privileged]);
    let install = ["install", "syslog-sink", "CHART", "--namespace", SYSTEM];
    let wait = ["--wait", "--timeout", "3m"];
    helm(&plane, &[&install[..], &wait[..]].concat()).unwrap();
    let port = start_controller(&mut plane, &client).await;

    // The owner of a namespace allows its sinks to use Secrets.
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let shop = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &shop)
        .await
        .unwrap();
    let with_secret = json!({"host": "a", "tls": {"clientCertificateSecret": "identity"}});
    put(&client, "shop", "tls", with_secret).await.unwrap();
    let shops = sinks(&client, "shop");
    let why = until_condition(&shops, "tls", "Accepted", "False").await;
    assert!(why.starts_with("SecretNotReadable"), "{why}");
    let account = format!("{SYSTEM}:sink-controller");
    let binding = [
        "create",
        "rolebinding",
        "sinks-secrets",
        "--namespace",
        "shop",
    ];
    let of = [
        "--clusterrole",
        "syslog-sink-secrets",
        "--serviceaccount",
        &account,
    ];
    kubectl(&plane, &[&binding[..], &of[..]].concat());
    wait_until("the Secret may be read", async || {
        let sink: LogSink = shops.get("tls").await.unwrap();
        let conditions = sink.status.unwrap_or_default().conditions;
        conditions
            .iter()
            .any(|condition| condition.reason == "SecretNotFound")
    })
    .await;
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until_condition(&shops, "sink", "Configured", "True").await;
    drop_in_upgrade(&mut plane, &client, port).await;

    helm(&plane, &["uninstall", "syslog-sink", "--namespace", SYSTEM]).unwrap();
    wait_until("nothing is left", async || {
        remaining_objects(&client).await.is_empty()
    })
    .await;
    // Sinks belong to users and stay until they are deleted explicitly.
    assert!(shops.get("sink").await.is_ok());
    let not_keeping_crds = ["--set", "crds.keep=false"];
    helm(
        &plane,
        &[&install[..], &wait[..], &not_keeping_crds[..]].concat(),
    )
    .unwrap();
    assert!(shops.get("sink").await.is_ok());
    helm(&plane, &["uninstall", "syslog-sink", "--namespace", SYSTEM]).unwrap();
    let known: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds() {
        let name = crd.metadata.name.unwrap();
        wait_until(&name, async || {
            known.get_opt(&name).await.unwrap().is_none()
        })
        .await;
    }
}

/// An upgrade that changes only the controller must not restart any agent.
async fn drop_in_upgrade(plane: &mut ControlPlane, client: &Client, port: u16) {
    let rounds = |port: u16| {
        let metrics = fluent_bit::get(port, "/metrics").unwrap_or_default();
        let counted = "sink_controller_rounds_total{outcome=\"success\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(counted));
        count.and_then(|count| count.parse().ok()).unwrap_or(0_u32)
    };
    let before = revision(client).await;
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let generation = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    let done = rounds(port);
    let upgrade = ["upgrade", "syslog-sink", "CHART", "--namespace", SYSTEM];
    let other = ["--set", "controller.logLevel=debug,controller.replicas=3"];
    helm(plane, &[&upgrade[..], &other[..], &["--wait"]].concat()).unwrap();
    wait_until("two more rounds", async || rounds(port) > done + 1).await;
    assert_eq!(revision(client).await, before);
    let now = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    assert_eq!(now, generation);
}
