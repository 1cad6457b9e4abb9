//! The dashboard and the alerts use existing metrics, and the documents list all of
//! them.
#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use controller::monitor::Monitor;
use rig::process::run;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap()
}

/// Returns the names of the metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    let prefixes = [
        "sink_controller_",
        "syslog_sink_",
        "fluentbit_input_",
        "pod_logs_",
        "fluentbit_output_",
    ];
    let names = words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
    names
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .filter(|name| !name.ends_with('_'))
        .collect()
}

#[test]
fn the_controllers_metrics_are_documented() {
    let text = Monitor::default().text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<String> = types
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let documented: BTreeSet<String> = metrics(&read("docs/METRICS.md"))
        .into_iter()
        .filter(|name| name.starts_with("sink_controller_"))
        .collect();
    assert_eq!(there, documented);
}

#[test]
fn alerts_fire_at_the_right_time() {
    let Some(mut promtool) = cluster::promtool() else {
        return;
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts.yaml");
    run(promtool.args(["test", "rules"]).arg(tests));
}

#[test]
fn each_alert_links_to_its_runbook() {
    let document = read("docs/ALERTS.md");
    let alerts = read("deploy/chart/files/alerts.yaml");
    let of = |key: &str| -> Vec<String> {
        let lines = alerts
            .lines()
            .map(|line| line.trim().trim_start_matches("- "));
        let values = lines.filter_map(|line| line.strip_prefix(key));
        values.map(str::to_owned).collect()
    };
    let (names, addresses) = (of("alert: "), of("runbook_url: "));
    assert_eq!(names.len(), addresses.len());
    for (name, address) in names.iter().zip(addresses) {
        assert_eq!(address, format!("docs/ALERTS.md#{}", name.to_lowercase()));
        assert!(document.contains(&format!("### {name}\n")), "{name}");
    }
}

#[test]
fn the_dashboard_and_the_alerts_use_existing_metrics() {
    let documented = metrics(&read("docs/METRICS.md"));
    // Fluent Bit's own metrics, which the controller reads too.
    let of_fluent_bit = metrics(&read("controller/src/delivery.rs"));
    for file in ["dashboard.json", "alerts.yaml"] {
        let asked = metrics(&read(&format!("deploy/chart/files/{file}")));
        assert!(asked.len() > 5, "{file}: {asked:?}");
        for name in asked {
            let is_there = documented.contains(&name) || of_fluent_bit.contains(&name);
            assert!(is_there, "{file} uses {name}, which does not exist");
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/chart/files/dashboard.json")).unwrap();
    assert_eq!(dashboard["uid"], "syslog-sink");
}
