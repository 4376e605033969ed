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
    shown.iter_mut().for_each(|answer| words(answer, &names));
    shown
}

fn shape(value: &mut Value, names: &mut Names) {
    let Value::Object(map) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(|item| shape(item, names));
        }
        return;
    };
    map.retain(|key, _| !NOT_COMPARED.contains(&key.as_str()));
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

/// Names what is named in the texts, too.
fn words(value: &mut Value, names: &Names) {
    match value {
        Value::String(text) => {
            for (value, name) in &names.0 {
                if value.len() >= 36 && text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), name);
                }
            }
            let parts = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
            let named = parts.map(|part| {
                let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                let name = names.0.get(word).filter(|name| name.starts_with("version-"));
                name.map_or_else(|| part.to_owned(), |name| part.replacen(word, name, 1))
            });
            *text = named.collect();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| words(item, names)),
        Value::Object(map) => map.values_mut().for_each(|value| words(value, names)),
        _ => {}
    }
}

/// Two texts side by side, line by line, with a mark where they differ.
pub fn side_by_side(left: &str, right: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let wide = left.iter().map(|line| line.chars().count()).max().unwrap_or_default().clamp(20, 90);
    let line =
        |lines: &[&str], at: usize| -> String { lines.get(at).copied().unwrap_or_default().to_owned() };
    let rows = (0..left.len().max(right.len())).map(|at| {
        let (left, right) = (line(&left, at), line(&right, at));
        let mark = if left == right { ' ' } else { '|' };
        format!("{left:wide$} {mark} {right}\n")
    });
    format!("{:wide$}   {}\n{}", "REAL", "SIMULATED", rows.collect::<String>())
}
