//! The normal form of answers: the parts that must be equal.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::script::Answer;

/// Fields that only the real server sets, or that concern its implementation.
const NOT_COMPARED: [&str; 3] = ["managedFields", "selfLink", "lastPhaseTransitionTime"];

/// Replacements of values that differ between servers, in the order of their appearance.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn name(&mut self, what: &str, value: &str) -> String {
        if value.is_empty() {
            return String::new();
        }
        let next = self.0.values().filter(|name| name.starts_with(what)).count() + 1;
        self.0.entry(value.to_owned()).or_insert_with(|| format!("{what}{next}")).clone()
    }
}

/// Replaces UIDs and versions by the order of their appearance, and times by their presence. Removes the wording of
/// messages on which no client relies.
pub fn normal(answers: &[Answer]) -> Vec<Value> {
    let mut names = Names::default();
    let mut shown: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let mut body = answer.body.clone();
            shape(&mut body, &mut names);
            serde_json::json!({"code": answer.code, "body": body})
        })
        .collect();
    // A message can contain a value that appears only later.
    for answer in &mut shown {
        words(answer, &names);
    }
    shown
}

fn shape(value: &mut Value, names: &mut Names) {
    let Value::Object(map) = value else {
        if let Value::Array(items) = value {
            for item in items {
                shape(item, names);
            }
        }
        return;
    };
    // A missing value and a null have the same meaning for a client.
    map.retain(|key, value| !NOT_COMPARED.contains(&key.as_str()) && !value.is_null());
    if map.get("kind").is_some_and(|kind| kind == "CustomResourceDefinition") {
        // The spec depends on the tool that applied the definition, and on its defaults.
        map.remove("spec");
        map.get_mut("status")
            .and_then(Value::as_object_mut)
            .and_then(|status| status.remove("acceptedNames"));
        map.get_mut("metadata").and_then(Value::as_object_mut).and_then(|meta| meta.remove("annotations"));
    }
    let is_list = map.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    let is_version = map.contains_key("gitVersion");
    if is_version {
        map.retain(|key, _| matches!(key.as_str(), "major" | "minor"));
    }
    let wordless = map.get("kind").is_some_and(|kind| kind == "Status")
        && matches!(map.get("code").and_then(Value::as_u64), Some(400 | 415 | 422 | 500 | 504));
    if wordless {
        map.remove("message");
        let causes = map.get_mut("details").and_then(|details| details.get_mut("causes"));
        for cause in causes.and_then(Value::as_array_mut).into_iter().flatten() {
            cause.as_object_mut().map(|cause| cause.remove("message"));
        }
    }
    if is_list && let Some(Value::Object(meta)) = map.get_mut("metadata") {
        // The version of a list is that of the whole store, to which other clients also write.
        for key in ["resourceVersion", "continue"] {
            if let Some(value) = meta.get_mut(key) {
                *value = "(there)".into();
            }
        }
    }
    // Values are numbered in the order of the answers, not in the order of the fields.
    for key in ["uid", "resourceVersion"] {
        if let Some(Value::String(text)) = map.get_mut(key)
            && text != "(there)"
        {
            *text = names.name(if key == "uid" { "uid-" } else { "version-" }, text);
        }
    }
    for (key, value) in map.iter_mut() {
        match value {
            Value::String(text) if text.parse::<Timestamp>().is_ok() => *text = "(a time)".into(),
            Value::String(text) if matches!(key.as_str(), "clusterIP") && text != "None" => {
                *text = "(an address)".into();
            }
            Value::Array(items) if key == "clusterIPs" => {
                for item in items.iter_mut().filter(|item| **item != "None") {
                    *item = "(an address)".into();
                }
            }
            _ => shape(value, names),
        }
    }
}

/// Replaces values in messages, too.
fn words(value: &mut Value, names: &Names) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(text) if key == "message" => *text = in_words(text, names),
                    other => words(other, names),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                words(item, names);
            }
        }
        _ => {}
    }
}

fn in_words(text: &str, names: &Names) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let parts = text.split_inclusive(|c: char| !fits(c));
    let renamed = parts.map(|part| {
        let word = part.trim_end_matches(|c: char| !fits(c));
        names.0.get(word).map_or_else(|| part.to_owned(), |name| part.replacen(word, name, 1))
    });
    renamed.collect()
}

/// The differences between two answers: the path, the value of the real server, and the value of the simulated one.
pub fn differences(real: &Value, simulated: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", Some(real), Some(simulated), &mut found);
    found
}

fn compare(at: &str, real: Option<&Value>, simulated: Option<&Value>, found: &mut Vec<String>) {
    match (real, simulated) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                compare(&format!("{at}/{key}"), one.get(key), other.get(key), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            for place in 0..one.len().max(other.len()) {
                compare(&format!("{at}/{place}"), one.get(place), other.get(place), found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".into(), Value::to_string);
            found.push(format!("  {at}\n    real:      {}\n    simulated: {}", shown(one), shown(other)));
        }
    }
}
