//! Those who live in a cluster besides the operator: its controllers and its node.
//!
//! Each is a set of steps. [`steps`] names all that somebody would take now, [`take`] takes one. Whoever runs the
//! world chooses which and when; [`rest`] takes them in order until nobody has anything to do.

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

/// A step of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The garbage collector looks at an object.
    Collect(Key),
    /// The namespace controller does what comes next with a namespace that is on its way out.
    Empty(namespaces::Pass),
    /// The controller of definitions does what comes next with one that is on its way out.
    Undefine(Key),
    /// The scheduler binds a pod to the node.
    Bind(Key),
    /// The node starts a pod.
    Start(Key),
    /// The node ends a pod that is asked to end.
    End(Key),
    /// The node lets go of a pod that ended.
    LetGo(Key),
    /// A pod whose node is no more is removed by force.
    Forget(Key),
    /// A claim gets a volume.
    Provision(Key),
    /// A volume learns that its claim grew.
    Grow(Key),
    /// A claim that is on its way out, and that no pod uses, is no longer protected.
    Unprotect(Key),
    /// A volume whose claim is gone is released, and goes with it or stays.
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

/// All that somebody would do now, in an order that is always the same.
pub fn steps(world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    node::steps(world, &mut steps);
    volumes::steps(world, &mut steps);
    collector::steps(world, &mut steps);
    namespaces::steps(world, &mut steps);
    definitions::steps(world, &mut steps);
    steps
}

/// Takes a step. One that has nothing to do any more does nothing.
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

/// Takes steps, the first one each time, until nobody has anything to do.
///
/// # Panics
/// When that takes more than `at_most` steps: somebody then goes round in circles.
pub fn rest(world: &mut World, at_most: usize) {
    for _ in 0..at_most {
        let Some(step) = steps(world).into_iter().next() else { return };
        take(world, &step);
    }
    panic!("not at rest after {at_most} steps; next: {:?}", steps(world));
}

/// Takes one finalizer off an object.
fn take_off(world: &mut World, key: &Key, finalizer: &str) {
    // Whoever was faster has done it.
    let _ = world.change(key, super::update::Part::Main, |object| {
        let left: Vec<String> =
            object::finalizers(object).filter(|one| *one != finalizer).map(str::to_owned).collect();
        object::set_finalizers(object, &left.iter().map(String::as_str).collect::<Vec<_>>());
    });
}
