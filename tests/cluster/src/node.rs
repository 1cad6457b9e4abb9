//! A real node: a kubelet, containerd, and pods that run. It requires the sandbox.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use rig::port::free_port;
use rig::process::run;
use rig::wait::until;

use crate::ControlPlane;
use crate::image::Image;

/// The machine's address in the sandbox. Pods reach the servers on 127.0.0.1 under this
/// address.
pub const ADDRESS: &str = "10.99.0.1";
/// The address of the pods' DNS server.
pub(crate) const DNS: &str = "10.99.0.2";
/// The API server's address, in the range of services.
const API: [u8; 4] = [10, 0, 0, 1];
/// The name of the node.
pub const NAME: &str = "real";
/// The image of a program that does nothing, and keeps a pod's namespaces.
const PAUSE: &str = "localhost/pause:1";
/// The time limit for a node to become ready.
const BOUND: Duration = Duration::from_secs(120);

const PAUSE_SOURCE: &str = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n";

impl ControlPlane {
    /// Adds a node that can run pods of these images.
    pub async fn add_real_node(&mut self, images: &[Image]) {
        std::thread::spawn(answer_names);
        let folder = PathBuf::from(self.path("node"));
        fs::create_dir_all(folder.join("cni")).expect("a folder");
        fs::write(folder.join("cni/10-bridge.conflist"), NETWORK).expect("a file");
        let socket = folder.join("containerd.sock");
        self.start_containerd(&folder, &socket);
        import(&pause(&folder), &socket);
        for image in images {
            import(&image.archive(&folder), &socket);
        }
        let api = format!("{}.{}.{}.{}", API[0], API[1], API[2], API[3]);
        iptables(&format!(
            "-t nat -A PREROUTING -d {api} -p tcp --dport 443 -j DNAT --to-destination 127.0.0.1:{}",
            self.port
        ));
        self.start_scheduler();
        self.start_kubelet(&folder, &socket);
        let nodes: Api<Node> = Api::all(self.admin().await);
        let ready = async {
            loop {
                if nodes
                    .get_opt(NAME)
                    .await
                    .is_ok_and(|node| node.is_some_and(|node| is_ready(&node)))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let in_time = tokio::time::timeout(BOUND, ready).await.is_ok();
        assert!(
            in_time,
            "the node is not ready:\n{}",
            tail(&self.log("kubelet"))
        );
    }

    fn start_containerd(&mut self, folder: &Path, socket: &Path) {
        let config = CONTAINERD
            .replace("FOLDER", &folder.display().to_string())
            .replace("PAUSE", PAUSE);
        let path = folder.join("containerd.toml");
        fs::write(&path, config).expect("a file");
        let program = rig::program("containerd").expect("the sandbox has checked this");
        let arguments = [format!("--config={}", path.display())];
        self.spawn_program(&program, "containerd", &arguments, &[]);
        let is_up = until(BOUND, || {
            ctr(socket)
                .arg("version")
                .output()
                .ok()?
                .status
                .success()
                .then_some(())
        });
        assert!(
            is_up.is_ok(),
            "containerd:\n{}",
            tail(&self.log("containerd"))
        );
    }

    fn start_kubelet(&mut self, folder: &Path, socket: &Path) {
        let config = KUBELET
            .replace("SOCKET", &socket.display().to_string())
            .replace("PORT", &free_port().to_string())
            .replace("NAMESERVER", DNS);
        let path = folder.join("kubelet.yaml");
        fs::write(&path, config).expect("a file");
        let kubelet = [
            format!("--config={}", path.display()),
            format!("--kubeconfig={}", self.path("kubeconfig")),
            format!("--root-dir={}", folder.join("kubelet").display()),
            format!("--cert-dir={}", folder.join("certificates").display()),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={ADDRESS}"),
        ];
        self.spawn("kubelet", &kubelet);
    }
}

fn is_ready(node: &Node) -> bool {
    let status = node.status.as_ref();
    let mut conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns the last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn pause(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("pause.c"), folder.join("pause"));
    fs::write(&source, PAUSE_SOURCE).expect("a file");
    run(Command::new("cc")
        .arg("-static")
        .arg("-o")
        .arg(&program)
        .arg(&source));
    let image = Image {
        name: PAUSE,
        files: vec![(program, "/pause")],
        entrypoint: &["/pause"],
        user: "",
    };
    image.archive(folder)
}

fn ctr(socket: &Path) -> Command {
    let mut command = Command::new("ctr");
    command
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io"]);
    command.stdin(Stdio::null());
    command
}

fn import(archive: &Path, socket: &Path) {
    run(ctr(socket).args(["images", "import"]).arg(archive));
}

fn iptables(arguments: &str) {
    run(Command::new("iptables").args(arguments.split(' ')));
}

/// Runs a DNS server (RFC 1035) that only knows the API server.
fn answer_names() {
    const HEADER: usize = 12;
    let socket = UdpSocket::bind((DNS, 53)).expect("the sandbox has the address");
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let question = &question[..length];
        let Some(end) = question.iter().skip(HEADER).position(|byte| *byte == 0) else {
            continue;
        };
        // The type and the class follow the name.
        let end = HEADER + end + 5;
        let Some(asked) = question.get(..end) else {
            continue;
        };
        let name = String::from_utf8_lossy(&asked[HEADER..]).into_owned();
        let is_api = name.contains("kubernetes") && name.contains("svc");
        let is_ipv4 = asked[end - 4..end - 2] == [0, 1];
        let answers = u8::from(is_api && is_ipv4);
        let code = if is_api { 0 } else { 3 };
        let mut answer = asked.to_vec();
        answer[2] = 0x84;
        answer[3] = code;
        answer[4..HEADER].copy_from_slice(&[0, 1, 0, answers, 0, 0, 0, 0]);
        if answers == 1 {
            // The name above, IPv4, Internet, a TTL of one minute, four bytes.
            answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(API);
        }
        let _ = socket.send_to(&answer, from);
    }
}

const NETWORK: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge",
    "bridge": "pods0",
    "isGateway": true,
    "ipMasq": true,
    "ipam": {
      "type": "host-local",
      "ranges": [[{"subnet": "10.98.0.0/24"}]],
      "routes": [{"dst": "0.0.0.0/0"}]
    }
  }]
}
"#;

const CONTAINERD: &str = r#"version = 2
root = "FOLDER/containerd"
state = "FOLDER/containerd-state"
[grpc]
  address = "FOLDER/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  # A machine may forbid scores below its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "FOLDER/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#;

const KUBELET: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: true}
  webhook: {enabled: false}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
containerRuntimeEndpoint: "unix://SOCKET"
port: PORT
readOnlyPort: 0
healthzPort: 0
clusterDNS: ["NAMESERVER"]
clusterDomain: cluster.local
resolvConf: ""
evictionHard: {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
# The images come from no registry.
imageGCHighThresholdPercent: 100
"#;
