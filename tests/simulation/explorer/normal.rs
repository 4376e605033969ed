//! The normal form of a cluster: the state without names and times that differ between runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use town_operator::api::names;
use town_operator::lifecycle::{Uid, child_name};

use super::{agent_kind, kind_name, town_kind};
use crate::server::kinds::id;
use crate::server::object::{Object, name, uid};
use crate::server::store::{Change, Key};
use crate::server::world::World;

/// Fields with the time or the number of attempts.
const PASSING: [&str; 29] = [
    // The operator writes the capacity only together with other changes.
    "capacity",
    // The generation of the specs at the creation of the pod.
    names::POD_GENERATION,
    "clusterIP",
    "clusterIPs",
    "deleteTime",
    "expireTime",
    "children",
    "receipts",
    "activityUnknownTime",
    "volumeName",
    "resourceVersion",
    "generation",
    "observedGeneration",
    "creationTimestamp",
    "lastTransitionTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "finishTime",
    "windowStartTime",
    "lastActiveTime",
    "lastActivityTime",
    "wakeTime",
    "usage",
    "attempts",
    "restarts",
    "sleepTime",
    "data",
    "podIP",
];

/// The normal form of the cluster, one entry for each object, in order.
pub fn normal_form(world: &World) -> BTreeMap<String, Value> {
    let called = names_of(world);
    let told = [id::EVENT, id::LEASE, id::DEFINITION, id::NODE, id::VOLUME];
    let all = world.store().all().filter(|(key, _)| !told.contains(&key.kind));
    let line = |(key, object): (&Key, &Object)| {
        let place = plain(&format!("{} {}", kind_name(key.kind), key.path), &called);
        let object = simple(object, &called);
        (place, object)
    };
    all.map(line).collect()
}

/// The differences between two final states.
pub fn differences(wanted: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> Vec<String> {
    let missing = wanted.keys().filter(|place| !found.contains_key(*place));
    let missing = missing.map(|place| format!("{place} is not there"));
    let more = found.keys().filter(|place| !wanted.contains_key(*place));
    let more = more.map(|place| format!("{place} is there"));
    let both = wanted.iter().filter_map(|(place, wanted)| Some((place, wanted, found.get(place)?)));
    let differ = both.flat_map(|(place, wanted, found)| {
        let mut all = Vec::new();
        compare(place, wanted, found, &mut all);
        all
    });
    missing.chain(more).chain(differ).collect()
}

fn compare(place: &str, wanted: &Value, found: &Value, all: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let null = Value::Null;
                let (one, other) = (one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null));
                compare(&format!("{place}.{key}"), one, other, all);
            }
        }
        _ if wanted == found => {}
        _ => all.push(format!("{place} is {found} and should be {wanted}")),
    }
}

/// The replacement of every UID, and of every name that contains a UID.
fn names_of(world: &World) -> Vec<(String, String)> {
    let mut called = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for event in world.log().iter().filter(|event| event.change == Change::Added) {
        let (object, kind) = (&event.object, event.key.kind);
        if kind == town_kind() || kind == agent_kind() {
            let count = seen.entry(event.key.path.clone()).or_default();
            *count += 1;
            let child = child_name(name(object), &Uid::new(uid(object)));
            called.push((child, format!("{}-{count}", name(object))));
            called.push((uid(object).to_owned(), format!("uid of {} {count}", event.key.path)));
        }
    }
    called
}

fn plain(text: &str, called: &[(String, String)]) -> String {
    called.iter().fold(text.to_owned(), |text, (from, to)| {
        if text.contains(from.as_str()) { text.replace(from.as_str(), to) } else { text }
    })
}

fn simple(value: &Value, called: &[(String, String)]) -> Value {
    match value {
        Value::String(text) => Value::String(without_time(plain(text, called))),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| simple(item, called)).collect();
            // The stored order of conditions is the order of their first write.
            if items.iter().all(|item| item.get("type").is_some()) {
                items.sort_by(|one, other| one["type"].as_str().cmp(&other["type"].as_str()));
            }
            Value::Array(items)
        }
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !PASSING.contains(&key.as_str()));
            let mut kept: Map<String, Value> =
                kept.map(|(key, value)| (key.clone(), simple(value, called))).collect();
            // The operator keeps only the start time of a pod that is gone.
            if kept.get("pod").and_then(Value::as_object).is_some_and(Map::is_empty) {
                kept.remove("pod");
            }
            // The UID differs between runs.
            if let Some(uid) = kept.get_mut("uid") {
                *uid = "a uid".into();
            }
            for key in [names::POD_REVISION, "revision"] {
                if let Some(revision) = kept.get_mut(key) {
                    *revision = "a revision".into();
                }
            }
            Value::Object(kept)
        }
        other => other.clone(),
    }
}

/// A text without its times.
fn without_time(text: String) -> String {
    if !text.contains('T') || !text.contains(':') {
        return text;
    }
    let words = text.split_inclusive([' ', '@', ',', ';']);
    words
        .map(|word| {
            let bare = word.trim_end_matches([' ', '@', ',', ';']);
            if bare.parse::<k8s_openapi::jiff::Timestamp>().is_ok() {
                format!("a time{}", &word[bare.len()..])
            } else {
                word.to_owned()
            }
        })
        .collect()
}
