//! The agents' objects: a `DaemonSet`, its `ServiceAccount`, and the Secrets of a revision.
//!
//! Files are stored in immutable Secrets that are named by a hash of their content, and the
//! pods' template names the Secrets, so a pod has exactly one complete revision. The
//! `DaemonSet` that reads the files is stored with them, so a rollback restores the whole
//! revision, including its image.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::configuration::{Configuration, Files, TenantPart, content_hash};
use crate::names::{AGENT, AGENT_CONTAINER, LABEL, MANAGED_BY, REVISION, SERVICE};
use crate::render;
use crate::settings::{AgentSettings, Paths, Settings};

/// The key of the revision's `DaemonSet` in its first Secret, so that the revision can be
/// restored as a whole.
const DAEMON_SET: &str = "agent.json";
/// The prefix of the key of the tenants' parts in a Secret. The Secret's number follows,
/// because agents mount all Secrets into one folder.
const PARTS: &str = "parts-";
/// The maximum number of bytes of files in a Secret; the API server accepts 1 MiB,
/// including names and overhead.
const SECRET: usize = 700_000;

/// The maximum size of the files with pods' labels, which are in memory. It is part of the
/// container's memory limit.
const LABELS: &str = "64Mi";

/// Returns the name of the agents' template: a hash of the `DaemonSet` and of the
/// configuration, both without anything of a tenant.
#[must_use]
pub fn template(settings: &Settings) -> String {
    let mut template = to_json(&daemon_set(&[], "", settings));
    template.extend(render::shared(settings).into_bytes());
    content_hash(&template)
}

/// Returns the Secrets of a revision, and the `DaemonSet` that mounts them. A file is never
/// split between Secrets.
#[must_use]
pub fn objects(
    configuration: &Configuration,
    revision: &str,
    settings: &Settings,
) -> (Vec<Secret>, DaemonSet) {
    let mut contents: Vec<Files> = vec![Files::new()];
    let mut size = 0;
    for (name, content) in &configuration.files {
        size += name.len() + content.len();
        if size > SECRET {
            contents.push(Files::new());
            size = name.len() + content.len();
        }
        if let Some(last) = contents.last_mut() {
            last.insert(name.clone(), content.clone());
        }
    }
    for (number, files) in contents.iter_mut().enumerate() {
        let parts: BTreeMap<&String, &TenantPart> = files
            .keys()
            .filter_map(|name| configuration.parts.get_key_value(name))
            .collect();
        if !parts.is_empty() {
            files.insert(format!("{PARTS}{number}.json"), to_json(&parts));
        }
    }
    let names: Vec<String> = (0..contents.len())
        .map(|number| secret_name(revision, number))
        .collect();
    let daemon_set = daemon_set(&names, revision, settings);
    contents[0].insert(DAEMON_SET.to_owned(), to_json(&daemon_set));
    let labelled = |name: &str| {
        let mut metadata = metadata(name, settings);
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(REVISION.to_owned(), revision.to_owned());
        metadata
    };
    let secret = |(name, files): (String, Files)| Secret {
        metadata: labelled(&name),
        data: Some(
            files
                .into_iter()
                .map(|(name, content)| (name, ByteString(content)))
                .collect(),
        ),
        // The name is a hash of the content, so the content never changes.
        immutable: Some(true),
        ..Secret::default()
    };
    let secrets = names.into_iter().zip(contents).map(secret).collect();
    (secrets, daemon_set)
}

/// Returns the name of a Secret of a revision, by its number.
#[must_use]
pub fn secret_name(revision: &str, part: usize) -> String {
    format!("{AGENT}-{revision}-{part}")
}

/// Reads a revision's configuration and `DaemonSet` from its Secrets.
#[must_use]
pub fn from_secrets(secrets: Vec<Secret>) -> (Configuration, Option<DaemonSet>) {
    let mut configuration = Configuration::default();
    let mut daemon_set = None;
    let data = secrets.into_iter().filter_map(|secret| secret.data);
    for (name, content) in data.flatten() {
        if name == DAEMON_SET {
            daemon_set = serde_json::from_slice(&content.0).ok();
        } else if name.starts_with(PARTS) {
            let parts: Option<BTreeMap<String, TenantPart>> =
                serde_json::from_slice(&content.0).ok();
            configuration.parts.extend(parts.into_iter().flatten());
        } else {
            configuration.files.insert(name, content.0);
        }
    }
    (configuration, daemon_set)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("objects and parts have only text keys")
}

/// Returns the number of Secrets that a revision's `DaemonSet` mounts.
#[must_use]
pub fn secret_count(daemon_set: &DaemonSet) -> usize {
    let pod = daemon_set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let volumes = pod.and_then(|pod| pod.volumes.as_ref());
    let projected = volumes
        .into_iter()
        .flatten()
        .find_map(|volume| volume.projected.as_ref());
    projected
        .and_then(|projected| projected.sources.as_ref())
        .map_or(0, Vec::len)
}

/// Returns the metadata common to all objects of the controller.
#[must_use]
pub fn metadata(name: &str, settings: &Settings) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(settings.namespace.clone()),
        labels: Some(BTreeMap::from([(
            MANAGED_BY.0.to_owned(),
            MANAGED_BY.1.to_owned(),
        )])),
        ..ObjectMeta::default()
    }
}

/// Returns the `DaemonSet` of a revision as it is applied. The selection of nodes is not
/// part of the revision: the `DaemonSet`'s controller acts on it at once, on all nodes, and
/// would do so again and again while a node tries another revision.
#[must_use]
pub fn placed(mut daemon_set: DaemonSet, settings: &Settings) -> DaemonSet {
    let now = self::daemon_set(&[], "", settings);
    let (Some(spec), Some(now)) = (&mut daemon_set.spec, now.spec) else {
        return daemon_set;
    };
    spec.update_strategy = now.update_strategy;
    spec.min_ready_seconds = now.min_ready_seconds;
    if let (Some(pod), Some(now)) = (&mut spec.template.spec, now.template.spec) {
        pod.node_selector = now.node_selector;
        pod.affinity = now.affinity;
        pod.tolerations = now.tolerations;
    }
    daemon_set
}

/// Returns the agents' `ServiceAccount`; its RBAC is installed separately.
#[must_use]
pub fn service_account(settings: &Settings) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(AGENT, settings),
        ..ServiceAccount::default()
    }
}

/// Returns the `DaemonSet` whose pods mount these Secrets.
#[must_use]
pub fn daemon_set(secrets: &[String], revision: &str, settings: &Settings) -> DaemonSet {
    let AgentSettings {
        image,
        image_pull_policy,
        image_pull_secrets,
        resources,
        tolerations,
        node_selector,
        affinity,
        priority_class_name,
        se_linux_options,
        metrics_port,
        max_unavailable_percent: _,
    } = &settings.agent;
    let paths = &settings.paths;
    let (mounts, volumes) = folders(secrets, paths);
    let labels = json!({LABEL.0: LABEL.1});
    // Not Fluent Bit's /api/v1/health, which fails with any tenant's sink.
    let alive = json!({"path": "/api/v1/uptime", "port": "metrics"});
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(AGENT, settings),
        "spec": {
            "selector": {"matchLabels": labels},
            // The controller decides which one is replaced next.
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": labels, "annotations": {REVISION: revision}},
                "spec": {
                    "serviceAccountName": AGENT,
                    "terminationGracePeriodSeconds": 30,
                    "tolerations": tolerations,
                    "nodeSelector": node_selector,
                    "affinity": affinity,
                    "priorityClassName": priority_class_name,
                    "imagePullSecrets": image_pull_secrets,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": AGENT_CONTAINER,
                        "image": image,
                        "imagePullPolicy": image_pull_policy,
                        "args": ["-c", format!("{}/{SERVICE}", paths.config)],
                        "env": [
                            {
                                "name": "NODE_NAME",
                                "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                            },
                            // The image's entry point checks this folder.
                            {"name": "STATE_DIR", "value": paths.state},
                            // And whether any log can be read.
                            {"name": "CONTAINER_LOGS", "value": paths.pods},
                            // And writes the labels of the node's pods there.
                            {"name": "POD_META_DIR", "value": paths.labels},
                            // And replaces this where the kernel has no IPv6.
                            {"name": "HTTP_LISTEN", "value": "[::]"},
                        ],
                        "ports": [{"name": "metrics", "containerPort": metrics_port}],
                        "readinessProbe": {"httpGet": alive, "periodSeconds": 2},
                        "livenessProbe": {"httpGet": alive, "periodSeconds": 30, "failureThreshold": 4},
                        "resources": resources,
                        // Its last words are a condition's message.
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        // Logs are root's, and nobody else's to read.
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                            "seLinuxOptions": se_linux_options,
                        },
                        "volumeMounts": mounts,
                    }],
                    "volumes": volumes,
                },
            },
        },
    });
    serde_json::from_value(object).expect("the object is one of this kind")
}

/// Returns the mounts of the agents' container, and the volumes of their pods.
fn folders(secrets: &[String], paths: &Paths) -> (Vec<Value>, Vec<Value>) {
    let secret = |name: &String| json!({"secret": {"name": name}});
    let sources: Vec<Value> = secrets.iter().map(secret).collect();
    let mut mounts = vec![
        json!({"name": "pods", "mountPath": paths.pods, "readOnly": true}),
        json!({"name": "config", "mountPath": paths.config, "readOnly": true}),
        json!({"name": "state", "mountPath": paths.state}),
        json!({"name": "labels", "mountPath": paths.labels}),
    ];
    let mut volumes = vec![
        json!({"name": "pods", "hostPath": {"path": paths.pods}}),
        json!({"name": "config", "projected": {"sources": sources}}),
        json!({
            "name": "state",
            "hostPath": {"path": paths.state, "type": "DirectoryOrCreate"},
        }),
        json!({"name": "labels", "emptyDir": {"medium": "Memory", "sizeLimit": LABELS}}),
    ];
    for (number, path) in paths.links.iter().enumerate() {
        let name = format!("links-{number}");
        mounts.push(json!({"name": name, "mountPath": path, "readOnly": true}));
        volumes.push(json!({"name": name, "hostPath": {"path": path}}));
    }
    (mounts, volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_links_are_mounted_read_only() {
        let folder = "/var/lib/docker/containers";
        let mut settings = Settings::default();
        settings.paths.links = vec![folder.to_owned()];
        let set = serde_json::to_value(daemon_set(&[], "revision", &settings)).unwrap();
        let pod = &set["spec"]["template"]["spec"];
        let has = |list: &Value, item: Value| list.as_array().unwrap().contains(&item);
        let mount = json!({"name": "links-0", "mountPath": folder, "readOnly": true});
        assert!(has(&pod["containers"][0]["volumeMounts"], mount));
        let volume = json!({"name": "links-0", "hostPath": {"path": folder}});
        assert!(has(&pod["volumes"], volume));
    }

    #[test]
    fn a_configuration_is_read_back_from_its_secrets() {
        let part = |namespace: &str| TenantPart {
            sinks: BTreeMap::from([(format!("{namespace}/siem"), content_hash(b"section"))]),
            ..TenantPart::default()
        };
        let names = ["ns-a.yaml", "ns-b.yaml"].map(str::to_owned);
        let mut configuration = Configuration::default();
        for name in &names {
            // Together, they are too large for one Secret.
            let content = vec![b'#'; SECRET / 2 + 1];
            configuration.files.insert(name.clone(), content);
            configuration.parts.insert(name.clone(), part(name));
        }
        let (secrets, daemon_set) = objects(&configuration, "1", &Settings::default());
        assert_eq!(secrets.len(), 2);
        assert_eq!(from_secrets(secrets), (configuration, Some(daemon_set)));
    }
}
