//! The nodes that should have an agent, as the `DaemonSet`'s controller decides by labels
//! and taints (`NodeShouldRunDaemonPod` in Kubernetes' sources).
//!
//! The `DaemonSet`'s status has only the number of these nodes, but a node for which no pod is
//! created has to be named.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};
use kube::ResourceExt;

/// The decision about the agent of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The node should have one.
    Wanted,
    /// An existing one may stay, but is not created again.
    Tolerated,
    /// The node should have none.
    Unwanted,
}

/// The effects of taints.
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// The taints that the pods of every `DaemonSet` tolerate, and those of nodes that are not
/// ready: such nodes are out of reach, not unwanted.
const TOLERATED: [(&str, &str); 8] = [
    ("node.kubernetes.io/not-ready", NO_SCHEDULE),
    ("node.kubernetes.io/unreachable", NO_SCHEDULE),
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];

/// Returns the decision about a node, for the pods of a `DaemonSet`.
#[must_use]
pub fn placement(node: &Node, pod: &PodSpec) -> Placement {
    if !is_selected(node, pod) {
        return Placement::Unwanted;
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let taints = taints.into_iter().flatten();
    let repelled_by: Vec<&str> = taints
        .filter(|taint| !is_tolerated(taint, pod))
        .map(|taint| taint.effect.as_str())
        .collect();
    if repelled_by.contains(&NO_EXECUTE) {
        Placement::Unwanted
    } else if repelled_by.contains(&NO_SCHEDULE) {
        Placement::Tolerated
    } else {
        Placement::Wanted
    }
}

/// Returns whether a node has the labels that a pod requires.
fn is_selected(node: &Node, pod: &PodSpec) -> bool {
    let labels = node.labels();
    let mut selector = pod.node_selector.iter().flatten();
    let affinity = pod.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        required.as_ref()
    });
    selector.all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|required| {
            let mut terms = required.node_selector_terms.iter();
            terms.any(|term| matches_term(node, term))
        })
}

/// Returns whether a node matches a term; an empty term matches nothing.
fn matches_term(node: &Node, term: &NodeSelectorTerm) -> bool {
    let name = BTreeMap::from([("metadata.name".to_owned(), node.name_any())]);
    let expressions = term.match_expressions.iter().flatten();
    let expressions = expressions.map(|requirement| (requirement, node.labels()));
    let fields = term.match_fields.iter().flatten();
    let fields = fields.map(|requirement| (requirement, &name));
    let mut all = expressions.chain(fields).peekable();
    all.peek().is_some() && all.all(|(requirement, values)| meets(values, requirement))
}

fn meets(values: &BTreeMap<String, String>, requirement: &NodeSelectorRequirement) -> bool {
    let NodeSelectorRequirement {
        key,
        operator,
        values: allowed,
    } = requirement;
    let value = values.get(key);
    let is_allowed = |value: &String| allowed.iter().flatten().any(|allowed| allowed == value);
    let compared = || {
        let bound: i64 = allowed.as_ref()?.first()?.parse().ok()?;
        let value: i64 = value?.parse().ok()?;
        Some(value.cmp(&bound))
    };
    match operator.as_str() {
        "In" => value.is_some_and(is_allowed),
        "NotIn" => !value.is_some_and(is_allowed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

fn is_tolerated(taint: &Taint, pod: &PodSpec) -> bool {
    TOLERATED.contains(&(taint.key.as_str(), taint.effect.as_str()))
        || pod
            .tolerations
            .iter()
            .flatten()
            .any(|it| tolerates(it, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    // An empty text is as good as none.
    fn given(text: Option<&String>) -> Option<&str> {
        text.map(String::as_str).filter(|text| !text.is_empty())
    }
    let is_of_effect = given(toleration.effect.as_ref()).is_none_or(|it| it == taint.effect);
    let is_of_key = given(toleration.key.as_ref()).is_none_or(|it| it == taint.key);
    let is_of_value = match given(toleration.operator.as_ref()) {
        Some("Exists") => true,
        Some("Equal") | None => given(toleration.value.as_ref()) == given(taint.value.as_ref()),
        // Kubernetes compares numbers only behind a feature gate.
        Some(_) => false,
    };
    is_of_effect && is_of_key && is_of_value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn placement_on(node: &Value, pod: &Value) -> Placement {
        let mut spec = pod.clone();
        spec["containers"] = json!([]);
        let node = serde_json::from_value(node.clone()).unwrap();
        placement(&node, &serde_json::from_value(spec).unwrap())
    }

    fn node(labels: &Value, taints: &Value) -> Value {
        json!({"metadata": {"name": "a", "labels": labels}, "spec": {"taints": taints}})
    }

    fn is_selected_by(labels: &Value, terms: &Value) -> bool {
        let pod = json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}});
        placement_on(&node(labels, &json!([])), &pod) == Placement::Wanted
    }

    #[test]
    fn a_node_selector_requires_its_labels() {
        let linux = json!({"kubernetes.io/os": "linux"});
        let pod = json!({"nodeSelector": linux});
        assert_eq!(
            placement_on(&node(&linux, &json!([])), &pod),
            Placement::Wanted
        );
        assert_eq!(
            placement_on(&node(&json!({}), &json!([])), &pod),
            Placement::Unwanted
        );
    }

    #[test]
    fn every_operator_of_a_node_affinity_is_supported() {
        let labels = json!({"type": "fargate", "cores": "8"});
        let one = |operator: &str, key: &str, values: &[&str]| {
            let term = json!({"key": key, "operator": operator, "values": values});
            is_selected_by(&labels, &json!([{"matchExpressions": [term]}]))
        };
        assert!(one("In", "type", &["ec2", "fargate"]) && !one("In", "type", &["ec2"]));
        assert!(!one("In", "none", &["ec2"]) && one("NotIn", "none", &["ec2"]));
        assert!(one("NotIn", "type", &["ec2"]) && !one("NotIn", "type", &["fargate"]));
        assert!(one("Exists", "type", &[]) && !one("Exists", "none", &[]));
        assert!(one("DoesNotExist", "none", &[]) && !one("DoesNotExist", "type", &[]));
        assert!(one("Gt", "cores", &["7"]) && !one("Gt", "cores", &["8"]));
        assert!(one("Lt", "cores", &["9"]) && !one("Lt", "type", &["9"]));
    }

    #[test]
    fn one_term_must_match_with_all_its_requirements() {
        let has = |key: &str| json!({"key": key, "operator": "Exists"});
        let labels = json!({"a": "", "b": ""});
        let both = json!([{"matchExpressions": [has("a"), has("c")]}]);
        assert!(!is_selected_by(&labels, &both));
        let either = json!([{"matchExpressions": [has("c")]}, {"matchExpressions": [has("b")]}]);
        assert!(is_selected_by(&labels, &either));
        assert!(!is_selected_by(&labels, &json!([{}])));
        let named = |name: &str| {
            let field = json!({"key": "metadata.name", "operator": "In", "values": [name]});
            json!([{"matchFields": [field]}])
        };
        assert!(is_selected_by(&labels, &named("a")) && !is_selected_by(&labels, &named("b")));
    }

    #[test]
    fn taints_and_tolerations_determine_the_placement() {
        let taint = |key: &str, effect: &str| json!({"key": key, "value": "v", "effect": effect});
        let with = |taint: Value, tolerations: Value| {
            let pod = json!({"tolerations": tolerations});
            placement_on(&node(&json!({}), &json!([taint])), &pod)
        };
        let none = json!([]);
        for (effect, expected) in [
            ("NoSchedule", Placement::Tolerated),
            ("NoExecute", Placement::Unwanted),
            ("PreferNoSchedule", Placement::Wanted),
        ] {
            assert_eq!(with(taint("gpu", effect), none.clone()), expected);
        }
        let cordoned = taint("node.kubernetes.io/unschedulable", "NoSchedule");
        assert_eq!(with(cordoned, none), Placement::Wanted);
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), Placement::Wanted),
            (
                json!({"key": "gpu", "operator": "Exists"}),
                Placement::Wanted,
            ),
            (json!({"key": "gpu", "value": "v"}), Placement::Wanted),
            (
                json!({"key": "gpu", "value": "other"}),
                Placement::Tolerated,
            ),
            (
                json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
                Placement::Tolerated,
            ),
            (
                json!({"key": "cpu", "operator": "Exists"}),
                Placement::Tolerated,
            ),
        ] {
            let found = with(taint("gpu", "NoSchedule"), json!([toleration]));
            assert_eq!(found, expected, "{toleration}");
        }
    }
}
