//! The installed form of the `CustomResourceDefinition`s.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;
use serde_json::{Value, json};

use super::{Agent, Tombstone, Town};
use super::{condition, names, storage};

/// The revision of the schemas. Raise it with every change of a schema: the operator refuses to start with older CRDs.
pub const SCHEMA_REVISION: i64 = 6;

/// The CRDs of the operator, ready to install.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [Town::crd(), Agent::crd(), Tombstone::crd()].into_iter().map(finish).collect()
}

/// The CRD as a YAML document.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, YamlError> {
    // Through a JSON value: it sorts the keys, so that equal types give equal files.
    Ok(serde_saphyr::to_string(&serde_json::to_value(crd)?)?)
}

/// A CRD that could not be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// The CRD has no JSON form.
    #[error("the CRD has no JSON form")]
    Json(#[from] serde_json::Error),
    /// The YAML writer refused the CRD.
    #[error("the CRD cannot be written as YAML")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

fn finish(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    // With `nullable` the API server stores a null, and CEL's has() is true for it. Without `nullable` it drops the null.
    remove_key(&mut value, "nullable");
    bound_times(&mut value);
    finish_schema(&mut value);
    let mut crd: CustomResourceDefinition = serde_json::from_value(value)?;
    crd.metadata.annotations =
        Some(BTreeMap::from([(names::SCHEMA_REVISION.to_owned(), SCHEMA_REVISION.to_string())]));
    Ok(crd)
}

/// The times that both the API server and the operator can decode: in UTC, with at most nine decimals.
const TIME: &str =
    r"^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z$";

/// The API server accepts times that the operator cannot decode: with a comma, a second 60, or the year 9999.
fn bound_times(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("format").is_some_and(|format| format == "date-time") && !map.contains_key("pattern") {
                map.insert("pattern".into(), TIME.into());
            }
            map.values_mut().for_each(bound_times);
        }
        Value::Array(items) => items.iter_mut().for_each(bound_times),
        _ => {}
    }
}

/// Adds the status of an object before its first reconcile, and the rules that need the whole object. The API server
/// drops the status of a create request, so the schema must contain it as a default.
fn finish_schema(crd: &mut Value) {
    let kind = crd.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(root) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") else { return };
    let status = match kind.as_str() {
        "Town" => not_observed(&condition::OF_TOWN),
        "Agent" => not_observed(&condition::OF_AGENT),
        // A Tombstone has the phase Destroying from its creation.
        _ => json!({}),
    };
    if let Some(Value::Object(schema)) = root.pointer_mut("/properties/status") {
        schema.insert("default".into(), status);
    }
    if kind != "Tombstone"
        && let Value::Object(root) = root
        && let Value::Array(rules) = root.entry("x-kubernetes-validations").or_insert_with(|| json!([]))
    {
        rules.extend(storage::transitions());
    }
}

/// Tools that wait for an object treat an object without a status as ready, so the schema adds a status.
fn not_observed(types: &[&str]) -> Value {
    let unknown = |type_: &&str| {
        json!({
            "type": type_, "status": "Unknown", "reason": condition::reason::NOT_OBSERVED,
            "message": "the operator has not reconciled this object yet",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    json!({
        "observedGeneration": condition::NOT_OBSERVED, "conditions": types.iter().map(unknown).collect::<Vec<_>>(),
    })
}

fn remove_key(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => {
            if map.get(key).is_some_and(Value::is_boolean) {
                map.remove(key);
            }
            map.values_mut().for_each(|v| remove_key(v, key));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| remove_key(v, key)),
        _ => {}
    }
}
