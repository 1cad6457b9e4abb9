//! Tests of the labels of pods with a real API server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::ControlPlane;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use reader::labels::Labels;
use reader::pod_folder::PodFolder;
use rig::process::Process;
use serde_json::{Value, json};
use tempfile::TempDir;

const NODE: &str = "node-1";
/// The time limit for everything that the test waits for.
const BOUND: Duration = Duration::from_secs(180);
/// The agents' `ServiceAccount`, whose role the manifests contain.
const ACCOUNT: (&str, &str) = ("syslog-sink", "syslog-sink-agent");

struct World {
    plane: ControlPlane,
    client: Client,
    dir: TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let plane = ControlPlane::start().await?;
        plane.install().await;
        for name in [NODE, "node-2"] {
            plane.add_node(name, false).await;
        }
        let client = plane.admin().await;
        let world = Self {
            plane,
            client,
            dir: TempDir::new().unwrap(),
        };
        let shop = json!({"metadata": {"name": "shop"}});
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        create(&namespaces, shop).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "shop");
        let has_account = async || accounts.get_opt("default").await.unwrap().is_some();
        wait_until("pods can be created", has_account).await;
        fs::create_dir(world.folder()).unwrap();
        Some(world)
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("pods")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "shop")
    }

    /// Creates a pod, and returns its UID.
    async fn pod(&self, name: &str, node: &str, annotations: Value) -> String {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations},
            "spec": {
                "nodeName": node,
                "automountServiceAccountToken": false,
                "containers": [{"name": "app", "image": "app"}],
            },
        });
        create(&self.pods(), pod).await.uid().unwrap()
    }

    /// Starts the agent with the rights of the agents.
    async fn start_agent(&self) -> Process {
        let (namespace, name) = ACCOUNT;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        create(&accounts, json!({"metadata": {"name": name}})).await;
        let (parameters, request) = (PostParams::default(), TokenRequest::default());
        let token = accounts.create_token_request(name, &parameters, &request);
        let token = token.await.unwrap().status.unwrap().token.unwrap();
        let server = self.plane.config(&token).await.cluster_url.to_string();
        let kubeconfig = json!({
            "current-context": "test",
            "clusters": [{
                "name": "test",
                "cluster": {"server": server, "insecure-skip-tls-verify": true},
            }],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let path = self.dir.path().join("kubeconfig");
        fs::write(&path, kubeconfig.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sink-agent"));
        command
            .args(["--pods-retention", "1", "--", "sh", "-c", "read line"])
            .env("POD_META_DIR", self.folder())
            .env("NODE_NAME", NODE)
            .env("KUBECONFIG", path)
            .stdin(Stdio::piped())
            .stderr(File::create(self.dir.path().join("log")).unwrap());
        Process(command.spawn().unwrap())
    }

    /// Waits until a pod has these labels, which is looked up as by a reader of its log.
    async fn wait_for_app(&self, name: &str, uid: &str, app: &str) {
        let folder = self.folder();
        let pod = PodFolder::parse(&format!("shop_{name}_{uid}")).unwrap();
        let has_label = async || {
            let mut labels = Labels::new(folder.clone());
            let labels = labels.of(&pod, Instant::now());
            labels.is_some_and(|labels| labels["app"] == app)
        };
        wait_until(&format!("{name} has the label {app}"), has_label).await;
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

/// Waits until a condition is true.
async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let result = tokio::time::timeout(BOUND, polling).await;
    assert!(result.is_ok(), "not in time: {what}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_follow_the_pods_of_the_node() {
    const HASH: &str = "0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b5a";
    let Some(mut world) = World::new().await else {
        return;
    };
    let folder = world.folder();
    fs::write(folder.join("shop_earlier.meta"), "{}").unwrap();
    let web = world.pod("web", NODE, json!({})).await;
    world.pod("elsewhere", "node-2", json!({})).await;
    let mut agent = world.start_agent().await;

    world.wait_for_app("web", &web, "web").await;
    let annotations = json!({"kubernetes.io/config.mirror": HASH});
    world.pod("static", NODE, annotations).await;
    world.wait_for_app("static", HASH, "static").await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "bank"}}}));
    let (pods, parameters) = (world.pods(), PatchParams::default());
    pods.patch("web", &parameters, &patch).await.unwrap();
    world.wait_for_app("web", &web, "bank").await;

    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("static", &at_once).await.unwrap();
    let is_removed = async || names(&folder) == ["shop_web.meta"];
    wait_until("files of deleted pods are removed", is_removed).await;

    // Pods that changed while the API server was not available are noticed.
    world.plane.restart_apiserver().await;
    pods.delete("web", &at_once).await.unwrap();
    let web = world.pod("web", NODE, json!({})).await;
    world.wait_for_app("web", &web, "web").await;
    assert_eq!(agent.0.try_wait().unwrap(), None);
    let log = world.log();
    assert!(
        !log.contains("cannot") || log.contains("works again"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_rights_keeps_the_files_until_it_has_them() {
    let Some(world) = World::new().await else {
        return;
    };
    let folder = world.folder();
    fs::write(folder.join("shop_web.meta"), "{}").unwrap();
    let kubectl = |arguments: &[&str]| {
        rig::process::run(world.plane.kubectl().args(arguments));
    };
    let (namespace, name) = ACCOUNT;
    kubectl(&["delete", "clusterrolebinding", name]);
    let web = world.pod("web", NODE, json!({})).await;
    let mut agent = world.start_agent().await;
    let is_logged = async || {
        world
            .log()
            .contains("returned the status 403: pods is forbidden")
    };
    wait_until("the reason is logged", is_logged).await;
    assert_eq!(names(&folder), ["shop_web.meta"]);
    assert_eq!(agent.0.try_wait().unwrap(), None);

    let account = format!("--serviceaccount={namespace}:{name}");
    let role = format!("--clusterrole={name}");
    kubectl(&["create", "clusterrolebinding", name, &role, &account]);
    world.wait_for_app("web", &web, "web").await;
    let log = world.log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[1].ends_with("the watch of this node's pods works again"),
        "{log}"
    );
}
