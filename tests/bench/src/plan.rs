//! The controller's plan for many sinks.

use std::time::Instant;

use controller::plan::Plan;
use controller::settings::Settings;
use controller::snapshot::{ObjectName, Snapshot, Stored};
use serde_json::json;

use crate::link::Links;
use crate::report::{Report, Target};

const SINKS: usize = 1000;
const NAMESPACES: usize = 500;
const RUNS: usize = 10;

pub(crate) fn measure(_: &Links, report: &mut Report) {
    let mut snapshot = Snapshot::default();
    for number in 0..SINKS {
        let name = format!("sink-{}", number / NAMESPACES);
        let name = ObjectName::new(&format!("namespace-{}", number % NAMESPACES), &name);
        let spec = json!({
            "host": "logs.example.com",
            "tls": {"serverName": "logs.example.com", "minVersion": "1.3"},
            "format": {"appName": "$kubernetes['labels']['app'] ?? 'none'"},
        });
        let spec = serde_json::from_value(spec).expect("it is one");
        snapshot
            .log_sinks
            .insert(name, Stored::Spec(Box::new(spec)));
    }
    let settings = Settings::default();
    let once = || {
        let begun = Instant::now();
        let plan = Plan::new(&snapshot, &settings);
        assert!(plan.verdicts.values().all(Result::is_ok));
        begun.elapsed().as_secs_f64() * 1e3
    };
    let least = (0..RUNS).map(|_| once()).fold(f64::MAX, f64::min);
    let what = format!("Plan of the controller: {SINKS} sinks in {NAMESPACES} namespaces");
    report.figure(&what, least, " ms", Target::AtMost(50.0));
}
