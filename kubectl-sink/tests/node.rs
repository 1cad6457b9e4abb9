//! Tests `kubectl sink test` in a pod of a real node, with a real rsyslog.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod world;

use std::path::{Path, PathBuf};
use std::process::Command;

use cluster::image::Image;
use cluster::{node, sandbox};
use rig::pki::Pki;
use rig::rsyslog::{Driver, Input, Rsyslog};
use world::World;

const IMAGE: &str = "localhost/sink-controller:1";
/// The Deployment from which the program takes the image's name.
const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: sink-controller, namespace: syslog-sink}
spec:
  replicas: 0
  selector: {matchLabels: {app: sink-controller}}
  template:
    metadata: {labels: {app: sink-controller}}
    spec: {containers: [{name: controller, image: 'localhost/sink-controller:1'}]}
";

/// Builds the controller's program if it is outdated, and returns its path.
fn controller() -> PathBuf {
    let this = Path::new(env!("CARGO_BIN_EXE_kubectl-sink"));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--package", "controller", "--quiet"])
        .status();
    assert!(built.unwrap().success(), "the controller does not build");
    this.with_file_name("sink-controller")
}

#[test]
fn a_pod_tests_the_sink_with_its_secrets_and_is_deleted() {
    if rig::program("rsyslogd").is_none() {
        return rig::skip("rsyslogd is not installed (Debian: rsyslog)");
    }
    let controller = controller();
    if !sandbox::enter("a_pod_tests_the_sink_with_its_secrets_and_is_deleted") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run_steps(controller));
}

async fn run_steps(controller: PathBuf) {
    let mut world = World::start().await.unwrap();
    let image = Image {
        name: IMAGE,
        files: vec![(controller, "/bin/sink-controller")],
        entrypoint: &["/bin/sink-controller"],
        // The user of docker/controller.Dockerfile.
        user: "65532:65532",
    };
    world.plane.add_real_node(&[image]).await;
    world.apply(DEPLOYMENT);
    // The strictest level that a namespace can enforce for its pods.
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    world.kubectl(&["label", "namespace", "shop", restricted]);

    let pki = Pki::new();
    let (server, own) = (pki.server(), pki.client());
    let ca = pki.ca();
    let input = Input::Tls {
        driver: Driver::OpenSsl,
        server,
        ca,
        mutual: true,
    };
    let rsyslog = Rsyslog::start(&input).unwrap();
    let ca = format!("--from-file=ca.crt={}", pki.ca().display());
    world.kubectl(&["create", "configmap", "cas", "-n", "shop", &ca]);
    let cert = format!("--cert={}", own.cert.display());
    let key = format!("--key={}", own.key.display());
    let secret = ["create", "secret", "tls", "own", "-n", "shop"];
    world.kubectl(&[&secret[..], &[&cert, &key]].concat());
    let port = rsyslog.port().to_string();
    let way = ["--host", node::ADDRESS, "--port", &port];
    let tls = ["--server-name", "localhost", "--ca-config-map", "cas"];
    let create = |name: &'static str, secret: &'static str| {
        let of = ["create", name, "-n", "shop"];
        let own = ["--client-certificate-secret", secret];
        world.sink(&[&of[..], &way, &tls, &own].concat()).ok();
    };
    create("good", "own");
    create("lost", "not-there");

    let good = world.sink(&["test", "good", "-n", "shop"]);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(
        good.out.starts_with("Sink shop/good, from real\n"),
        "{good:?}"
    );
    let messages = rsyslog.messages();
    let texts: Vec<&str> = messages.iter().map(|message| message.msg.trim()).collect();
    assert_eq!(texts, ["test message for the sink shop/good from real"]);

    let lost = world.sink(&["test", "lost", "-n", "shop", "--node", node::NAME]);
    assert_eq!(lost.code, 4, "{lost:?}");
    let words =
        "SecretNotFound: tls.clientCertificateSecret: the Secret shop/not-there does not exist";
    assert!(lost.out.contains(words), "{lost:?}");

    let image = ["--image", "registry.invalid/none:1"];
    let no_image = world.sink(&[&["test", "good", "-n", "shop"][..], &image].concat());
    assert_eq!(no_image.code, 1, "{no_image:?}");
    assert!(
        no_image.err.contains("the pod cannot start: ErrImagePull"),
        "{no_image:?}"
    );
    let node = ["--node", "nowhere", "--timeout", "3s"];
    let nowhere = world.sink(&[&["test", "good", "-n", "shop"][..], &node].concat());
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
    assert!(
        nowhere.err.contains("nowhere") || nowhere.err.contains("in 3 s"),
        "{nowhere:?}"
    );

    let pods = || world.kubectl(&["get", "pods", "-n", "shop", "-o", "name"]);
    assert_eq!(pods(), "");
}
