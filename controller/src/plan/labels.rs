//! The check of label selectors.

use api::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;

use super::refusal::Refusal;

/// Parses a selector. Its keys and values are valid for labels, so that none has a special
/// meaning when the selector is written in one line.
pub(super) fn selector(field: &str, selector: &LabelSelector) -> Result<Selector, Refusal> {
    let LabelSelector {
        match_expressions,
        match_labels,
    } = selector;
    let labels = match_labels.iter().flatten();
    let of_labels = labels.flat_map(|(key, value)| [(key, true), (value, false)]);
    let of_expressions = match_expressions.iter().flatten().flat_map(|expression| {
        let values = expression.values.iter().flatten();
        std::iter::once((&expression.key, true)).chain(values.map(|value| (value, false)))
    });
    for expression in match_expressions.iter().flatten() {
        let is_set = matches!(expression.operator.as_str(), "In" | "NotIn");
        if is_set && expression.values.as_ref().is_none_or(Vec::is_empty) {
            let problem = format!("needs values for the operator {}", expression.operator);
            return Err(Refusal::value(field, &expression.key, &problem));
        }
    }
    for (text, is_key) in of_labels.chain(of_expressions) {
        let is_allowed = |byte: u8| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'_' | b'.')
                || (is_key && byte == b'/')
        };
        if (is_key && text.is_empty()) || !text.bytes().all(is_allowed) {
            let what = if is_key { "key" } else { "value" };
            let problem = format!("is not the {what} of a label");
            return Err(Refusal::value(field, text, &problem));
        }
    }
    Selector::try_from(selector.clone())
        .map_err(|error| Refusal::new(Reason::InvalidValue, &format!("{field}: {error}")))
}
