//! The cost of computing the plan.

use std::time::{Duration, Instant};

use controller::plan::Plan;
use controller::settings::Settings;
use controller::snapshot::{ObjectName, Snapshot, Stored};
use serde_json::json;

const SINKS: usize = 1000;
const NAMESPACES: usize = 500;
const RUNS: usize = 20;
/// The maximum duration.
const TARGET: Duration = Duration::from_millis(50);

/// Returns the minimum of several runs, because other work on the machine can only add
/// to it.
pub(crate) fn measure() -> String {
    let mut snapshot = Snapshot::default();
    for number in 0..SINKS {
        let name = format!("sink-{}", number / NAMESPACES);
        let name = ObjectName::new(&format!("namespace-{}", number % NAMESPACES), &name);
        let spec = json!({
            "host": "logs.example.com",
            "tls": {"serverName": "logs.example.com", "minVersion": "1.3"},
            "format": {"appName": "$kubernetes['labels']['app'] ?? 'none'"},
        });
        let spec = serde_json::from_value(spec).expect("the spec is valid");
        snapshot
            .log_sinks
            .insert(name, Stored::Spec(Box::new(spec)));
    }
    let settings = Settings::default();
    let once = || {
        let begun = Instant::now();
        let plan = Plan::new(&snapshot, &settings);
        assert!(plan.verdicts.values().all(Result::is_ok));
        begun.elapsed()
    };
    let least = (0..RUNS)
        .map(|_| once())
        .min()
        .expect("there is at least one run");
    format!(
        "Plan of {SINKS} sinks in {NAMESPACES} namespaces: {:.1} ms (target: at most {} ms).",
        least.as_secs_f64() * 1e3,
        TARGET.as_millis()
    )
}
