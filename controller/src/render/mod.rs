//! Fluent Bit's configuration, a file for each part:
//!
//! ```text
//! fluent-bit.yaml        service, the parser of tags, the kubernetes filter
//! lane-<n>.yaml          a tail input for the namespaces of a lane
//! ns-<namespace>.yaml    the outputs of a namespace's sinks
//! cluster-<name>.yaml    the input and the output of a cluster sink
//! <hash>.pem             certificates and keys
//! ```
//!
//! Every tag begins with whose it is: `sink.ns.<namespace>.` or
//! `sink.cluster.<name>.`, and ends like that of any container's log
//! (`var.log.containers.<pod>_<namespace>_<container>-<id>.log`), from which
//! the plugin and the kubernetes filter know the container.

mod input;
mod output;
mod service;
mod value;
mod yaml;

use std::collections::BTreeMap;

pub(crate) use self::value::Value;
use crate::plan::{ClusterTenant, Lanes, Tenants};

/// The folders of an agent.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The rendered files.
    pub config: String,
    /// What has to outlive the agent: positions in files, chunks.
    pub state: String,
    /// The log files of containers, as the kubelet names them.
    pub containers: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            config: "/etc/syslog-sink".to_owned(),
            state: "/var/lib/syslog-sink".to_owned(),
            containers: "/var/log/containers".to_owned(),
        }
    }
}

/// All files.
pub(crate) fn files(
    tenants: &Tenants,
    cluster: &BTreeMap<String, ClusterTenant>,
    lanes: &Lanes,
    paths: &Paths,
) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (lane, namespaces) in lanes.by_lane() {
        files.insert(
            format!("lane-{lane}.yaml"),
            input::lane(lane, &namespaces, paths),
        );
    }
    for (namespace, sinks) in tenants {
        files.insert(
            format!("ns-{namespace}.yaml"),
            output::namespace(namespace, sinks),
        );
    }
    for (name, tenant) in cluster {
        let name = tag_part(name);
        let text =
            input::cluster(&name, &tenant.reads, paths) + &output::cluster(&name, &tenant.accepted);
        files.insert(format!("cluster-{name}.yaml"), text);
    }
    let reads_any = !tenants.is_empty() || cluster.values().any(|tenant| tenant.reads.any());
    let service = service::service(files.keys().map(String::as_str), reads_any, paths);
    files.insert("fluent-bit.yaml".to_owned(), service);
    let texts = files
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()));
    let sinks = tenants.values().flat_map(BTreeMap::values);
    let of_cluster = cluster.values().map(|tenant| &tenant.accepted);
    let certificates = sinks.chain(of_cluster).flat_map(|sink| sink.files.clone());
    texts.chain(certificates).collect()
}

/// A name without dots, which separate the parts of a tag. No name of
/// Kubernetes has an underscore, so that no two become the same.
fn tag_part(name: &str) -> String {
    name.replace('.', "_")
}
