//! A cluster with the CRDs and a running controller.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use api::{ClusterLogSink, LogSink, SinkStatus};
use cluster::ControlPlane;
use controller::agent::from_secrets;
use controller::lease::{Candidate, Terms};
use controller::monitor::Monitor;
use controller::names::{AGENT, REVISION};
use controller::run::run;
use controller::settings::{AgentSettings, Paths, Settings, Timing};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, ObjectMeta};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use rig::port::free_port;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const SYSTEM: &str = "syslog-sink";
/// The time limit for everything that a test waits for, on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

pub(crate) fn settings() -> Settings {
    Settings {
        namespace: SYSTEM.to_owned(),
        timing: timing(),
        ..Settings::default()
    }
}

/// Returns the settings of an agent that runs on this machine, in a folder.
pub(crate) fn settings_in(dir: &TempDir) -> Settings {
    let folder = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    Settings {
        paths: Paths {
            links: Vec::new(),
            config: folder("config"),
            state: folder("state"),
            pods: folder("log/pods"),
            labels: folder("labels"),
        },
        agent: AgentSettings {
            metrics_port: free_port(),
            ..AgentSettings::default()
        },
        ..settings()
    }
}

pub(crate) fn timing() -> Timing {
    Timing {
        debounce: Duration::from_millis(200),
        max_debounce: Duration::from_secs(1),
        resync: Duration::from_secs(2),
        retry: Duration::from_millis(200),
        scrape_interval: Duration::from_millis(500),
        canary_ready: Duration::from_secs(1),
        ..Timing::default()
    }
}

/// Starts a control plane with the CRDs and these namespaces. Returns `None` if it is
/// not available.
pub(crate) async fn start(namespaces: &[&str]) -> Option<(ControlPlane, Client)> {
    let plane = ControlPlane::start().await?;
    let client = plane.admin().await;
    plane.install().await;
    for name in namespaces {
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

pub(crate) const TERMS: Terms = Terms {
    valid: Duration::from_secs(3),
    deadline: Duration::from_secs(2),
    renew: Duration::from_millis(300),
};

/// Starts a controller that runs until it is aborted, which is like a crash.
pub(crate) fn controller(client: &Client, identity: &str) -> JoinHandle<()> {
    controller_with(client, identity, settings())
}

pub(crate) fn controller_with(
    client: &Client,
    identity: &str,
    settings: Settings,
) -> JoinHandle<()> {
    let candidate = Candidate::new(client, &settings, identity, TERMS);
    let client = client.clone();
    tokio::spawn(async move {
        let never = std::future::pending();
        let monitor = Monitor::default();
        let ended = run(client, &settings, candidate, &monitor, never).await;
        panic!("the controller ended: {ended:?}");
    })
}

/// Returns a client with the rights of the installed controller.
pub(crate) async fn controllers(plane: &ControlPlane) -> Client {
    plane.client(&plane.controllers_token().await).await
}

pub(crate) async fn put(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: Value,
) -> kube::Result<()> {
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

pub(crate) async fn put_cluster(client: &Client, name: &str, sink: Value) {
    let kind = ApiResource::erase::<ClusterLogSink>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let object = json!({
        "apiVersion": "syslogsink.io/v1alpha1",
        "kind": "ClusterLogSink",
        "metadata": {"name": name},
        "spec": {"sink": sink},
    });
    api.patch(name, &PatchParams::apply("test"), &Patch::Apply(object))
        .await
        .unwrap();
}

/// Waits until a condition is true, and returns whether it became true in time.
pub(crate) async fn in_time(condition: impl AsyncFn() -> bool) -> bool {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(BOUND, polling).await.is_ok()
}

/// Waits until a condition is true.
pub(crate) async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    assert!(in_time(condition).await, "{what}");
}

pub(crate) async fn put_secret(
    client: &Client,
    namespace: &str,
    name: &str,
    kind: &str,
    data: Value,
) {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": kind,
        "stringData": data,
    });
    let parameters = PatchParams::apply("test").force();
    api.patch(name, &parameters, &Patch::Apply(secret))
        .await
        .unwrap();
}

/// Polls an object until `what` returns a value.
pub(crate) async fn until<K, T>(api: &Api<K>, name: &str, what: impl Fn(&K) -> Option<T>) -> T
where
    K: Clone + DeserializeOwned + Debug,
{
    let polling = async {
        loop {
            if let Some(found) = api.get_opt(name).await.unwrap().as_ref().and_then(&what) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(BOUND, polling).await.ok();
    assert!(found.is_some(), "{name}: {:?}", api.get_opt(name).await);
    found.unwrap()
}

pub(crate) fn condition(status: Option<&SinkStatus>, kind: &str) -> Option<(String, String)> {
    let mut conditions = status?.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == kind)?;
    Some((
        found.status.clone(),
        format!("{}: {}", found.reason, found.message),
    ))
}

/// Returns the files of the revision that the agents must have.
pub(crate) async fn files(client: &Client) -> BTreeMap<String, String> {
    match revision(client).await {
        Some(revision) => files_of(client, &revision).await,
        None => BTreeMap::new(),
    }
}

/// Returns the files of a revision.
pub(crate) async fn files_of(client: &Client, revision: &str) -> BTreeMap<String, String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
    let selector = format!("{REVISION}={revision}");
    let found = secrets
        .list(&ListParams::default().labels(&selector))
        .await
        .unwrap();
    let (configuration, _) = from_secrets(found.items);
    let text = |(name, content)| (name, String::from_utf8(content).unwrap());
    configuration.files.into_iter().map(text).collect()
}

pub(crate) async fn until_files(
    client: &Client,
    are_expected: impl Fn(&BTreeMap<String, String>) -> bool,
) {
    let is_met = in_time(async || are_expected(&files(client).await)).await;
    assert!(is_met, "{:#?}", files(client).await);
}

pub(crate) fn tcp(host: &str) -> Value {
    json!({"host": host, "transport": "tcp"})
}

/// Waits until a condition of a sink has this status, and returns its reason and
/// message.
pub(crate) async fn until_condition(
    sinks: &Api<LogSink>,
    name: &str,
    kind: &str,
    status: &str,
) -> String {
    until(sinks, name, |sink| {
        let (found, why) = condition(sink.status.as_ref(), kind)?;
        (found == status).then_some(why)
    })
    .await
}

/// Returns the API for the sinks of a namespace.
pub(crate) fn sinks(client: &Client, namespace: &str) -> Api<LogSink> {
    Api::namespaced(client.clone(), namespace)
}

/// Returns the revision that the agents must have.
pub(crate) async fn revision(client: &Client) -> Option<String> {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), SYSTEM);
    let daemon_set = daemon_sets.get_opt(AGENT).await.unwrap()?;
    let annotations = daemon_set.spec?.template.metadata?.annotations?;
    annotations.get(REVISION).cloned()
}
