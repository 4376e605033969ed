//! What must be the same in both answers, with what cannot be taken out.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::script::Answer;

/// Fields that only the real server fills, or that tell of its own machinery.
const NOT_COMPARED: [&str; 3] = ["managedFields", "selfLink", "lastPhaseTransitionTime"];

/// Names for what differs from server to server, in the order in which they appeared.
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

/// The answers with UIDs and versions named by their order of appearance, times by being there, and without the
/// wording of messages that nobody relies on.
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
    // A message may speak of what only appears later.
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
    // Nothing at all, or a null: to whoever reads it that is the same.
    map.retain(|key, value| !NOT_COMPARED.contains(&key.as_str()) && !value.is_null());
    if map.get("kind").is_some_and(|kind| kind == "CustomResourceDefinition") {
        // Whether it was applied by kubectl or built in, and with which defaults.
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
        // The version of a list is that of the whole store, in which others write, too.
        for key in ["resourceVersion", "continue"] {
            if let Some(value) = meta.get_mut(key) {
                *value = "(there)".into();
            }
        }
    }
    // What comes first, is named first: not in the order of the fields.
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

/// Names what is named in messages, too.
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

/// Where two answers differ, and how: a place, what the real server says there, and what the simulated one says.
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
