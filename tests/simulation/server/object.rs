//! Objects as JSON values, and the fields of their metadata that the server uses.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

/// A stored object. The value is immutable: a write stores a new value.
pub type Object = Arc<Value>;

/// Fields of `metadata` that the server stores.
const METADATA: [&str; 13] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

/// The metadata; empty for an object without metadata.
pub fn meta(object: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    object.get("metadata").and_then(Value::as_object).unwrap_or(&NONE)
}

/// The metadata as a mutable map.
pub fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    let place = &mut object["metadata"];
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    place.as_object_mut().expect("an object")
}

/// A text field of the metadata; empty for a missing field.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    meta(object).get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The UID; empty before the server sets it.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// The namespace; empty for cluster-scoped objects.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// The finalizers in their stored order.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    meta(object).get("finalizers").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether the object is being deleted.
pub fn is_going(object: &Value) -> bool {
    meta(object).contains_key("deletionTimestamp")
}

/// The grace period in seconds; `None` for an object that is not being deleted.
pub fn grace(object: &Value) -> Option<i64> {
    meta(object).get("deletionGracePeriodSeconds").and_then(Value::as_i64)
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    meta(object).get("labels")?.get(key)?.as_str()
}

pub fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    let meta = meta_mut(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), finalizers.iter().copied().collect());
    }
}

/// Increments the generation, if the kind has one.
pub fn bump_generation(object: &mut Value) {
    if let Some(generation) = meta(object).get("generation").and_then(Value::as_i64) {
        meta_mut(object).insert("generation".into(), (generation + 1).into());
    }
}

/// A time in the format of metadata: whole seconds.
pub fn seconds(at: Timestamp) -> Value {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string().into()
}

pub fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Removes the metadata that the server does not store: unknown fields, nulls and empty values.
pub fn clean_metadata(object: &mut Value) {
    let meta = meta_mut(object);
    meta.retain(|key, value| METADATA.contains(&key.as_str()) && !is_empty(value));
    for key in ["labels", "annotations"] {
        if let Some(Value::Object(map)) = meta.get_mut(key) {
            map.values_mut().filter(|value| value.is_null()).for_each(|value| *value = "".into());
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
