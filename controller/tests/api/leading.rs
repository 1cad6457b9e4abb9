//! Tests of leader election between controllers.

use std::path::Path;
use std::process::Command;

use api::LogSink;
use controller::lease::LEASE;
use controller::names::AGENT;
use controller::settings::{AgentSettings, Settings};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rig::process::run;

use crate::gate::Gate;
use crate::world::{
    SYSTEM, condition, controller, controller_with, put, revision, settings, sinks, start, tcp,
    until, until_condition, until_files,
};

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_takes_over_without_a_roll() {
    let Some((_plane, client)) = start(&["shop"]).await else {
        return;
    };
    let sinks: Api<LogSink> = Api::namespaced(client.clone(), "shop");
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
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
    until_files(&client, |files| files.contains_key("ns-shop.yaml")).await;
    let before = revision(&client).await;
    let written = daemon_sets.get(AGENT).await.unwrap().metadata.generation;

    first.abort();
    until(&leases, LEASE, led_by("second")).await;
    // The controller has seen everything when it reports an error of a new sink.
    let unknown = serde_json::json!({"host": "a", "tls": {"clientCertificateSecret": "none"}});
    put(&client, "shop", "later", unknown).await.unwrap();
    until_condition(&sinks, "later", "Accepted", "False").await;
    assert_eq!(revision(&client).await, before);
    let now = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    assert_eq!(now, written);
    let lease = leases.get(LEASE).await.unwrap().spec.unwrap();
    assert_eq!(lease.lease_transitions, Some(1));
    second.abort();
}

/// A leader whose API server no longer responds stops before another one starts, and
/// does not interfere when it is reconnected.
#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_leader_stops() {
    let Some((plane, client)) = start(&["shop"]).await else {
        return;
    };
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let config = plane.config(&plane.controllers_token().await).await;
    let gate = Gate::new(&config).await;
    let first = controller(&gate.client(config), "first");
    until(&leases, LEASE, led_by("first")).await;
    until_files(&client, |files| !files.is_empty()).await;

    gate.shut();
    let second = controller(&client, "second");
    until(&leases, LEASE, led_by("second")).await;
    put(&client, "shop", "sink", tcp("logs.example.com"))
        .await
        .unwrap();
    until_condition(&sinks(&client, "shop"), "sink", "Accepted", "True").await;
    until_files(&client, |files| files.contains_key("ns-shop.yaml")).await;
    let written = revision(&client).await;

    gate.open();
    // The disconnected controller takes over when it is alone, with the same result.
    second.abort();
    until(&leases, LEASE, led_by("first")).await;
    put(&client, "shop", "other", tcp("other.example.com"))
        .await
        .unwrap();
    until_condition(&sinks(&client, "shop"), "other", "Accepted", "True").await;
    assert_ne!(revision(&client).await, written);
    first.abort();
}

/// Two versions of the controller with different agents: only the leader decides, and
/// each change of leader causes one roll.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_of_two_versions_changes_the_agents() {
    let Some((_plane, client)) = start(&[]).await else {
        return;
    };
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let with_image = |image: &str| Settings {
        agent: AgentSettings {
            image: image.to_owned(),
            ..AgentSettings::default()
        },
        ..settings()
    };
    let has_image = |image: &'static str| {
        move |daemon_set: &DaemonSet| {
            let pod = daemon_set.spec.as_ref()?.template.spec.as_ref()?;
            (pod.containers[0].image.as_deref() == Some(image)).then_some(())
        }
    };
    let old = controller_with(&client, "old", with_image("agent:1"));
    until(&leases, LEASE, led_by("old")).await;
    until(&daemon_sets, AGENT, has_image("agent:1")).await;
    let new = controller_with(&client, "new", with_image("agent:2"));
    // The leader repairs drift, so this image is its own.
    until(&daemon_sets, AGENT, has_image("agent:1")).await;
    let before = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    old.abort();
    until(&daemon_sets, AGENT, has_image("agent:2")).await;
    let after = daemon_sets.get(AGENT).await.unwrap().metadata.generation;
    assert_eq!(after, before.map(|generation| generation + 1));
    new.abort();
}

fn led_by(identity: &'static str) -> impl Fn(&Lease) -> Option<()> {
    move |lease| {
        let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
        (holder == identity).then_some(())
    }
}

/// The program gets SIGTERM, as from a kubelet.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_controller_releases_its_lease() {
    let Some((mut plane, client)) = start(&[]).await else {
        return;
    };
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    let settings = serde_json::json!({"listen": "127.0.0.1:0"});
    let program = Path::new(env!("CARGO_BIN_EXE_sink-controller"));
    let process = plane.start_controller(program, &settings).await;
    let holder = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
    until(&leases, LEASE, holder).await;
    until_files(&client, |files| !files.is_empty()).await;
    run(Command::new("kill").arg(process.to_string()));
    until(&leases, LEASE, |lease| {
        holder(lease).is_none().then_some(())
    })
    .await;
}

#[test]
fn invalid_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.yaml");
    std::fs::write(&file, "paths:\n  state: here\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sink-controller"));
        let output = command.args(arguments).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, error) = run(&["run", "--settings", file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("paths.state is here, allowed is an absolute path"),
        "{error}"
    );
    let (code, error) = run(&["run", "--settings", "/nowhere"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("cannot read /nowhere"), "{error}");
    let (code, error) = run(&["walk"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("walk") && error.contains("usage"), "{error}");
}
