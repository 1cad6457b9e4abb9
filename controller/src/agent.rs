//! The agents' `DaemonSet`, and the Secrets with their configuration.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use serde_json::json;

use crate::plan::{Plan, Settings};

/// The name of the `DaemonSet`, and of the agents' `ServiceAccount`.
pub const AGENT: &str = "syslog-sink-agent";
/// On Secrets and on the agents' pods: which revision they are of.
pub const REVISION: &str = "syslogsink.io/revision";
/// On everything that the controller made.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sink-controller");

/// The most bytes of files in a Secret; the API server takes 1 MiB, of which
/// base64 and names have a part.
const SECRET: usize = 700_000;

/// The Secrets of a plan's files. A file is in one of them as a whole.
#[must_use]
pub fn secrets(plan: &Plan, settings: &Settings) -> Vec<Secret> {
    let revision = &plan.revision;
    let mut parts: Vec<BTreeMap<String, ByteString>> = vec![BTreeMap::new()];
    let mut size = 0;
    for (name, content) in &plan.files {
        size += name.len() + content.len();
        if size > SECRET {
            parts.push(BTreeMap::new());
            size = name.len() + content.len();
        }
        if let Some(part) = parts.last_mut() {
            part.insert(name.clone(), ByteString(content.clone()));
        }
    }
    let secret = |(number, data): (usize, BTreeMap<String, ByteString>)| Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(revision, number)),
            namespace: Some(settings.namespace.clone()),
            labels: Some(BTreeMap::from([
                (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned()),
                (REVISION.to_owned(), revision.clone()),
            ])),
            ..ObjectMeta::default()
        },
        data: Some(data),
        // What is named by its content has no other.
        immutable: Some(true),
        ..Secret::default()
    };
    parts.into_iter().enumerate().map(secret).collect()
}

fn secret_name(revision: &str, part: usize) -> String {
    format!("{AGENT}-{revision}-{part}")
}

/// The `DaemonSet` whose pods have these Secrets.
#[must_use]
pub fn daemon_set(secrets: &[Secret], revision: &str, settings: &Settings) -> DaemonSet {
    let paths = &settings.paths;
    let sources: Vec<_> = secrets
        .iter()
        .map(|secret| json!({"secret": {"name": secret.metadata.name}}))
        .collect();
    let labels = json!({"app.kubernetes.io/name": AGENT});
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": AGENT,
            "namespace": settings.namespace,
            "labels": {"app.kubernetes.io/name": AGENT, MANAGED_BY.0: MANAGED_BY.1},
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "5%"}},
            "template": {
                "metadata": {"labels": labels, "annotations": {REVISION: revision}},
                "spec": {
                    "serviceAccountName": AGENT,
                    "terminationGracePeriodSeconds": 30,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "fluent-bit",
                        "image": settings.image,
                        "args": ["-c", format!("{}/fluent-bit.yaml", paths.config)],
                        "env": [{
                            "name": "NODE_NAME",
                            "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
                        }],
                        "ports": [{"name": "metrics", "containerPort": 2020}],
                        "readinessProbe": {"httpGet": {"path": "/api/v1/health", "port": "metrics"}},
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                        "volumeMounts": [
                            {"name": "config", "mountPath": paths.config, "readOnly": true},
                            {"name": "log", "mountPath": "/var/log", "readOnly": true},
                            {"name": "state", "mountPath": paths.state},
                        ],
                    }],
                    "volumes": [
                        {"name": "config", "projected": {"sources": sources}},
                        {"name": "log", "hostPath": {"path": "/var/log"}},
                        {"name": "state", "hostPath": {"path": paths.state, "type": "DirectoryOrCreate"}},
                    ],
                },
            },
        },
    });
    serde_json::from_value(object).expect("the object is one of this kind")
}
