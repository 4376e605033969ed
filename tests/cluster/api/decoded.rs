//! The operator can decode every object that the API server accepts. A town that the operator cannot decode would
//! neither sleep nor be deleted.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use town_operator::api::{Agent, Town, crds};

use super::{merged, try_create};
use crate::common::seen::Kind;
use crate::common::story::{Story, template};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(undecodable_values_are_refused_by_the_schema);
}

/// A step of the path from the spec to a value.
#[derive(Clone)]
enum Step {
    Field(String),
    Item,
    Entry,
}

/// A value of a spec: its path and its schema.
struct Leaf {
    way: Vec<Step>,
    schema: Value,
}

// S11: values at the limits of JSON, the API server and Rust.
async fn undecodable_values_are_refused_by_the_schema(story: Story) {
    let town = json!({"template": template(), "storage": {"size": "1Gi"}});
    let agent = json!({"townName": "t", "role": "Crew", "storage": {"size": "1Gi"}});
    let of_towns = try_all::<Town>(&story, &town, &["agentTemplate"]).await;
    // The schemas of all templates are the same.
    let of_agents = try_all::<Agent>(&story, &agent, &["template"]).await;
    assert!(of_towns.values > 300 && of_agents.values > 20, "{of_towns:?} {of_agents:?}");
    let accepted: Vec<_> = of_towns.accepted.into_iter().chain(of_agents.accepted).collect();
    assert!(accepted.is_empty(), "accepted, and cannot be read:\n{}", accepted.join("\n"));
    // A refusal is evidence only if the API server accepts another value of the same field.
    let unproven: Vec<_> = of_towns.unproven.into_iter().chain(of_agents.unproven).collect();
    assert!(unproven.is_empty(), "no value is accepted:\n{}", unproven.join("\n"));
}

#[derive(Debug, Default)]
struct Tried {
    values: usize,
    accepted: Vec<String>,
    unproven: Vec<String>,
}

async fn try_all<K: Kind + DeserializeOwned + Debug>(story: &Story, base: &Value, skipped: &[&str]) -> Tried {
    let kind = K::kind(&()).into_owned();
    let crd = crds().unwrap().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
    let schema = &schema["openAPIV3Schema"]["properties"]["spec"];
    let mut leaves = Vec::new();
    collect(schema, &mut Vec::new(), skipped, &mut leaves);
    let mut tried = Tried::default();
    for leaf in leaves {
        let spec = |value: Value| merged(base.clone(), place(schema, &leaf.way, value));
        let cannot_be_read = |value: &&Value| {
            let object = json!({
                "apiVersion": K::api_version(&()), "kind": kind, "metadata": {"name": "x"},
                "spec": spec((*value).clone()),
            });
            serde_json::from_value::<K>(object).is_err()
        };
        let values = hostile(&leaf.schema);
        let unread: Vec<_> = values.iter().filter(cannot_be_read).collect();
        if unread.is_empty() {
            continue;
        }
        let path = shown(&leaf.way);
        for value in unread {
            tried.values += 1;
            if try_create::<K>(story, &spec(value.clone())).await.is_ok() {
                tried.accepted.push(format!("{kind} {path}: {value}"));
            }
        }
        if let Err(why) = try_create::<K>(story, &spec(minimal(&leaf.schema))).await {
            tried.unproven.push(format!("{kind} {path}: {why}"));
        }
    }
    tried
}

/// Values that have almost the type of the leaf, at the limits of the types in the chain.
fn hostile(schema: &Value) -> Vec<Value> {
    let numbers = [
        json!(0),
        json!(-1),
        json!(i64::from(i32::MAX) + 1),
        json!(i64::from(i32::MIN) - 1),
        json!(3_000_000_000_i64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(1e19),
        json!(1e300),
    ];
    let texts = [
        "",
        "x",
        "\0",
        "-1",
        "3000000000",
        "1.5",
        "1e999",
        "99999999999999999999Ei",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2030-01-01T00:00:00,5Z",
        "2030-01-01T00:00:00.1234567891Z",
        "2030-01-01T23:59:60Z",
        "2030-01-01T00:00:00+24:00",
        "2030-01-01t00:00:00z",
        "2030-02-29T00:00:00Z",
    ];
    let texts = texts.map(Value::from);
    match schema["type"].as_str() {
        Some("integer" | "number") => numbers.into(),
        Some("string") => texts.into(),
        Some("boolean") => vec![json!("true"), json!(1)],
        _ => [&numbers[..], &texts[..]].concat(),
    }
}

/// The values below a schema, without the skipped fields at its root.
fn collect(schema: &Value, way: &mut Vec<Step>, skipped: &[&str], leaves: &mut Vec<Leaf>) {
    let mut below = |step: Step, inner: &Value| {
        way.push(step);
        collect(inner, way, &[], leaves);
        way.pop();
    };
    if let Some(fields) = schema["properties"].as_object() {
        for (name, inner) in fields.iter().filter(|(name, _)| !skipped.contains(&name.as_str())) {
            below(Step::Field(name.clone()), inner);
        }
    } else if schema["items"].is_object() {
        below(Step::Item, &schema["items"]);
    } else if schema["additionalProperties"].is_object() {
        below(Step::Entry, &schema["additionalProperties"]);
    } else {
        leaves.push(Leaf { way: way.clone(), schema: schema.clone() });
    }
}

/// The smallest value of this schema that has the value at the end of the path.
fn place(schema: &Value, way: &[Step], value: Value) -> Value {
    let Some((step, rest)) = way.split_first() else { return value };
    match step {
        Step::Field(name) => {
            let mut object = minimal(schema);
            object[name] = place(&schema["properties"][name], rest, value);
            object
        }
        Step::Item => json!([place(&schema["items"], rest, value)]),
        Step::Entry => json!({"cpu": place(&schema["additionalProperties"], rest, value)}),
    }
}

/// The smallest value that the schema accepts.
fn minimal(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = required.map(|name| (name.to_owned(), minimal(&schema["properties"][name])));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Some("array") if schema["minItems"].as_u64().unwrap_or_default() > 0 => {
            json!([minimal(&schema["items"])])
        }
        Some("array") => json!([]),
        Some("string") => {
            let pattern = schema["pattern"].as_str().map(|pattern| regex::Regex::new(pattern).unwrap());
            let texts = ["a", "5m", "/a", "2030-01-01T00:00:00Z"];
            let fits = |text: &&str| pattern.as_ref().is_none_or(|pattern| pattern.is_match(text));
            texts.into_iter().find(fits).unwrap_or_default().into()
        }
        Some("boolean") => true.into(),
        _ => schema["minimum"].as_i64().unwrap_or(1).max(1).into(),
    }
}

fn shown(way: &[Step]) -> String {
    let steps = way.iter().map(|step| match step {
        Step::Field(name) => format!(".{name}"),
        Step::Item => "[]".to_owned(),
        Step::Entry => "{}".to_owned(),
    });
    format!("spec{}", steps.collect::<String>())
}
