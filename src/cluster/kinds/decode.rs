//! The decoding of objects. Every stored object stays known, whether the operator can decode it completely or not.
//!
//! Invariant kept here: a Town or Agent with an undecodable part is still a Town or Agent. The operator uses the
//! readable parts, and marks the object as unreadable: the operator creates nothing from the object, but can destroy
//! it. A volume claim with an unreadable policy is retained. Large fields that the operator does not need
//! (managedFields, the copy of the manifest from kubectl) are dropped before the object is decoded.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::api::{Agent, AgentSpec, Storage, Tombstone, Town, TownSpec};

/// The copy of a manifest that `kubectl apply` stores.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object, or the metadata of an object that cannot be decoded.
#[derive(Clone, Debug)]
pub struct Decoded<K>(pub Result<K, Undecodable>);

/// An object of which only the metadata can be decoded.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// The error of the decoding.
    pub error: String,
}

/// A kind that may be decoded partially.
pub trait Decode: DeserializeOwned {
    /// The decodable part of the object, marked as unreadable; `None`: only the metadata can be decoded.
    fn in_part(_object: &Value, _error: &str) -> Option<Self> {
        None
    }
}

impl Decode for Pod {}
impl Decode for PersistentVolumeClaim {}
impl Decode for Service {}
impl Decode for Secret {}
impl Decode for Tombstone {}

impl Decode for Town {
    fn in_part(object: &Value, error: &str) -> Option<Self> {
        let metadata = ObjectMeta::deserialize(object.get("metadata")?).ok()?;
        let found = fields(object.get("spec"));
        let mut spec: TownSpec = readable(found, &[])?;
        spec.storage = spec.storage.or_else(|| retained(found));
        let mut town = Self::new("", spec);
        town.metadata = metadata;
        town.status = object.get("status").and_then(|status| readable(fields(Some(status)), &[]));
        // The operator replaces the whole status, so only the spec can make an object unreadable.
        let spec = object.get("spec").unwrap_or(&Value::Null);
        town.spec.unreadable = TownSpec::deserialize(spec).is_err().then(|| error.to_owned());
        Some(town)
    }
}

impl Decode for Agent {
    fn in_part(object: &Value, error: &str) -> Option<Self> {
        let metadata = ObjectMeta::deserialize(object.get("metadata")?).ok()?;
        let found = fields(object.get("spec"));
        let mut spec: AgentSpec = readable(found, &[("townName", json!("")), ("role", json!("Crew"))])?;
        spec.storage = spec.storage.or_else(|| retained(found));
        let mut agent = Self::new("", spec);
        agent.metadata = metadata;
        agent.status = object.get("status").and_then(|status| readable(fields(Some(status)), &[]));
        let spec = object.get("spec").unwrap_or(&Value::Null);
        agent.spec.unreadable = AgentSpec::deserialize(spec).is_err().then(|| error.to_owned());
        Some(agent)
    }
}

fn fields(object: Option<&Value>) -> Option<&Map<String, Value>> {
    object.and_then(Value::as_object)
}

/// A struct from the fields that can be decoded. The values of `required` replace required fields that cannot be
/// decoded.
fn readable<T: DeserializeOwned>(
    found: Option<&Map<String, Value>>,
    required: &[(&str, Value)],
) -> Option<T> {
    let mut kept: Map<_, _> =
        required.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for (name, value) in found.into_iter().flatten() {
        let before = kept.insert(name.clone(), value.clone());
        if T::deserialize(&Value::Object(kept.clone())).is_err() {
            match before {
                Some(before) => kept.insert(name.clone(), before),
                None => kept.remove(name),
            };
        }
    }
    T::deserialize(Value::Object(kept)).ok()
}

/// The storage for an owner whose storage cannot be decoded: the operator must not delete its volume claim.
fn retained(found: Option<&Map<String, Value>>) -> Option<Storage> {
    found?.get("storage").filter(|storage| !storage.is_null())?;
    serde_json::from_value(json!({"retainPolicy": "Retain"})).ok()
}

impl<'de, K: Decode + Resource<DynamicType = ()>> Deserialize<'de> for Decoded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(LAST_APPLIED);
            }
        }
        match K::deserialize(&object) {
            Ok(decoded) => Ok(Self(Ok(decoded))),
            Err(error) => {
                let error = error.to_string();
                if let Some(decoded) = K::in_part(&object, &error) {
                    return Ok(Self(Ok(decoded)));
                }
                let metadata =
                    PartialObjectMeta::<K>::deserialize(&object).map_err(D::Error::custom)?.metadata;
                Ok(Self(Err(Undecodable { metadata, error })))
            }
        }
    }
}

impl<K: Resource> Resource for Decoded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(undecodable) => &undecodable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(undecodable) => &mut undecodable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that the schema of an int-or-string accepts and that no pod can have.
    const PORT: i64 = 3_000_000_000;

    fn template() -> Value {
        let probe = json!({"httpGet": {"port": PORT}});
        json!({"spec": {"containers": [{"name": "main", "livenessProbe": probe}]}})
    }

    #[allow(clippy::result_large_err)] // The watch has the same type.
    fn decoded<K: Decode + Resource<DynamicType = ()>>(object: Value) -> Result<K, Undecodable> {
        let decoded: Decoded<K> = serde_json::from_value(object).unwrap();
        decoded.0
    }

    fn object(kind: &str, spec: &Value, status: &Value) -> Value {
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
            "metadata": {"name": "gas", "namespace": "ns", "uid": "u", "finalizers": ["gastown.dev/cleanup"],
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
                "annotations": {LAST_APPLIED: "{}", "gastown.dev/paused": "true"}}})
    }

    // security.md S11, S3.
    #[test]
    fn town_keeps_its_readable_parts_when_its_template_cannot_be_decoded() {
        let spec = json!({"template": template(), "suspend": true, "rigs": [{"name": "core"}]});
        let town: Town = decoded(object("Town", &spec, &json!({"phase": "Idle"}))).unwrap();
        assert!(town.spec.unreadable.is_some() && town.spec.template.is_none());
        assert!(town.spec.suspend && town.spec.rigs.len() == 1);
        assert_eq!(town.status.unwrap().phase.as_deref(), Some("Idle"));
        assert_eq!(town.metadata.uid.as_deref(), Some("u"));
        assert!(town.metadata.managed_fields.is_none());
        assert_eq!(
            town.metadata.annotations.unwrap().into_keys().collect::<Vec<_>>(),
            ["gastown.dev/paused"]
        );
    }

    #[test]
    fn agent_keeps_its_readable_parts_when_its_template_or_role_cannot_be_decoded() {
        let spec = json!({"townName": "gas", "role": "Polecat", "rig": "core", "template": template()});
        let agent: Agent = decoded(object("Agent", &spec, &json!(null))).unwrap();
        assert!(agent.spec.unreadable.is_some() && agent.spec.template.is_none());
        assert_eq!((agent.spec.town_name.as_str(), agent.spec.rig.as_deref()), ("gas", Some("core")));
        let spec = json!({"townName": "gas", "role": "a-role-of-tomorrow"});
        let agent: Agent = decoded(object("Agent", &spec, &json!(null))).unwrap();
        assert!(agent.spec.unreadable.is_some() && agent.spec.town_name == "gas");
    }

    #[test]
    fn town_stays_readable_when_its_status_cannot_be_decoded() {
        let status = json!({"phase": "Asleep", "asleepReason": {"of": "tomorrow"}});
        let town: Town = decoded(object("Town", &json!({}), &status)).unwrap();
        assert_eq!(town.spec.unreadable, None);
        assert_eq!(town.status.unwrap().phase.as_deref(), Some("Asleep"));
    }

    #[test]
    fn claim_is_retained_when_its_policy_cannot_be_decoded() {
        let spec = json!({"storage": {"size": "1Gi", "retainPolicy": "Tomorrow"}, "template": template()});
        let town: Town = decoded(object("Town", &spec, &json!(null))).unwrap();
        assert!(town.spec.storage.unwrap().is_retained());
        let spec = json!({"storage": {"size": "1Gi"}, "template": template()});
        let town: Town = decoded(object("Town", &spec, &json!(null))).unwrap();
        assert!(!town.spec.storage.unwrap().is_retained());
    }

    #[test]
    fn town_is_decoded_whole_when_its_template_is_valid() {
        let spec = json!({"template": {"spec": {"containers": [{"name": "main"}]}}});
        let town: Town = decoded(object("Town", &spec, &json!(null))).unwrap();
        assert!(town.spec.unreadable.is_none() && town.spec.template.unwrap().whole().is_some());
    }

    #[test]
    fn pod_metadata_is_known_when_the_pod_cannot_be_decoded() {
        let mut pod = object("Pod", &template()["spec"], &json!(null));
        pod["apiVersion"] = json!("v1");
        let undecodable = decoded::<Pod>(pod).unwrap_err();
        assert_eq!(undecodable.metadata.uid.as_deref(), Some("u"));
        assert!(!undecodable.error.is_empty());
    }
}
