//! The controller of definitions: from the moment that one is wound up nothing new of its kind is made; all that
//! there is goes; then so does the definition.

use serde_json::{Value, json};

use super::super::create::is_terminating;
use super::super::delete::Deletion;
use super::super::kinds::{id, kinds};
use super::super::object;
use super::super::store::Key;
use super::super::update::Part;
use super::super::world::World;
use super::{Step, take_off};

/// Holds a definition while there are objects of its kind.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(super) fn steps(world: &World, steps: &mut Vec<Step>) {
    for (key, definition) in world.store().of_kind(id::DEFINITION) {
        if !object::is_going(definition) || !object::finalizers(definition).any(|one| one == CLEANUP) {
            continue;
        }
        let Some(kind) = kinds().defined_by(key.name()) else { continue };
        let mut objects = world.store().of_kind(kind.id);
        let waits = is_terminating(definition)
            && world.store().of_kind(kind.id).next().is_some()
            && objects.all(|(_, object)| object::is_going(object));
        if !waits {
            steps.push(Step::Undefine(key.clone()));
        }
    }
}

/// Does what comes next.
pub fn undefine(world: &mut World, key: &Key) {
    let (Some(definition), Some(kind)) = (world.store().get(key).cloned(), kinds().defined_by(key.name()))
    else {
        return;
    };
    if !is_terminating(&definition) {
        let condition = json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
            "message": "CustomResource deletion is in progress", "lastTransitionTime": object::seconds(world.now),
        });
        let _ = world.change(key, Part::Status, |definition| {
            if let Some(Value::Array(conditions)) = definition["status"].get_mut("conditions") {
                conditions.push(condition);
            }
        });
        return;
    }
    let keys: Vec<Key> = world.store().of_kind(kind.id).map(|(key, _)| key.clone()).collect();
    if keys.is_empty() {
        take_off(world, key, CLEANUP);
    }
    for key in keys {
        // What it cannot delete it finds again.
        let _ = world.delete(&key, &Deletion::default());
    }
}
