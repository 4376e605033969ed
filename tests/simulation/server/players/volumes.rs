//! Those who look after volumes: every claim gets one of its own, of its class; it goes with its claim, or stays
//! behind, as its class says.

use serde_json::{Value, json};

use super::super::delete::Deletion;
use super::super::kinds::{id, kinds};
use super::super::object;
use super::super::store::Key;
use super::super::update::Part;
use super::super::volumes::{CLAIM_PROTECTION, VOLUME_PROTECTION};
use super::super::world::World;
use super::{Step, take_off};

/// Lets there be a class of volumes that is taken where a claim names none.
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

/// Whether a pod that has a node uses the claim.
fn in_use(world: &World, key: &Key) -> bool {
    let uses = |pod: &Value| {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.any(|volume| volume["persistentVolumeClaim"]["claimName"] == key.name())
    };
    let mut pods = world.store().within(id::POD, key.namespace());
    pods.any(|(_, pod)| pod["spec"].get("nodeName").is_some() && uses(pod))
}

/// The very claim that a volume is for.
fn claim_of<'a>(world: &'a World, volume: &Value) -> Option<&'a Value> {
    let reference = &volume["spec"]["claimRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let claim = world.get(id::CLAIM, text("namespace"), text("name"))?;
    (object::uid(claim) == text("uid")).then_some(&**claim)
}

/// The volume that somebody made for this claim.
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

/// Gives a claim the volume that is meant for it, or a new one of its class.
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
    // Whoever changed them meanwhile is looked at again.
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

/// Makes a volume for a claim, of its class.
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

/// Lets the volume of a claim grow to what the claim asks for.
pub fn grow(world: &mut World, key: &Key) {
    let _ = world.change(key, Part::Status, |claim| {
        claim["status"]["capacity"]["storage"] = requested(claim).clone();
    });
}

/// No pod uses the claim any more.
pub fn unprotect(world: &mut World, key: &Key) {
    take_off(world, key, CLAIM_PROTECTION);
}

/// Does what comes next with a volume whose claim is gone.
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
