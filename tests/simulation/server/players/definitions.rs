//! The controller of definitions: from the moment that one is wound up nothing new of its kind is made; all that
//! there is goes; then so does the definition.

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
        // It waits for those that were asked to go and are held.
        if objects.peek().is_none() || objects.any(|(_, object)| !object::is_going(object)) {
            steps.push(Step::Undefine(key.clone()));
        }
    }
}

/// Does what comes next.
pub fn undefine(world: &mut World, key: &Key) {
    let Some(kind) = kinds().defined_by(key.name()) else { return };
    let keys: Vec<Key> = world.store().of_kind(kind.id).map(|(key, _)| key.clone()).collect();
    if keys.is_empty() {
        take_off(world, key, CLEANUP);
    }
    for key in keys {
        // What it cannot delete it finds again.
        let _ = world.delete(&key, &Deletion::default());
    }
}
