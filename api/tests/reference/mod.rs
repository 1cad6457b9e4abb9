//! docs/RESOURCES.md, from the CRDs' schemas.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

const HEAD: &str = "\
# The resources

Every field of `syslogsink.io/v1alpha1`, made from the CRDs by `make golden`.
[CONTROLLER.md](CONTROLLER.md) says how they are used, [CONFIGURATION.md](CONFIGURATION.md)
what `format` can hold. Lengths are in characters; patterns are regular
expressions. A label selector is Kubernetes' own, with `matchLabels` and
`matchExpressions`.
";

/// Fields that are a table elsewhere: a `LogSink`'s spec, Kubernetes' conditions.
const ELSEWHERE: [&str; 2] = ["spec.sink", "status.conditions"];

/// The whole file.
pub(crate) fn markdown(crds: &[CustomResourceDefinition]) -> String {
    let parts = crds.iter().enumerate();
    // The status of all is the same.
    let parts = parts.map(|(number, crd)| match number {
        0 => resource(crd, &["spec", "status"]),
        _ => resource(crd, &["spec"]),
    });
    let parts: Vec<String> = std::iter::once(HEAD.to_owned()).chain(parts).collect();
    parts.join("\n")
}

fn resource(crd: &CustomResourceDefinition, keys: &[&str]) -> String {
    let names = &crd.spec.names;
    let schema = crd.spec.versions[0].schema.as_ref().unwrap();
    let schema = schema.open_api_v3_schema.as_ref().unwrap();
    let part = |key: &str| &schema.properties.as_ref().unwrap()[key];
    let mut rules = Vec::new();
    let mut tables = String::new();
    for key in keys {
        let mut rows = Vec::new();
        fields(key, part(key), &mut rows, &mut rules);
        let table = format!(
            "\n### `{key}` of a {}\n\n| Field | Type | Default | What it is |\n|---|---|---|---|\n{}",
            names.kind,
            rows.concat()
        );
        tables.push_str(&table);
    }
    let rules = if rules.is_empty() {
        String::new()
    } else {
        let rules = rules.iter().map(|rule| format!("- {rule}\n"));
        format!("\n\nRules:\n\n{}", rules.collect::<String>())
    };
    let short = names.short_names.clone().unwrap_or_default().join(", ");
    let description = part("spec").description.clone().unwrap_or_default();
    format!(
        "## {}\n\n{}\n\n`{}`, in short `{short}`; {}.{rules}\n{tables}",
        names.kind,
        one_line(&description),
        names.plural,
        if crd.spec.scope == "Namespaced" {
            "in a namespace"
        } else {
            "of the cluster"
        },
    )
}

/// A row for each field below one, in the order of their names.
fn fields(path: &str, schema: &JSONSchemaProps, rows: &mut Vec<String>, rules: &mut Vec<String>) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let message = rule.message.clone().unwrap_or_else(|| rule.rule.clone());
        rules.push(format!("`{path}`: {message}"));
    }
    let required = schema.required.clone().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        rows.push(row(&path, field, required.contains(name)));
        if is_label_selector(field) || ELSEWHERE.contains(&path.as_str()) {
            continue;
        }
        match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) => {
                fields(&format!("{path}[]"), item, rows, rules);
            }
            _ => fields(&path, field, rows, rules),
        }
    }
}

fn row(path: &str, field: &JSONSchemaProps, is_required: bool) -> String {
    let default = match &field.default {
        _ if is_required => "*required*".to_owned(),
        Some(default) if default.0.is_object() => String::new(),
        Some(default) => format!("`{}`", default.0.to_string().replace('"', "")),
        None => String::new(),
    };
    let description = field.description.clone().unwrap_or_default();
    let bounds = bounds(field);
    format!(
        "| `{path}` | {} | {default} | {} |\n",
        type_of(field),
        [one_line(&description), bounds].join(" ").trim()
    )
}

fn type_of(field: &JSONSchemaProps) -> String {
    if is_label_selector(field) {
        return "label selector".to_owned();
    }
    let type_ = field.type_.as_deref().unwrap_or("any");
    match &field.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}", type_of(item)),
        _ => type_.to_owned(),
    }
}

fn is_label_selector(field: &JSONSchemaProps) -> bool {
    let properties = field.properties.as_ref();
    properties.is_some_and(|properties| properties.contains_key("matchExpressions"))
}

/// Returns the allowed values of a field.
fn bounds(field: &JSONSchemaProps) -> String {
    let mut parts = Vec::new();
    if let Some(values) = &field.enum_ {
        let values = values.iter().filter(|value| !value.0.is_null());
        let values: Vec<String> = values
            .map(|v| format!("`{}`", v.0.to_string().replace('"', "")))
            .collect();
        parts.push(format!("One of {}.", values.join(", ")));
    }
    if let (Some(low), Some(high)) = (field.minimum, field.maximum) {
        parts.push(format!("From {low} to {high}."));
    }
    if let Some(most) = field.max_length {
        parts.push(format!("At most {most} long."));
    }
    if let Some(most) = field.max_items {
        parts.push(format!("At most {most}."));
    }
    if let Some(pattern) = &field.pattern {
        parts.push(format!("`{}`", pattern.replace('|', "\\|")));
    }
    parts.join(" ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
