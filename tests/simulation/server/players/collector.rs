//! The garbage collector. An object is deleted if none of its owners exists. An owner with the policy `Foreground` is
//! removed after its dependents. An owner with the policy `Orphan` is removed after its dependents no longer refer to
//! it.
//!
//! The UID identifies an owner. Another object with the same name is not the owner.

use serde_json::Value;

use super::super::delete::{Deletion, FOREGROUND, ORPHAN, Propagation};
use super::super::kinds::kinds;
use super::super::object::{self, Object};
use super::super::store::Key;
use super::super::update::Part;
use super::super::world::World;
use super::{Step, take_off};

pub(super) fn steps(world: &World, steps: &mut Vec<Step>) {
    for (key, object) in world.store().all() {
        if decide(world, key, object).is_some() {
            steps.push(Step::Collect(key.clone()));
        }
    }
}

/// Processes an object once.
pub fn collect(world: &mut World, key: &Key) {
    let Some(object) = world.store().get(key).cloned() else { return };
    match decide(world, key, &object) {
        None => {}
        Some(Verdict::TakeOff(finalizer)) => take_off(world, key, finalizer),
        Some(Verdict::Disown(dependents, uids)) => {
            for dependent in dependents {
                disown(world, &dependent, &uids);
            }
        }
        Some(Verdict::Delete(propagation)) => {
            let deletion = Deletion {
                uid: Some(object::uid(&object).to_owned()),
                version: Some(object::text(&object, "resourceVersion").to_owned()),
                propagation: Some(propagation),
                grace: None,
            };
            // The delete cannot fail: the collector has just read the object.
            let _ = world.delete(key, &deletion);
        }
    }
}

enum Verdict {
    /// Remove the finalizer of the collector from the object.
    TakeOff(&'static str),
    /// Remove the references to these owners from these dependents.
    Disown(Vec<Key>, Vec<String>),
    /// Delete the object.
    Delete(Propagation),
}

fn decide(world: &World, key: &Key, object: &Object) -> Option<Verdict> {
    let has = |finalizer: &str| object::finalizers(object).any(|one| one == finalizer);
    if object::is_going(object) {
        if has(ORPHAN) {
            let own = dependents(world, key, object);
            return Some(if own.is_empty() {
                Verdict::TakeOff(ORPHAN)
            } else {
                let keys = own.into_iter().map(|(key, _)| key.clone()).collect();
                Verdict::Disown(keys, vec![object::uid(object).to_owned()])
            });
        }
        if has(FOREGROUND) {
            let own = dependents(world, key, object);
            let blocked = own.iter().any(|(_, dependent)| blocks(dependent, object::uid(object)));
            return (!blocked).then_some(Verdict::TakeOff(FOREGROUND));
        }
        return None;
    }
    let references = owners(object);
    let mut solid = false;
    let (mut dangling, mut waiting) = (Vec::new(), Vec::new());
    for reference in references {
        match owner(world, key.namespace(), reference) {
            None => dangling.push(uid_of(reference)),
            Some(owner) => {
                let waits = object::is_going(owner) && object::finalizers(owner).any(|one| one == FOREGROUND);
                if waits { waiting.push(uid_of(reference)) } else { solid = true }
            }
        }
    }
    if dangling.is_empty() && waiting.is_empty() {
        return None;
    }
    if solid {
        dangling.append(&mut waiting);
        return Some(Verdict::Disown(vec![key.clone()], dangling));
    }
    Some(Verdict::Delete(if !waiting.is_empty() && !dependents(world, key, object).is_empty() {
        Propagation::Foreground
    } else if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    }))
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object::meta(object).get("ownerReferences").and_then(Value::as_array).into_iter().flatten()
}

fn uid_of(reference: &Value) -> String {
    reference["uid"].as_str().unwrap_or_default().to_owned()
}

/// The owner with the UID in a reference of an object in this namespace.
fn owner<'a>(world: &'a World, namespace: &str, reference: &Value) -> Option<&'a Object> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let kind = kinds().of_object(text("apiVersion"), text("kind"))?;
    // A cluster-scoped object cannot have a namespaced owner.
    if kind.namespaced && namespace.is_empty() {
        return None;
    }
    let found = world.store().get(&Key::new(kind, namespace, text("name")))?;
    (object::uid(found) == text("uid")).then_some(found)
}

/// The objects that refer to this object as an owner, by UID.
fn dependents<'a>(world: &'a World, key: &Key, object: &Object) -> Vec<(&'a Key, &'a Object)> {
    let uid = object::uid(object);
    let within = |other: &Key| key.namespace().is_empty() || key.namespace() == other.namespace();
    let named = |other: &Object| owners(other).any(|reference| reference["uid"] == uid);
    world.store().all().filter(|(other, dependent)| within(other) && named(dependent)).collect()
}

fn blocks(dependent: &Value, uid: &str) -> bool {
    owners(dependent).any(|reference| reference["uid"] == uid && reference["blockOwnerDeletion"] == true)
}

fn disown(world: &mut World, key: &Key, uids: &[String]) {
    // A dependent that is already removed has no references.
    let _ = world.change(key, Part::Main, |object| {
        let meta = object::meta_mut(object);
        if let Some(Value::Array(references)) = meta.get_mut("ownerReferences") {
            references.retain(|reference| !uids.contains(&uid_of(reference)));
            if references.is_empty() {
                meta.remove("ownerReferences");
            }
        }
    });
}
