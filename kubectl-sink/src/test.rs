//! `kubectl sink test`: a pod on a node tests the sink (the controller's module
//! `sink_test`), and its report is printed.
//!
//! The test runs in a pod, not as a command in an agent, because a namespace's owner
//! may create pods there, and has no rights where the agents are.

use controller::sink_test::{
    CONFIG_MAPS, NODE, SECRETS, SINK, SinkTest, TestReport, objects, run_test,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use mapper::hostname;
use serde_json::{Value, json};

use crate::access::{Cluster, Scope};
use crate::cli::Test as Arguments;
use crate::failure::Failure;
use crate::output::{document, print};

/// The name of the controller's Deployment, and of its image if the Deployment cannot be
/// read.
const CONTROLLER: &str = "sink-controller";
const IMAGE: &str = concat!("syslog-sink-controller:", env!("CARGO_PKG_VERSION"));
/// The folder of the pod with the Secrets and `ConfigMap`s of the sink.
const FOLDER: &str = "/objects";
/// Reasons for which a container never starts.
const NEVER: [&str; 7] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Runs a test and prints its report.
pub(crate) async fn test(cluster: &Cluster, arguments: &Arguments) -> Result<(), Failure> {
    let name = &arguments.sink.name;
    let scope = cluster.scope(arguments.sink.kind.cluster);
    let sink = cluster.get(&scope, name).await?;
    let (called, namespace) = match &scope {
        Scope::Namespace(namespace) => (format!("{namespace}/{name}"), namespace),
        Scope::AllNamespaces | Scope::Cluster => (name.clone(), &arguments.controller_namespace),
    };
    let test = SinkTest {
        sink: called,
        namespace: namespace.clone(),
        spec: sink.spec()?,
    };
    let report = if arguments.local {
        on_this_machine(cluster, test).await?
    } else {
        Box::pin(in_a_pod(cluster, arguments, &test)).await?
    };
    match arguments.output {
        Some(output) => print(&document(&report, output)?)?,
        None => print(&text(&report))?,
    }
    if report.passed {
        Ok(())
    } else {
        Err(Failure::TestFailed)
    }
}

async fn on_this_machine(cluster: &Cluster, test: SinkTest) -> Result<TestReport, Failure> {
    let objects = objects(&cluster.client, &test).await;
    let from = format!("this machine ({})", hostname::own());
    let run = move || run_test(&test, objects, &from);
    let answered = tokio::task::spawn_blocking(run).await;
    let answered = answered.map_err(|error| Failure::new(error.to_string()))?;
    answered.map_err(|error| Failure::new(format!("cannot start a thread: {error}")))
}

async fn in_a_pod(
    cluster: &Cluster,
    arguments: &Arguments,
    test: &SinkTest,
) -> Result<TestReport, Failure> {
    let namespace = &test.namespace;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let image = match &arguments.image {
        Some(image) => image.clone(),
        None => image(cluster, &arguments.controller_namespace).await,
    };
    let pod = pod(test, &image, arguments);
    let pod = serde_json::from_value(pod).expect("it is a pod");
    let created = pods.create(&PostParams::default(), &pod).await;
    let what = format!("cannot create a pod in the namespace {namespace} to test from");
    let created = created.map_err(Failure::api(what))?;
    let name = created.metadata.name.unwrap_or_default();
    eprintln!("testing with the pod {namespace}/{name} of the image {image} ...");
    let reported = tokio::select! {
        reported = report(&pods, &name, arguments) => reported,
        _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted")),
    };
    let at_once = DeleteParams::default().grace_period(0);
    if let Err(error) = pods.delete(&name, &at_once).await {
        let what = format!("cannot delete the pod {namespace}/{name}: delete it by hand");
        eprintln!("{}", Failure::api(what)(error));
    }
    reported
}

/// Returns the image of the running controller, if it can be read.
async fn image(cluster: &Cluster, namespace: &str) -> String {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace);
    let found = deployments.get(CONTROLLER).await.ok();
    let pod = found.and_then(|found| found.spec?.template.spec);
    let container = pod.and_then(|pod| pod.containers.into_iter().next());
    let image = container.and_then(|container| container.image);
    image.unwrap_or_else(|| IMAGE.to_owned())
}

/// Returns a pod without rights in the cluster and on the node.
fn pod(test: &SinkTest, image: &str, arguments: &Arguments) -> Value {
    let names = test.names();
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    let mut mount = |folder: &str, name: &str, mut source: Value| {
        let volume = format!("object-{}", volumes.len());
        let path = format!("{FOLDER}/{folder}/{name}");
        mounts.push(json!({"name": volume, "mountPath": path, "readOnly": true}));
        source["name"] = volume.into();
        volumes.push(source);
    };
    // The test reports one that does not exist.
    for name in names.secrets() {
        let source = json!({"secret": {"secretName": name, "optional": true}});
        mount(SECRETS, name, source);
    }
    for name in names.config_maps() {
        let source = json!({"configMap": {"name": name, "optional": true}});
        mount(CONFIG_MAPS, name, source);
    }
    let sink = serde_json::to_string(test).expect("it has text keys only");
    let node = json!({"fieldRef": {"fieldPath": "spec.nodeName"}});
    json!({
        "metadata": {
            "generateName": "sink-test-",
            "labels": {"app.kubernetes.io/managed-by": "kubectl-sink"},
        },
        "spec": {
            "nodeName": arguments.node,
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "restartPolicy": "Never",
            // If this program cannot delete it.
            "activeDeadlineSeconds": arguments.timeout.as_secs() + 10,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            // Like the agents', so that it can run on every node.
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                // No user is set: OpenShift assigns one to each namespace.
                "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "test",
                "image": image,
                "args": ["test", FOLDER],
                "env": [
                    {"name": SINK, "value": sink},
                    {"name": NODE, "valueFrom": node},
                ],
                "volumeMounts": mounts,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": {
                    "requests": {"cpu": "10m", "memory": "32Mi"},
                    "limits": {"cpu": "1", "memory": "128Mi"},
                },
            }],
            "volumes": volumes,
        },
    })
}

async fn report(pods: &Api<Pod>, name: &str, arguments: &Arguments) -> Result<TestReport, Failure> {
    let ended = await_condition(pods.clone(), name, |pod: Option<&Pod>| {
        pod.is_none_or(|pod| has_ended(pod) || never_starts(pod).is_some())
    });
    let what = "cannot watch the pod";
    let pod = match tokio::time::timeout(arguments.timeout, ended).await {
        Ok(Ok(pod)) => pod,
        Ok(Err(error)) => return Err(Failure::new(format!("{what}: {error}"))),
        Err(_) => pods.get_opt(name).await.map_err(Failure::api(what))?,
    };
    let pod = pod.ok_or_else(|| {
        let node = arguments.node.as_ref();
        let node = node.map(|node| format!("; does the node {node} exist?"));
        Failure::new(format!("the pod was deleted{}", node.unwrap_or_default()))
    })?;
    if let Some(why) = never_starts(&pod) {
        let hint = "--image sets another image";
        return Err(Failure::new(format!(
            "the pod cannot start: {why} ({hint})"
        )));
    }
    if !has_ended(&pod) {
        let why = condition(&pod);
        let patience = arguments.timeout.as_secs();
        return Err(Failure::new(format!(
            "the pod did not finish within {patience} s: {why}"
        )));
    }
    let log = pods.logs(name, &LogParams::default()).await;
    let log = log.map_err(Failure::api("cannot read the pod's log"))?;
    let report = log.lines().find_map(|line| serde_json::from_str(line).ok());
    report.ok_or_else(|| {
        let why = pod
            .status
            .and_then(|status| status.message)
            .unwrap_or_default();
        Failure::new(format!(
            "the pod printed no report: {why}\n{}",
            log.trim_end()
        ))
    })
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn never_starts(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let waiting = containers.first()?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    NEVER
        .contains(&reason)
        .then(|| format!("{reason}: {message}"))
}

/// Returns what keeps a pod from running.
fn condition(pod: &Pod) -> String {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    let mut conditions = conditions.flatten();
    let bad = conditions.find(|condition| condition.status == "False");
    bad.map_or("the pod is still running".to_owned(), |condition| {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{} {}", part(&condition.reason), part(&condition.message))
    })
}

fn text(report: &TestReport) -> String {
    let mut lines = vec![format!("Sink {}, from {}", report.sink, report.from)];
    let refused = report.refused.as_ref();
    lines.extend(refused.map(|why| format!("  REFUSED  {why}")));
    for server in &report.servers {
        lines.push(server.server.clone());
        for step in &server.steps {
            let mark = if step.passed { "ok" } else { "FAILED" };
            lines.push(format!("  {mark:7}  {:8} {}", step.name, step.text));
            let details = step.details.iter();
            lines.extend(details.map(|detail| format!("{:20}{detail}", "")));
            let hint = step.hint.as_ref();
            lines.extend(hint.map(|hint| format!("{:20}hint: {hint}", "")));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_pod_mounts_what_the_sink_names_and_nothing_else() {
        let spec = json!({"host": "a", "tls": {
            "ca": {"configMap": {"name": "cas", "key": "root"}},
            "clientCertificateSecret": "own",
        }});
        let test = SinkTest {
            sink: "shop/siem".to_owned(),
            namespace: "shop".to_owned(),
            spec: serde_json::from_value(spec).unwrap(),
        };
        let words = ["kubectl-sink", "test", "siem", "--node", "node-7"];
        let Command::Test(arguments) = Cli::try_parse_from(words).unwrap().command else {
            panic!("{words:?}");
        };
        let pod: Pod = serde_json::from_value(pod(&test, "image:1", &arguments)).unwrap();
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node-7"));
        let mounts = spec.containers[0].volume_mounts.clone().unwrap();
        let paths: Vec<&str> = mounts.iter().map(|m| m.mount_path.as_str()).collect();
        assert_eq!(paths, ["/objects/secrets/own", "/objects/configmaps/cas"]);
        let sink = spec.containers[0].env.as_ref().unwrap()[0].value.clone();
        let read: SinkTest = serde_json::from_str(&sink.unwrap()).unwrap();
        assert_eq!(read.spec, test.spec);
    }

    /// `OpenShift` gives each namespace its own range of users and groups, and refuses any
    /// other.
    #[test]
    fn the_pod_fits_every_platform() {
        let spec = json!({"host": "a"});
        let test = SinkTest {
            sink: "shop/siem".to_owned(),
            namespace: "shop".to_owned(),
            spec: serde_json::from_value(spec).unwrap(),
        };
        let words = ["kubectl-sink", "test", "siem"];
        let Command::Test(arguments) = Cli::try_parse_from(words).unwrap().command else {
            panic!("{words:?}");
        };
        let pod = pod(&test, "image:1", &arguments);
        let context = &pod["spec"]["securityContext"];
        let wanted = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(context, &wanted);
        let linux = json!({"kubernetes.io/os": "linux"});
        assert_eq!(pod["spec"]["nodeSelector"], linux);
    }
}
