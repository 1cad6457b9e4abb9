//! Tests of the chart's values and the objects that Helm renders from them.

use std::process::Command;

use controller::agent::daemon_set;
use controller::settings::{AgentSettings, Settings};
use serde_json::{Value, json};

use crate::chart::folder;
use crate::world::SYSTEM;

/// Renders the chart. `set` are the arguments of `--set`.
///
/// # Errors
///
/// Returns the error output of Helm if it rejects a value.
fn try_render(mut helm: Command, set: &[&str]) -> Result<Vec<Value>, String> {
    let chart = folder("chart");
    helm.args(["template", "syslog-sink", "--namespace", SYSTEM]);
    helm.args(["--set", "crds.install=false"]);
    for value in set {
        helm.args(["--set", value]);
    }
    let output = helm.arg(chart).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = text.split("---\n").filter(|text| text.contains("kind:"));
    let parsed = documents.map(|text| serde_saphyr::from_str(text).unwrap());
    Ok(parsed.collect())
}

/// Returns the rendered objects. Prints a reason and returns `None` if Helm is not
/// installed.
fn render(set: &[&str]) -> Option<Vec<Value>> {
    Some(try_render(cluster::helm()?, set).unwrap())
}

fn find<'o>(objects: &'o [Value], kind: &str, name: &str) -> Option<&'o Value> {
    let matches = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(matches)
}

fn object<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let found = find(objects, kind, name);
    assert!(found.is_some(), "no {kind} {name}");
    found.unwrap()
}

/// Returns the controller's pod.
fn pod(objects: &[Value]) -> &Value {
    &object(objects, "Deployment", "sink-controller")["spec"]["template"]["spec"]
}

/// `OpenShift` gives each namespace its own range of users, and rejects all others.
#[test]
fn the_controllers_user_comes_from_the_image() {
    let Some(objects) = render(&[]) else { return };
    let context = &pod(&objects)["securityContext"];
    let wanted = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(context, &wanted);
    let image = std::fs::read_to_string(folder("../docker/controller.Dockerfile")).unwrap();
    // A user name is not enough: the kubelet cannot verify that it is not root.
    assert!(image.contains("\nUSER 65532:65532\n"), "{image}");
}

#[test]
fn the_controller_runs_on_linux() {
    let Some(objects) = render(&[]) else { return };
    let selector = &pod(&objects)["nodeSelector"];
    assert_eq!(selector, &json!({"kubernetes.io/os": "linux"}));
}

#[test]
fn the_cleanup_runs_on_the_agents_nodes_by_default() {
    let text = std::fs::read_to_string(folder("clean-nodes.yaml")).unwrap();
    let daemon_set = text.split("---\n").last().unwrap();
    let daemon_set: Value = serde_saphyr::from_str(daemon_set).unwrap();
    let pod = &daemon_set["spec"]["template"]["spec"];
    let agents = AgentSettings::default();
    for (key, value) in [
        ("nodeSelector", json!(agents.node_selector)),
        ("affinity", json!(agents.affinity)),
        ("tolerations", json!(agents.tolerations)),
    ] {
        assert_eq!(pod[key], value, "{key}");
    }
}

/// Returns the settings that the controller reads.
fn settings(objects: &[Value]) -> Settings {
    let map = object(objects, "ConfigMap", "sink-controller");
    Settings::parse(map["data"]["settings.yaml"].as_str().unwrap()).unwrap()
}

/// Helm removes a default if its value is null.
#[test]
fn defaults_can_be_removed() {
    let agent = |key: &str| {
        let objects = render(&[&format!("agent.{key}=null")])?;
        Some(settings(&objects).agent)
    };
    let Some(found) = agent("affinity") else {
        return;
    };
    assert_eq!(json!(found.affinity), json!({}));
    assert!(agent("nodeSelector").unwrap().node_selector.is_empty());
    assert!(agent("tolerations").unwrap().tolerations.is_empty());
    let secrets = agent("imagePullSecrets").unwrap().image_pull_secrets;
    assert!(secrets.is_empty());
    let resources = agent("resources").unwrap().resources;
    assert_eq!(json!(resources), json!({}));
    assert_eq!(
        agent("priorityClassName").unwrap().priority_class_name,
        None
    );
    // These settings have a default that cannot be removed.
    assert_eq!(agent("metricsPort").unwrap().metrics_port, 2020);
    let percent = agent("maxUnavailablePercent")
        .unwrap()
        .max_unavailable_percent;
    assert_eq!(percent, AgentSettings::default().max_unavailable_percent);
    let (objects, default) = (
        render(&["agent.stateFolder=null", "agent.podLogsFolder=null"]).unwrap(),
        Settings::default(),
    );
    let paths = settings(&objects).paths;
    assert_eq!(paths.state, default.paths.state);
    assert_eq!(paths.pods, default.paths.pods);
    let objects = render(&["settings=null"]).unwrap();
    let max = settings(&objects).max_cluster_sinks;
    assert_eq!(max, default.max_cluster_sinks);
}

/// OVN-Kubernetes takes the name of a port for all ports.
#[test]
fn network_policies_use_port_numbers() {
    let Some(objects) = render(&["agent.metricsPort=2021"]) else {
        return;
    };
    for (name, port) in [("sink-controller", 8080), ("syslog-sink-agent", 2021)] {
        let policy = object(&objects, "NetworkPolicy", name);
        let ports = &policy["spec"]["ingress"][0]["ports"];
        assert_eq!(ports, &json!([{"port": port}]), "{name}");
    }
    assert_eq!(
        pod(&objects)["containers"][0]["ports"][0]["containerPort"],
        8080
    );
}

/// Returns the annotations of all alerts.
fn annotations(set: &[&str]) -> Option<Vec<Value>> {
    let objects = render(&[&["monitoring.rules=true"], set].concat())?;
    let rules = object(&objects, "PrometheusRule", "syslog-sink");
    let groups = rules["spec"]["groups"].as_array().unwrap();
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap());
    Some(rules.map(|rule| rule["annotations"].clone()).collect())
}

#[test]
fn alerts_link_to_the_runbook_if_its_url_is_set() {
    let Some(without) = annotations(&[]) else {
        return;
    };
    assert!(without.len() > 10);
    for annotations in without {
        assert_eq!(annotations["runbook_url"], Value::Null);
        assert!(annotations["summary"].is_string(), "{annotations}");
    }
    let address = "https://example.com/a: b/ALERTS.md";
    let with = annotations(&[&format!("monitoring.runbooks={address}")]).unwrap();
    for annotations in with {
        let found = annotations["runbook_url"].as_str().unwrap();
        assert!(
            found.starts_with(&format!("{address}#syslogsink")),
            "{found}"
        );
    }
}

#[test]
fn monitoring_intervals_fit_the_alerts() {
    for (value, is_taken) in [
        ("15s", true),
        ("120s", true),
        ("2m", true),
        ("0s", false),
        ("121s", false),
        ("3m", false),
        ("1h", false),
    ] {
        let Some(helm) = cluster::helm() else { return };
        let rendered = try_render(helm, &[&format!("monitoring.interval={value}")]);
        assert_eq!(rendered.is_ok(), is_taken, "{value}: {rendered:?}");
    }
    let helm = cluster::helm().unwrap();
    let error = try_render(helm, &["monitoring.runbooks=docs/ALERTS.md"]).unwrap_err();
    assert!(error.contains("/monitoring/runbooks"), "{error}");
}

/// docs/PLATFORMS.md lists the values.
#[test]
fn the_values_of_each_platform_render() {
    let Some(plain) = render(&[]) else { return };
    let constraints = "SecurityContextConstraints";
    assert!(find(&plain, constraints, "syslog-sink-agent").is_none());
    assert!(find(&plain, "ResourceQuota", "syslog-sink-priority").is_none());

    let openshift = ["platform.openshift=true", "agent.seLinuxOptions.type=spc_t"];
    let objects = render(&openshift).unwrap();
    assert_eq!(objects.len(), plain.len() + 1);
    let found = object(&objects, constraints, "syslog-sink-agent");
    let account = format!("system:serviceaccount:{SYSTEM}:syslog-sink-agent");
    assert_eq!(found["users"], json!([account]));
    assert_eq!(found["allowHostDirVolumePlugin"], true);
    assert_eq!(found["allowPrivilegedContainer"], false);
    let daemon_set = daemon_set(&[], "", &settings(&objects));
    let pod = daemon_set.spec.unwrap().template.spec.unwrap();
    let container = pod.containers[0].security_context.clone().unwrap();
    let selinux = container.se_linux_options.unwrap();
    assert_eq!(selinux.type_.as_deref(), Some("spc_t"));
    // The constraints allow the type of each volume.
    let allowed = found["volumes"].as_array().unwrap();
    for volume in pod.volumes.unwrap() {
        let volume = json!(volume);
        let kinds: Vec<&String> = volume.as_object().unwrap().keys().collect();
        let is_allowed = |kind: &&&String| allowed.contains(&json!(kind));
        assert_eq!(kinds.iter().filter(is_allowed).count(), 1, "{volume}");
    }

    let objects = render(&["platform.priorityClassQuota=true"]).unwrap();
    assert_eq!(objects.len(), plain.len() + 1);
    let quota = object(&objects, "ResourceQuota", "syslog-sink-priority");
    let classes = &quota["spec"]["scopeSelector"]["matchExpressions"][0]["values"];
    let settings = settings(&objects);
    for class in [
        settings.agent.priority_class_name.map(Value::from),
        Some(self::pod(&objects)["priorityClassName"].clone()),
    ] {
        assert!(classes.as_array().unwrap().contains(&class.unwrap()));
    }

    let objects = render(&["agent.podLogsFolder=/data/pods"]).unwrap();
    assert_eq!(self::settings(&objects).paths.pods, "/data/pods");
}
