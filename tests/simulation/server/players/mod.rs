//! The players: the controllers and the node of the cluster, without the operator.
//!
//! Each player is a set of steps. [`steps`] lists all possible steps, and [`take`] executes one. The driver of the
//! world chooses the step and the moment. [`rest`] executes steps in order until no step is left.

pub mod collector;
pub mod definitions;
pub mod namespaces;
pub mod node;
pub mod volumes;

use std::fmt;

use super::kinds::kinds;
use super::object;
use super::store::Key;
use super::world::World;

/// A step of a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The garbage collector processes an object.
    Collect(Key),
    /// The namespace controller does the next pass of the deletion of a namespace.
    Empty(namespaces::Pass),
    /// The controller of definitions does the next step of the deletion of a definition.
    Undefine(Key),
    /// The scheduler binds a pod to the node.
    Bind(Key),
    /// The node starts a pod.
    Start(Key),
    /// The node stops the containers of a pod that is being deleted.
    End(Key),
    /// The node removes a pod after its containers have ended.
    LetGo(Key),
    /// A controller force-deletes a pod whose node is gone.
    Forget(Key),
    /// The volume controller binds a claim to a volume.
    Provision(Key),
    /// The volume controller writes the new size of a claim to its status.
    Grow(Key),
    /// The volume controller removes the protection from a claim that is being deleted and that no pod uses.
    Unprotect(Key),
    /// The volume controller releases a volume after the removal of its claim, then deletes or keeps the volume.
    Reclaim(Key),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |key: &Key| format!("{} {}", kinds().at(key.kind).kind, key.path);
        match self {
            Self::Collect(key) => write!(f, "the garbage collector looks at {}", of(key)),
            Self::Empty(pass) => write!(f, "the namespace controller {pass}"),
            Self::Undefine(key) => write!(f, "the definition {} is wound up", key.path),
            Self::Bind(key) => write!(f, "{} is bound to the node", of(key)),
            Self::Start(key) => write!(f, "{} starts", of(key)),
            Self::End(key) => write!(f, "{} ends as asked", of(key)),
            Self::LetGo(key) => write!(f, "the node lets go of {}", of(key)),
            Self::Forget(key) => write!(f, "{} is forgotten with its node", of(key)),
            Self::Provision(key) => write!(f, "{} gets a volume", of(key)),
            Self::Grow(key) => write!(f, "the volume of {} grows", of(key)),
            Self::Unprotect(key) => write!(f, "{} is no longer in use", of(key)),
            Self::Reclaim(key) => write!(f, "{} is released", of(key)),
        }
    }
}

/// The possible steps, in a deterministic order.
pub fn steps(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    node::steps(world, &mut steps);
    volumes::steps(world, &mut steps);
    collector::steps(world, &mut steps);
    namespaces::steps(world, &mut steps);
    definitions::steps(world, &mut steps);
    steps
}

/// Executes a step. A step that is no longer possible has no effect.
pub fn take(world: &mut World, step: &Step) {
    match step {
        Step::Collect(key) => collector::collect(world, key),
        Step::Empty(pass) => namespaces::pass(world, pass),
        Step::Undefine(key) => definitions::undefine(world, key),
        Step::Bind(key) => node::bind(world, key),
        Step::Start(key) => node::start(world, key),
        Step::End(key) => node::end(world, key),
        Step::LetGo(key) => node::let_go(world, key),
        Step::Forget(key) => node::forget(world, key),
        Step::Provision(key) => volumes::provision(world, key),
        Step::Grow(key) => volumes::grow(world, key),
        Step::Unprotect(key) => volumes::unprotect(world, key),
        Step::Reclaim(key) => volumes::reclaim(world, key),
    }
}

/// Executes the first possible step repeatedly until no step is left.
///
/// # Panics
/// The function panics after `at_most` steps: the players are then in an endless loop.
pub fn rest(world: &mut World, at_most: usize) {
    for _ in 0..at_most {
        let Some(step) = steps(world).into_iter().next() else { return };
        take(world, &step);
    }
    panic!("not at rest after {at_most} steps; next: {:?}", steps(world));
}

/// Removes one finalizer from an object.
fn take_off(world: &mut World, key: &Key, finalizer: &str) {
    // The change fails only if another player has removed the finalizer before.
    let _ = world.change(key, super::update::Part::Main, |object| {
        let left: Vec<String> =
            object::finalizers(object).filter(|one| *one != finalizer).map(str::to_owned).collect();
        object::set_finalizers(object, &left.iter().map(String::as_str).collect::<Vec<_>>());
    });
}
