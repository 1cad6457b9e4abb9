//! A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, and
//! with nodes also kube-scheduler, on free ports of 127.0.0.1. It is stopped when it is
//! dropped. The nodes are simulated by KWOK and only pretend to run pods.
//! `tests/cluster/build` builds the programs once. A real node (`node`) needs a
//! `sandbox` around the test.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic fails the test"
)]

pub mod image;
pub mod node;
pub mod sandbox;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, ResourceExt};
use rig::port::free_port;
use rig::process::Process;
use tempfile::TempDir;

const STAGES: &str = include_str!("stages.yaml");
/// The manifests for users without Helm.
const INSTALL: &str = include_str!("../../../deploy/install.yaml");
const CRDS: [&str; 2] = ["logsinks.syslogsink.io", "clusterlogsinks.syslogsink.io"];
/// The rights of a controller that may read the Secrets of all namespaces.
const ALL_SECRETS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: all-secrets
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: syslog-sink-secrets
subjects:
  - kind: ServiceAccount
    name: sink-controller
    namespace: syslog-sink
";
const ADMIN: &str = "admin-token";
/// The label of simulated nodes.
const KWOK: &str = "kwok.x-k8s.io/node";
/// The time limit from start to ready, on a slow machine.
const START: Duration = Duration::from_secs(90);

/// A control plane that runs until it is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    programs: PathBuf,
    dir: TempDir,
    port: u16,
    etcd_port: u16,
    /// The processes, in the order in which they were started.
    processes: Vec<Process>,
}

/// Returns the folder with the programs, and builds them first if they are missing.
/// Prints a reason and returns `None` if they cannot be built.
fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAMS
        .get_or_init(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build");
            let output = Command::new(script)
                .stderr(Stdio::inherit())
                .output()
                .expect("the script exists");
            if !output.status.success() {
                rig::skip("the Kubernetes control plane is not installed and cannot be built");
                return None;
            }
            let text = String::from_utf8(output.stdout).expect("a path");
            Some(PathBuf::from(text.trim()))
        })
        .as_deref()
}

/// Returns the folder with the CRDs of the Prometheus operator. Prints a reason and
/// returns `None` if they cannot be downloaded.
#[must_use]
pub fn prometheus_crds() -> Option<PathBuf> {
    const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go/monitoring"))
        .output();
    let output = output.ok().filter(|output| output.status.success());
    let Some(output) = output else {
        rig::skip(
            "Go is not installed, which downloads the Prometheus operator's CRDs (Debian: golang)",
        );
        return None;
    };
    let module: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let folder = module["Dir"].as_str().expect("the module was downloaded");
    Some(Path::new(folder).join("example/prometheus-operator-crd"))
}

/// Returns a program that is built with the control plane.
fn program(name: &str) -> Option<Command> {
    let program = programs()?.join(name);
    if !program.exists() {
        rig::skip(&format!("{name} is not available"));
        return None;
    }
    Some(Command::new(program))
}

/// Returns `promtool`, which tests rules of Prometheus. Prints a reason and returns
/// `None` if it is not available.
#[must_use]
pub fn promtool() -> Option<Command> {
    program("promtool")
}

/// Returns `helm`, which renders charts without a cluster. Prints a reason and returns
/// `None` if it is not available.
#[must_use]
pub fn helm() -> Option<Command> {
    let mut command = program("helm")?;
    // The repositories and plugins of this machine are ignored.
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, std::env::temp_dir().join("no-helm"));
    }
    command.stdin(Stdio::null());
    Some(command)
}

impl ControlPlane {
    /// Starts a control plane, and waits until it is ready. Prints a reason and returns
    /// `None` if that is not possible here.
    pub async fn start() -> Option<Self> {
        let programs = programs()?.to_owned();
        let dir = tempfile::tempdir().expect("a temporary folder");
        write_keys(dir.path());
        let mut plane = Self {
            programs,
            dir,
            port: free_port(),
            etcd_port: free_port(),
            processes: Vec::new(),
        };
        plane.start_etcd();
        plane.start_apiserver();
        plane.wait_until_ready().await;
        plane.start_controller_manager();
        Some(plane)
    }

    /// Returns a client with all rights.
    pub async fn admin(&self) -> Client {
        self.client(ADMIN).await
    }

    /// Returns a client with a token, for example of a `ServiceAccount`.
    pub async fn client(&self, token: &str) -> Client {
        Client::try_from(self.config(token).await).expect("ours")
    }

    /// Returns the client configuration for a token.
    pub async fn config(&self, token: &str) -> Config {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig(token)).expect("ours");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.expect("ours")
    }

    /// Applies manifests in their order.
    pub async fn apply(&self, manifests: &str) {
        let client = self.admin().await;
        for document in manifests
            .split("---\n")
            .filter(|text| !text.trim().is_empty())
        {
            let object: DynamicObject = serde_saphyr::from_str(document).expect("a manifest");
            let types = object.types.clone().expect("the object has a kind");
            let kind = GroupVersionKind::try_from(&types).expect("the object has an API version");
            let kind = ApiResource::from_gvk(&kind);
            let api: Api<DynamicObject> = match object.namespace() {
                Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
                None => Api::all_with(client.clone(), &kind),
            };
            let parameters = PatchParams::apply("test").force();
            let name = object.name_any();
            let applied = api.patch(&name, &parameters, &Patch::Apply(&object)).await;
            applied.expect("the API server accepts the object");
        }
    }

    /// Installs the CRDs and the controller's RBAC. The tests start the controller
    /// itself.
    pub async fn install(&self) {
        let is_pod = |document: &&str| document.contains("\nkind: Deployment\n");
        let others: Vec<&str> = INSTALL.split("---\n").filter(|d| !is_pod(d)).collect();
        self.apply(&others.join("---\n")).await;
        self.apply(ALL_SECRETS).await;
        let crds: Api<CustomResourceDefinition> = Api::all(self.admin().await);
        for name in CRDS {
            let established = conditions::is_crd_established();
            let established = await_condition(crds.clone(), name, established);
            established
                .await
                .expect("the API server establishes the CRD");
        }
    }

    /// Returns a token of the controller's `ServiceAccount`.
    pub async fn controllers_token(&self) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await, "syslog-sink");
        let request = TokenRequest::default();
        let token = accounts
            .create_token_request("sink-controller", &PostParams::default(), &request)
            .await
            .expect("the ServiceAccount exists");
        token
            .status
            .and_then(|status| status.token)
            .expect("the response has a token")
    }

    /// Compacts etcd, so that only the current versions of objects are left.
    pub fn forget_old_versions(&self) {
        let ask = |path: &str, body: &serde_json::Value| {
            let url = format!("http://127.0.0.1:{}{path}", self.etcd_port);
            let answer = ureq::post(&url).send(body.to_string());
            let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
            serde_json::from_str::<serde_json::Value>(&text.expect("etcd answers")).expect("JSON")
        };
        // The range of the key with one zero byte is empty, but the response has the
        // current revision.
        let found = ask("/v3/kv/range", &serde_json::json!({"key": "AA=="}));
        let revision = &found["header"]["revision"];
        let compaction = serde_json::json!({"revision": revision, "physical": true});
        let compacted = ask("/v3/kv/compaction", &compaction);
        assert!(compacted["header"].is_object(), "{compacted}");
    }

    /// Restarts the API server: watches end, and requests fail for some time.
    pub async fn restart_apiserver(&mut self) {
        // All processes except etcd; the controller manager depends on the API server.
        self.processes.truncate(1);
        self.start_apiserver();
        self.wait_until_ready().await;
        self.start_controller_manager();
    }

    /// Adds nodes that pretend to run the pods scheduled to them.
    pub async fn add_nodes(&mut self, count: usize) {
        let kubeconfig = self.path("kubeconfig");
        fs::write(self.path("stages.yaml"), STAGES).expect("a file");
        self.start_scheduler();
        let kwok = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--config={}", self.path("stages.yaml")),
            "--manage-all-nodes=false".to_owned(),
            format!("--manage-nodes-with-label-selector={KWOK}=fake"),
            "--node-lease-duration-seconds=40".to_owned(),
            format!("--server-address=127.0.0.1:{}", free_port()),
        ];
        self.spawn("kwok", &kwok);
        for number in 0..count {
            self.add_node(&format!("node-{number}"), true).await;
        }
    }

    /// Adds a node. If `is_alive` is false, its kubelet has never reported.
    pub async fn add_node(&self, name: &str, is_alive: bool) {
        let room = serde_json::json!({"cpu": "32", "memory": "256Gi", "pods": "110"});
        let node = serde_json::json!({
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    KWOK: if is_alive { "fake" } else { "dead" },
                },
            },
            "status": {"capacity": room, "allocatable": room},
        });
        let node = serde_json::from_value(node).expect("ours");
        let nodes: Api<Node> = Api::all(self.admin().await);
        let created = nodes.create(&PostParams::default(), &node).await;
        created.expect("the API server accepts the object");
    }

    /// Stops a node's kubelet: the pods stay as they are, and the node becomes not
    /// ready, which takes Kubernetes most of a minute.
    pub async fn kill_node(&self, name: &str) {
        self.label_node(name, "dead").await;
        let status = serde_json::json!({"status": {"conditions": [{
            "type": "Ready",
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
        }]}});
        let nodes: Api<Node> = Api::all(self.admin().await);
        let (parameters, patch) = (PatchParams::default(), Patch::Strategic(status));
        let patched = nodes.patch_status(name, &parameters, &patch).await;
        patched.expect("the API server accepts the object");
    }

    /// Starts a node's kubelet again.
    pub async fn revive_node(&self, name: &str) {
        self.label_node(name, "fake").await;
    }

    async fn label_node(&self, name: &str, kind: &str) {
        let nodes: Api<Node> = Api::all(self.admin().await);
        let patch = Patch::Merge(serde_json::json!({"metadata": {"labels": {KWOK: kind}}}));
        let patched = nodes.patch(name, &PatchParams::default(), &patch).await;
        patched.expect("the API server accepts the object");
    }

    /// Returns the log of a program.
    #[must_use]
    pub fn log(&self, program: &str) -> String {
        fs::read_to_string(self.path(&format!("{program}.log"))).unwrap_or_default()
    }

    /// Starts the controller's program with the controller's rights, and returns its
    /// process ID.
    pub async fn start_controller(&mut self, program: &Path, settings: &serde_json::Value) -> u32 {
        let (file, kubeconfig) = (self.path("settings.yaml"), self.path("controller"));
        // JSON is a subset of YAML.
        fs::write(&file, settings.to_string()).expect("a file");
        let token = self.controllers_token().await;
        fs::write(&kubeconfig, self.kubeconfig(&token)).expect("a file");
        let arguments = ["run".to_owned(), "--settings".to_owned(), file];
        let environment = [("KUBECONFIG", kubeconfig.as_str())];
        self.spawn_program(program, "controller", &arguments, &environment);
        self.processes
            .last()
            .expect("the controller was started")
            .0
            .id()
    }

    /// Returns a `kubectl` command with all rights.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.env("KUBECONFIG", self.path("kubeconfig"));
        command.stdin(Stdio::null());
        command
    }

    /// Returns a `helm` command with all rights.
    #[must_use]
    pub fn helm(&self) -> Command {
        let mut command = Command::new(self.programs.join("helm"));
        command.env("KUBECONFIG", self.path("kubeconfig"));
        // The state of this machine's Helm is ignored.
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, self.path("helm"));
        }
        command.stdin(Stdio::null());
        command
    }

    fn kubeconfig(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://127.0.0.1:{}\n    \
             insecure-skip-tls-verify: true\n\
             users:\n- name: test\n  user:\n    token: {token}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n",
            self.port
        )
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn spawn(&mut self, name: &str, arguments: &[String]) {
        let program = self.programs.join(name);
        self.spawn_program(&program, name, arguments, &[]);
    }

    fn spawn_program(
        &mut self,
        program: &Path,
        name: &str,
        arguments: &[String],
        environment: &[(&str, &str)],
    ) {
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a file");
        let process = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        self.processes.push(Process(process));
    }

    fn start_etcd(&mut self) {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", free_port());
        let arguments = [
            "--unsafe-no-fsync".to_owned(),
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        self.spawn("etcd", &arguments);
    }

    fn start_apiserver(&mut self) {
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--cert-dir={}", self.path("certificates")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.path("accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                self.path("accounts.key")
            ),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            format!("--token-auth-file={}", self.path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            // As on OpenShift: changing the owner of an object requires permission to
            // delete the object.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
            format!("--advertise-address={}", node::ADDRESS),
            // Node names cannot be resolved.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ];
        self.spawn("kube-apiserver", &arguments);
    }

    fn start_controller_manager(&mut self) {
        let kubeconfig = self.path("kubeconfig");
        fs::write(&kubeconfig, self.kubeconfig(ADMIN)).expect("a file");
        let arguments = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!(
                "--service-account-private-key-file={}",
                self.path("accounts.key")
            ),
            "--use-service-account-credentials=true".to_owned(),
            // The CA that is mounted into pods.
            format!("--root-ca-file={}", self.path("certificates/apiserver.crt")),
            "--leader-elect=false".to_owned(),
            format!("--secure-port={}", free_port()),
            format!("--cert-dir={}", self.path("manager-certificates")),
        ];
        self.spawn("kube-controller-manager", &arguments);
    }

    fn start_scheduler(&mut self) {
        let kubeconfig = self.path("kubeconfig");
        let arguments = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--leader-elect=false".to_owned(),
            format!("--secure-port={}", free_port()),
            format!("--cert-dir={}", self.path("scheduler-certificates")),
        ];
        self.spawn("kube-scheduler", &arguments);
    }

    async fn wait_until_ready(&mut self) {
        let client = self.admin().await;
        let processes = &mut self.processes;
        let ready = async {
            // A process that has exited will never become ready.
            while processes
                .iter_mut()
                .all(|process| matches!(process.0.try_wait(), Ok(None)))
            {
                let request = http_get("/readyz");
                if client
                    .request_text(request)
                    .await
                    .is_ok_and(|text| text == "ok")
                {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            false
        };
        let is_ready = tokio::time::timeout(START, ready).await == Ok(true);
        assert!(
            is_ready,
            "kube-apiserver is not ready:
{}",
            self.log("kube-apiserver")
        );
    }
}

fn http_get(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).expect("a path")
}

/// Writes the signing keys of `ServiceAccount` tokens, and the administrator's token.
fn write_keys(dir: &Path) {
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(dir.join("accounts.key"), key.serialize_pem()).expect("a file");
    fs::write(dir.join("accounts.pub"), key.public_key_pem()).expect("a file");
    let token = format!("{ADMIN},admin,admin,system:masters\n");
    fs::write(dir.join("tokens.csv"), token).expect("a file");
}
