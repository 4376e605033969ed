//! The fields that the server sets in volumes and claims, and the changes of them that it permits.

use serde_json::{Value, json};

use super::kinds::{id, kinds};
use super::object;
use super::refusal::{Fault, Refusal};
use super::world::World;

/// Holds a claim while a pod uses it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Holds a volume while a claim uses it.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// Sets the defaults of a new claim.
pub fn prepare_claim(world: &World, claim: &mut Value) {
    protect(claim, CLAIM_PROTECTION);
    default(&mut claim["spec"], "volumeMode", json!("Filesystem"));
    if claim["spec"].get("storageClassName").is_none()
        && let Some(class) = default_class(world)
    {
        claim["spec"]["storageClassName"] = class.into();
    }
    claim["status"] = json!({"phase": "Pending"});
}

/// Sets the defaults of a new volume.
pub fn prepare_volume(volume: &mut Value) {
    protect(volume, VOLUME_PROTECTION);
    default(&mut volume["spec"], "volumeMode", json!("Filesystem"));
    default(&mut volume["spec"], "persistentVolumeReclaimPolicy", json!("Retain"));
    if let Some(path) = volume["spec"].get_mut("hostPath") {
        default(path, "type", json!(""));
    }
    volume["status"] = json!({"phase": "Pending"});
}

/// Sets the defaults of a new storage class.
pub fn prepare_class(class: &mut Value) {
    default(class, "reclaimPolicy", json!("Delete"));
    default(class, "volumeBindingMode", json!("Immediate"));
}

fn default_class(world: &World) -> Option<String> {
    const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
    let mut classes = world.store.of_kind(id::CLASS);
    let default = classes.find(|(_, class)| class["metadata"]["annotations"][DEFAULT] == "true")?;
    Some(default.0.name().to_owned())
}

fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers: Vec<String> = object::finalizers(object).map(str::to_owned).collect();
    if !finalizers.iter().any(|one| one == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
    object::set_finalizers(object, &finalizers.iter().map(String::as_str).collect::<Vec<_>>());
}

fn default(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(map) = object
        && !map.contains_key(field)
    {
        map.insert(field.into(), value);
    }
}

/// The forbidden changes of a claim spec.
pub fn claim_faults(new: &Value, old: &Value) -> Vec<Fault> {
    let bound = old["status"]["phase"] == "Bound";
    let fixed = |claim: &Value| {
        let mut spec = claim["spec"].clone();
        if bound {
            spec["resources"]["requests"]["storage"] = Value::Null;
        }
        // The volume controller sets the volume of an unbound claim.
        if old["spec"].get("volumeName").is_none() {
            spec.as_object_mut().map(|map| map.remove("volumeName"));
        }
        spec
    };
    if fixed(new) == fixed(old) {
        return Vec::new();
    }
    let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    vec![Fault::forbidden("spec", why)]
}

/// Refuses a larger claim if its storage class does not allow expansion.
pub fn may_grow(world: &World, new: &Value, old: &Value) -> Result<(), Refusal> {
    let size = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].clone();
    if size(new) == size(old) {
        return Ok(());
    }
    let class = old["spec"]["storageClassName"].as_str().unwrap_or_default();
    if world.get(id::CLASS, "", class).is_some_and(|class| class["allowVolumeExpansion"] == true) {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
               support resize";
    Err(Refusal::forbidden(kinds().at(id::CLAIM), object::name(old), why))
}
