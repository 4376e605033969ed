//! The controller of definitions. While a definition is being deleted, the server refuses new objects of its kind. The
//! controller deletes the existing objects, then removes the finalizer of the definition.

use super::super::delete::{CLEANUP, Deletion};
use super::super::kinds::{id, kinds};
use super::super::object;
use super::super::store::Key;
use super::super::world::World;
use super::{Step, take_off};

pub(super) fn steps(world: &World, steps: &mut Vec<Step>) {
    for (key, definition) in world.store().of_kind(id::DEFINITION) {
        if !object::is_going(definition) || !object::finalizers(definition).any(|one| one == CLEANUP) {
            continue;
        }
        let Some(kind) = kinds().defined_by(key.name()) else { continue };
        let mut objects = world.store().of_kind(kind.id).peekable();
        // The definition waits for objects that are being deleted but have a finalizer.
        if objects.peek().is_none() || objects.any(|(_, object)| !object::is_going(object)) {
            steps.push(Step::Undefine(key.clone()));
        }
    }
}

/// Does the next step of the deletion of a definition.
pub fn undefine(world: &mut World, key: &Key) {
    let Some(kind) = kinds().defined_by(key.name()) else { return };
    let keys: Vec<Key> = world.store().of_kind(kind.id).map(|(key, _)| key.clone()).collect();
    if keys.is_empty() {
        take_off(world, key, CLEANUP);
    }
    for key in keys {
        // The next step retries a delete that fails.
        let _ = world.delete(&key, &Deletion::default());
    }
}
