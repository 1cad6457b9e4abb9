//! The delivering side: a real Fluent Bit if it is installed, else the C host that
//! calls the output's library as Fluent Bit does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use host::Host;
use rig::containers::Node;
use rig::event::{container_tag, event, map};
use rig::fluent_bit::{self, FluentBit};
use rig::pki::Pki;

use crate::arrivals::Arrivals;
use crate::samples::Line;

/// The program that delivered, and its log.
pub(crate) struct Delivered {
    pub(crate) by: &'static str,
    pub(crate) log: String,
}

pub(crate) fn deliver(
    libraries: &[&Path],
    lines: &[Line],
    pki: &Pki,
    shop: &Arrivals,
    cluster: &Arrivals,
) -> Delivered {
    match fluent_bit::find() {
        Some(program) => Delivered {
            by: "Fluent Bit",
            log: by_fluent_bit(&program, libraries, lines, pki, shop, cluster),
        },
        None => Delivered {
            by: "the C host of the tests (Fluent Bit is not installed)",
            log: by_host(lines, pki, shop, cluster),
        },
    }
}

fn by_fluent_bit(
    program: &Path,
    libraries: &[&Path],
    lines: &[Line],
    pki: &Pki,
    shop: &Arrivals,
    cluster: &Arrivals,
) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let log = dir.path().join("log");
    let node = Node::new(&log);
    let mut containers = BTreeMap::new();
    for line in lines {
        containers
            .entry((line.namespace, line.pod))
            .or_insert_with(|| node.start(line.namespace, line.pod, line.container))
            .write(&line.rfc3339(), line.stream, line.text);
    }
    let configuration = dir.path().join("fluent-bit.yaml");
    fs::write(&configuration, yaml(dir.path(), pki, shop, cluster)).expect("a file");
    let fluent_bit = FluentBit::start(program, libraries, &configuration, &[]);
    let of_shop = lines.iter().filter(|line| line.namespace == "shop").count();
    shop.wait_for(of_shop);
    cluster.wait_for(lines.len());
    fluent_bit.stop()
}

fn yaml(dir: &Path, pki: &Pki, shop: &Arrivals, cluster: &Arrivals) -> String {
    format!(
        r"
service:
  flush: 1
  scheduler.base: 1
pipeline:
  inputs:
    - name: pod_logs
      path: {dir}/log/pods
      queue_path: {dir}/queues
      start: beginning
      mem_buf_limit: 16M
  outputs:
    - name: syslog_sink
      match: ns.*
      identity: group
      servers: {shop}
      tls_ca_file: {ca}
      severity: stream
      namespace: shop
      queue_path: {dir}/queues
      queue_name: shop
      retry_limit: no_limits
    - name: syslog_sink
      match: ns.*
      identity: group
      servers: {cluster}
      tls_ca_file: {ca}
      severity: stream
      cluster: on
      queue_path: {dir}/queues
      queue_name: cluster
      retry_limit: no_limits
",
        dir = dir.display(),
        shop = shop.address(),
        cluster = cluster.address(),
        ca = pki.ca().display(),
    )
}

fn by_host(lines: &[Line], pki: &Pki, shop: &Arrivals, cluster: &Arrivals) -> String {
    let chunks: Vec<(String, Vec<u8>)> = lines
        .iter()
        .map(|line| {
            let body = map(vec![
                ("stream", line.stream.into()),
                ("log", line.text.into()),
            ]);
            let (seconds, nanos) = line.time;
            let tag = container_tag(line.namespace, line.pod, line.container);
            (tag, event(seconds, nanos, body))
        })
        .collect();
    let (ca, shop, cluster) = (pki.ca(), shop.address(), cluster.address());
    let ca = ca.to_str().expect("a temporary path is UTF-8");
    let common = [("tls_ca_file", ca), ("severity", "stream")];
    Host::new()
        .retries(50)
        .output(
            "shop",
            &[&common[..], &[("servers", &shop), ("namespace", "shop")]].concat(),
        )
        .output(
            "cluster",
            &[&common[..], &[("servers", &cluster), ("cluster", "on")]].concat(),
        )
        .run(&chunks)
        .log
}
