//! The `CustomResourceDefinition`s, as they are installed.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::CustomResourceExt;
use serde_json::Value;

use super::names;
use super::{Agent, Tombstone, Town};

/// Raised with every change of a schema. At start-up the operator refuses CRDs that are older.
pub const SCHEMA_REVISION: i64 = 3;

/// All our CRDs, ready to install.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [Town::crd(), Agent::crd(), Tombstone::crd()].into_iter().map(finish).collect()
}

/// One CRD as a YAML document.
pub fn to_yaml(crd: &CustomResourceDefinition) -> Result<String, YamlError> {
    // Through a JSON value: it sorts the keys, so that equal types give equal files.
    Ok(serde_saphyr::to_string(&serde_json::to_value(crd)?)?)
}

/// A CRD that could not be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It has no JSON form.
    #[error("the CRD has no JSON form")]
    Json(#[from] serde_json::Error),
    /// The YAML writer refused it.
    #[error("the CRD cannot be written as YAML")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

fn finish(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    // With `nullable` a null would be stored and count as set in CEL's has(); without it, it is dropped.
    remove_key(&mut value, "nullable");
    default_phase(&mut value);
    let mut crd: CustomResourceDefinition = serde_json::from_value(value)?;
    crd.metadata.annotations =
        Some(BTreeMap::from([(names::SCHEMA_REVISION.to_owned(), SCHEMA_REVISION.to_string())]));
    Ok(crd)
}

/// A Tombstone says Destroying from the moment that it is there: the status that a create brings is dropped, so
/// the schema has to say it.
fn default_phase(crd: &mut Value) {
    let kind = crd.pointer("/spec/names/kind").and_then(Value::as_str);
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    if kind == Some(<Tombstone as kube::core::Resource>::kind(&()).as_ref())
        && let Some(status) = crd.pointer_mut(status)
    {
        status["default"] = Value::Object(serde_json::Map::new());
    }
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
