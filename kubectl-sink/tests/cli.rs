//! Tests of the program as users run it, against a real API server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod world;

use std::fs;
use std::process::Command;
use std::time::Duration;

use receiver::{Listen, Options, Receiver, TlsFiles};
use rig::pki::{Pair, Pki};
use serde_json::{Value, json};
use world::{World, run};

/// The time limit for everything that a test waits for.
const BOUND: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn sinks_are_created_listed_described_and_deleted() {
    let Some(world) = World::start().await else {
        return;
    };
    let empty = world.sink(&["list", "-n", "shop"]);
    assert_eq!((empty.code, empty.out.as_str()), (0, ""));
    assert!(empty.err.contains("in the namespace shop"), "{empty:?}");

    let host = ["--host", "logs.example.com"];
    let create = ["create", "siem", "-n", "shop", "--ca-secret", "logs-ca"];
    let created = world.sink(&[&create[..], &host].concat()).ok();
    assert_eq!(created, "LogSink shop/siem created\n");
    let again = world.sink(&[&create[..], &host].concat());
    assert_eq!(again.code, 1);
    let words =
        "cannot create the LogSink shop/siem: logsinks.syslogsink.io \"siem\" already exists";
    assert!(again.err.contains(words), "{again:?}");
    let all = ["create", "all", "--cluster", "--transport", "tcp"];
    let servers = ["--server", "10.0.0.1", "--server", "10.0.0.2:515"];
    world.sink(&[&all[..], &servers].concat()).ok();

    let list = world.sink(&["list", "-A"]).ok();
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["NAMESPACE", "NAME", "SERVER"]);
    assert_eq!(rows[1][..5], ["(cluster)", "all", "10.0.0.1", "+1", "tcp"]);
    assert_eq!(
        rows[2][..5],
        ["shop", "siem", "logs.example.com", "tls", "Unknown"]
    );
    let wide = world.sink(&["list", "-A", "-o", "wide"]).ok();
    assert!(wide.contains("ACKNOWLEDGED"), "{wide}");
    let names = world.sink(&["list", "-A", "-o", "name"]).ok();
    assert_eq!(
        names,
        "clusterlogsink.syslogsink.io/all\nlogsink.syslogsink.io/siem\n"
    );
    let json: Value =
        serde_json::from_str(&world.sink(&["list", "-A", "-o", "json"]).ok()).unwrap();
    assert_eq!(
        json["items"][1]["spec"]["tls"]["ca"]["secret"]["name"],
        "logs-ca"
    );
    // The output can be applied again.
    world.apply(&world.sink(&["list", "-A", "-o", "yaml"]).ok());

    let status = json!({"status": {
        "observedGeneration": 1,
        "conditions": [{
            "type": "Delivering", "status": "False", "reason": "ConnectFailed",
            "message": "1 of 1 agents fail", "lastTransitionTime": "2026-03-01T12:00:00Z",
        }],
        "counts": {"acknowledged": 7, "dropped": 2, "observedTime": "2026-03-01T12:00:00Z"},
        "lastError": {"reason": "ConnectFailed", "node": "n1", "time": "2026-03-01T12:00:00Z"},
    }});
    let patch = [
        "patch",
        "logsink",
        "siem",
        "-n",
        "shop",
        "--subresource=status",
    ];
    let with = ["--type=merge", "-p", &status.to_string()];
    world.kubectl(&[&patch[..], &with].concat());
    let described = world.sink(&["describe", "siem", "-n", "shop"]).ok();
    for words in [
        "Server:      logs.example.com\n",
        "ConnectFailed: 1 of 1 agents fail",
        "7 acknowledged, 2 dropped",
        "Last error:  ConnectFailed on n1",
        "What to do:  run `kubectl sink test`",
        "  host: logs.example.com\n",
    ] {
        assert!(described.contains(words), "{words}: {described}");
    }
    let wide = world.sink(&["list", "-n", "shop", "-o", "wide"]).ok();
    assert!(wide.contains("ConnectFailed on n1"), "{wide}");

    let offered = world
        .sink(&["__complete", "--", "describe", "-n", "shop", ""])
        .ok();
    assert_eq!(offered, "siem\n:4\n");

    let deleted = world.sink(&["delete", "nothing", "siem", "-n", "shop"]);
    assert_eq!(deleted.code, 1);
    assert_eq!(deleted.out, "LogSink shop/siem deleted\n");
    assert!(
        deleted
            .err
            .contains("cannot delete the LogSink shop/nothing"),
        "{deleted:?}"
    );
    world.sink(&["delete", "all", "--cluster"]).ok();
    assert_eq!(world.sink(&["list", "-A", "-o", "name"]).ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_printed_and_set_the_exit_status() {
    let Some(world) = World::start().await else {
        return;
    };
    for (arguments, code, words) in [
        (
            &["describe", "none", "-n", "shop"][..],
            1,
            "cannot get the LogSink shop/none",
        ),
        (
            &["create", "a", "--host", "a b", "-n", "shop"],
            1,
            "spec.host",
        ),
        (&["create", "a"], 2, "--host"),
        (
            &["create", "a", "--host", "b", "--port", "70000"],
            2,
            "70000",
        ),
        (
            &["list", "--context", "elsewhere"],
            1,
            "cannot connect to a cluster",
        ),
        (&["test", "none", "-n", "shop"], 1, "not found"),
        (
            &["migrate", "-A"],
            1,
            "the cluster has none of the API versions observability.knative.dev",
        ),
        (&["migrate", "-f", "/nowhere"], 1, "cannot read /nowhere"),
    ] {
        let run = world.sink(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        assert!(run.err.contains(words), "{arguments:?}: {run:?}");
    }
    let printed = world
        .sink(&["create", "a", "--host", "b", "--dry-run", "-n", "shop"])
        .ok();
    world.apply(&printed);
    let tested = world.sink(&["test", "a", "-n", "shop", "--timeout", "1s"]);
    // The cluster has no node, and no ServiceAccount for pods, so the pod cannot be
    // scheduled.
    assert_eq!(tested.code, 1, "{tested:?}");
    assert_eq!(
        world.kubectl(&["get", "pods", "-n", "shop", "-o", "name"]),
        ""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_tested_from_this_machine() {
    let Some(world) = World::start().await else {
        return;
    };
    let pki = Pki::new();
    let Pair { cert, key } = pki.server();
    let client_ca = Some(pki.ca());
    let files = TlsFiles {
        cert,
        key,
        client_ca,
    };
    let receiver = Receiver::start(Options::new(Listen::Tls(files))).unwrap();
    let port = receiver.port().to_string();
    let own = pki.client();
    let secret = ["create", "secret", "tls", "own", "-n", "shop"];
    let cert = format!("--cert={}", own.cert.display());
    let key = format!("--key={}", own.key.display());
    world.kubectl(&[&secret[..], &[&cert, &key]].concat());
    let ca = pki.ca().display().to_string();
    let way = ["--host", "localhost", "--port", &port, "--ca-file", &ca];
    let create = [
        "create",
        "good",
        "-n",
        "shop",
        "--client-certificate-secret",
        "own",
    ];
    world.sink(&[&create[..], &way].concat()).ok();
    let test = ["test", "-n", "shop", "--local"];
    let tested = world.sink(&[&test[..], &["good"]].concat()).ok();
    for words in [
        "Sink shop/good, from this machine (",
        "ok       tls      TLSv1_3",
        "names localhost",
    ] {
        assert!(tested.contains(words), "{tested}");
    }
    receiver.wait_for(1, BOUND).unwrap();

    // Without a client certificate, and with a CA that did not sign the server's
    // certificate.
    world
        .sink(&[&["create", "bare", "-n", "shop"][..], &way].concat())
        .ok();
    let other = pki.other_ca().display().to_string();
    let way = ["--host", "localhost", "--port", &port, "--ca-file", &other];
    world
        .sink(&[&["create", "wrong", "-n", "shop"][..], &way].concat())
        .ok();
    let bare = world.sink(&[&test[..], &["bare"]].concat());
    assert_eq!(bare.code, 4, "{bare:?}");
    assert!(
        bare.out.contains("hint: set tls.clientCertificateSecret"),
        "{bare:?}"
    );
    let wrong = world.sink(&[&test[..], &["wrong", "-o", "json"]].concat());
    assert_eq!(wrong.code, 4, "{wrong:?}");
    let report: Value = serde_json::from_str(&wrong.out).unwrap();
    let steps = report["servers"][0]["steps"].as_array().unwrap();
    let last = steps.last().unwrap();
    assert_eq!(
        (&last["name"], &last["passed"]),
        (&json!("tls"), &json!(false))
    );
    assert!(last["hint"].as_str().unwrap().contains("tls.ca"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_reports_the_controllers_conditions() {
    let Some(world) = World::start().await else {
        return;
    };
    let condition = |type_: &str, status: &str, message: &str| {
        let time = "2026-03-01T12:00:00Z";
        json!({
            "type": type_, "status": status, "reason": "R", "message": message,
            "lastTransitionTime": time,
        })
    };
    // Sets the condition as soon as the sink exists, like a controller.
    let set_condition = |name: &str, condition: &Value| {
        let status = json!({"status": {"conditions": [condition]}}).to_string();
        let patch = [
            "patch",
            "logsink",
            name,
            "-n",
            "shop",
            "--subresource=status",
        ];
        let with = ["--type=merge", "-p", &status];
        rig::wait::until(BOUND, || {
            let patched = run(world.plane.kubectl().args(patch).args(with));
            (patched.code == 0).then_some(())
        })
        .unwrap();
    };
    for (name, reported, wait, code, words) in [
        ("good", condition("Delivering", "True", ""), "60s", 0, ""),
        (
            "refused",
            condition("Accepted", "False", "no Secret"),
            "60s",
            1,
            "no Secret",
        ),
        (
            "down",
            condition("Delivering", "False", "no route"),
            "5s",
            1,
            "does not deliver yet: R: no route",
        ),
    ] {
        let create = ["create", name, "-n", "shop", "--host", "a", "--wait", wait];
        let created = std::thread::scope(|scope| {
            let creating = scope.spawn(|| world.sink(&create));
            set_condition(name, &reported);
            creating.join().unwrap()
        });
        assert_eq!(created.code, code, "{created:?}");
        assert!(created.err.contains(words), "{created:?}");
    }
}

const PKS: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: logsinks.pksapi.io}
spec:
  group: pksapi.io
  scope: Namespaced
  names: {plural: logsinks, singular: logsink, kind: LogSink}
  versions:
    - name: v1beta1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

const PKS_SINKS: &str = "\
apiVersion: pksapi.io/v1beta1
kind: LogSink
metadata: {name: papertrail, namespace: shop}
spec: {type: syslog, host: logs.example.com, port: 6514, enable_tls: true}
---
apiVersion: pksapi.io/v1beta1
kind: LogSink
metadata: {name: hook, namespace: shop}
spec: {type: webhook, url: 'https://example.com'}
";

#[tokio::test(flavor = "multi_thread")]
async fn pks_sinks_are_converted() {
    let Some(world) = World::start().await else {
        return;
    };
    world.apply(PKS);
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd/logsinks.pksapi.io",
    ];
    world.kubectl(&wait);
    world.apply(PKS_SINKS);
    let migrated = world.sink(&["migrate", "-A"]);
    assert_eq!(migrated.code, 3, "{migrated:?}");
    let words = "LogSink shop/hook: cannot be converted: type \"webhook\"";
    assert!(
        migrated.err.contains(words) && migrated.out.contains(words),
        "{migrated:?}"
    );
    // The same from a file, and the output can be applied.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), PKS_SINKS).unwrap();
    let path = file.path().display().to_string();
    let of_file = world.sink(&["migrate", "-f", &path]);
    let sorted = |text: &str| {
        let mut parts: Vec<String> = text.split("---\n").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    assert_eq!(sorted(&of_file.out), sorted(&migrated.out));
    world.apply(&migrated.out);
    let list = world.sink(&["list", "-n", "shop"]).ok();
    assert!(
        list.contains("papertrail   logs.example.com:6514   tls"),
        "{list}"
    );
    assert_eq!(list.lines().count(), 2, "{list}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    for (completer, words) in [
        ("kubectl", "exec kubectl-sink __complete"),
        ("bash", "complete -F "),
        ("zsh", "#compdef"),
        ("fish", "complete -c kubectl-sink"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let program = env!("CARGO_BIN_EXE_kubectl-sink");
        let script = run(Command::new(program).args(["completion", completer])).ok();
        assert!(script.contains(words), "{completer}");
    }
}
