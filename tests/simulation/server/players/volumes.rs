//! The volume controllers. Each claim receives its own volume of its class. After the removal of the claim, the class
//! decides whether the volume is deleted.

use serde_json::{Value, json};

use super::super::delete::Deletion;
use super::super::kinds::{id, kinds};
use super::super::object;
use super::super::store::Key;
use super::super::update::Part;
use super::super::volumes::{CLAIM_PROTECTION, VOLUME_PROTECTION};
use super::super::world::World;
use super::{Step, take_off};

/// Creates a default storage class.
pub fn offer(world: &mut World, class: &str, reclaim: &str, grows: bool) {
    let class = json!({
        "metadata": {"name": class, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/simulated", "reclaimPolicy": reclaim, "allowVolumeExpansion": grows,
    });
    world.create(id::CLASS, "", class).expect("a class of volumes");
}

pub(super) fn steps(world: &World, steps: &mut Vec<Step>) {
    for (key, claim) in world.store().of_kind(id::CLAIM) {
        let phase = claim["status"]["phase"].as_str().unwrap_or_default();
        if object::is_going(claim) {
            if object::finalizers(claim).any(|one| one == CLAIM_PROTECTION) && !in_use(world, key) {
                steps.push(Step::Unprotect(key.clone()));
            }
        } else if phase == "Pending"
            && (class_of(world, claim).is_some() || meant_for(world, key, claim).is_some())
        {
            steps.push(Step::Provision(key.clone()));
        } else if phase == "Bound" && claim["status"]["capacity"]["storage"] != *requested(claim) {
            steps.push(Step::Grow(key.clone()));
        }
    }
    for (key, volume) in world.store().of_kind(id::VOLUME) {
        let phase = volume["status"]["phase"].as_str().unwrap_or_default();
        let delete = volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete";
        let lost = phase == "Bound" && claim_of(world, volume).is_none();
        let over = phase == "Released" && delete && !object::is_going(volume);
        let going = object::is_going(volume)
            && phase != "Bound"
            && object::finalizers(volume).any(|f| f == VOLUME_PROTECTION);
        if lost || over || going {
            steps.push(Step::Reclaim(key.clone()));
        }
    }
}

fn requested(claim: &Value) -> &Value {
    &claim["spec"]["resources"]["requests"]["storage"]
}

fn class_of<'a>(world: &'a World, claim: &Value) -> Option<&'a Value> {
    let class = claim["spec"]["storageClassName"].as_str()?;
    world.get(id::CLASS, "", class).map(|class| &**class)
}

/// Whether a scheduled pod uses the claim.
fn in_use(world: &World, key: &Key) -> bool {
    let uses = |pod: &Value| {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.any(|volume| volume["persistentVolumeClaim"]["claimName"] == key.name())
    };
    let mut pods = world.store().within(id::POD, key.namespace());
    pods.any(|(_, pod)| pod["spec"].get("nodeName").is_some() && uses(pod))
}

/// The claim with the UID in the `claimRef` of a volume.
fn claim_of<'a>(world: &'a World, volume: &Value) -> Option<&'a Value> {
    let reference = &volume["spec"]["claimRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let claim = world.get(id::CLAIM, text("namespace"), text("name"))?;
    (object::uid(claim) == text("uid")).then_some(&**claim)
}

/// The volume whose `claimRef` a user has set to this claim in advance.
fn meant_for<'a>(world: &'a World, key: &Key, claim: &Value) -> Option<&'a Key> {
    let mut volumes = world.store().of_kind(id::VOLUME).filter(|(_, volume)| !object::is_going(volume));
    let found = volumes.find(|(_, volume)| {
        let reference = &volume["spec"]["claimRef"];
        let uid = reference["uid"].as_str();
        reference["namespace"] == key.namespace()
            && reference["name"] == key.name()
            && uid.is_none_or(|uid| uid == object::uid(claim))
    });
    found.map(|(key, _)| key)
}

/// Binds a claim to the volume that refers to it, or to a new volume of its class.
pub fn provision(world: &mut World, key: &Key) {
    let Some(claim) = world.store().get(key).cloned() else { return };
    let name = match meant_for(world, key, &claim) {
        Some(volume) => volume.name().to_owned(),
        None => match make(world, key, &claim) {
            Some(name) => name,
            None => return,
        },
    };
    let volume = Key::new(kinds().at(id::VOLUME), "", &name);
    let reference = reference(key, &claim);
    // The next step retries a change that fails.
    let _ = world.change(&volume, Part::Main, |volume| volume["spec"]["claimRef"] = reference);
    let _ = world.change(&volume, Part::Status, |volume| volume["status"] = json!({"phase": "Bound"}));
    let capacity = world.store().get(&volume).map(|volume| volume["spec"]["capacity"].clone());
    let _ = world.change(key, Part::Main, |claim| {
        claim["spec"]["volumeName"] = name.as_str().into();
        let meta = object::meta_mut(claim);
        let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
        for done in ["bind-completed", "bound-by-controller"] {
            annotations[format!("pv.kubernetes.io/{done}")] = "yes".into();
        }
    });
    let _ = world.change(key, Part::Status, |claim| {
        claim["status"] =
            json!({"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": capacity});
    });
}

fn reference(key: &Key, claim: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": key.namespace(), "name": key.name(),
        "uid": object::uid(claim), "resourceVersion": object::text(claim, "resourceVersion"),
    })
}

/// Creates a volume of the class of a claim.
fn make(world: &mut World, key: &Key, claim: &Value) -> Option<String> {
    let class = class_of(world, claim)?;
    let name = format!("pvc-{}", object::uid(claim));
    let volume = json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": requested(claim)}, "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": class["reclaimPolicy"],
            "storageClassName": claim["spec"]["storageClassName"], "volumeMode": claim["spec"]["volumeMode"],
            "csi": {"driver": class["provisioner"], "volumeHandle": name},
            "claimRef": reference(key, claim),
        },
    });
    world.create(id::VOLUME, "", volume).ok()?;
    Some(name)
}

/// Sets the capacity of a claim to the requested size.
pub fn grow(world: &mut World, key: &Key) {
    let _ = world.change(key, Part::Status, |claim| {
        claim["status"]["capacity"]["storage"] = requested(claim).clone();
    });
}

pub fn unprotect(world: &mut World, key: &Key) {
    take_off(world, key, CLAIM_PROTECTION);
}

/// Does the next step with a volume whose claim is gone.
pub fn reclaim(world: &mut World, key: &Key) {
    let Some(volume) = world.store().get(key).cloned() else { return };
    if object::is_going(&volume) {
        take_off(world, key, VOLUME_PROTECTION);
    } else if volume["status"]["phase"] == "Bound" {
        let _ = world.change(key, Part::Status, |volume| volume["status"]["phase"] = "Released".into());
    } else {
        let _ = world.delete(key, &Deletion::default());
    }
}
