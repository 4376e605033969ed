//! The namespace controller. In a namespace that is being deleted, the controller deletes the pods first, then the
//! other objects, one kind per pass. It removes the namespace after the last object.

use std::fmt;

use super::super::delete::{Deletion, Propagation};
use super::super::kinds::{KindId, id, kinds};
use super::super::object;
use super::super::store::Key;
use super::super::update::Part;
use super::super::world::World;
use super::Step;

/// The next pass of the deletion of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub namespace: String,
    /// The kind to delete; `None`: no object is left, and the namespace is finalized.
    pub kind: Option<KindId>,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "deletes the {} of {}", kinds().at(kind).plural, self.namespace),
            None => write!(f, "lets go of {}", self.namespace),
        }
    }
}

pub(super) fn steps(world: &World, steps: &mut Vec<Step>) {
    for (key, namespace) in world.store().of_kind(id::NAMESPACE) {
        if !object::is_going(namespace) || namespace["spec"].get("finalizers").is_none() {
            continue;
        }
        let namespace = key.name();
        let pass = |kind| Step::Empty(Pass { namespace: namespace.to_owned(), kind });
        let is_left = |kind: KindId| world.store().within(kind, namespace).next().is_some();
        let unasked =
            |kind: KindId| world.store().within(kind, namespace).any(|(_, object)| !object::is_going(object));
        if is_left(id::POD) {
            if unasked(id::POD) {
                steps.push(pass(Some(id::POD)));
            }
            continue;
        }
        let namespaced = || kinds().iter().filter(|kind| kind.namespaced).map(|kind| kind.id);
        steps.extend(namespaced().filter(|kind| unasked(*kind)).map(|kind| pass(Some(kind))));
        if !namespaced().any(is_left) {
            steps.push(pass(None));
        }
    }
}

pub fn pass(world: &mut World, pass: &Pass) {
    let Some(kind) = pass.kind else {
        let key = Key::new(kinds().at(id::NAMESPACE), "", &pass.namespace);
        // The change fails only if the namespace is already removed.
        let _ = world.change(&key, Part::Finalize, |namespace| {
            namespace["spec"] = serde_json::json!({});
        });
        return;
    };
    let keys: Vec<Key> = world.store().within(kind, &pass.namespace).map(|(key, _)| key.clone()).collect();
    let deletion = Deletion { propagation: Some(Propagation::Background), ..Deletion::default() };
    for key in keys {
        // The next pass retries a delete that fails.
        let _ = world.delete(&key, &deletion);
    }
}
