//! What should happen: pure, total functions of a snapshot and a time.
//!
//! No client, no clock, no randomness, so that every rule of a town's life can be read, tested and
//! explained here. [`decide_town`] and [`decide_agent`] return a [`Plan`]: what to do now, the status
//! to report, and when to look again.
//!
//! Invariants kept here: nothing is created for an owner that is deleting or tombstoned; nothing is
//! destroyed before the tombstone is written; a finalizer is released only on facts that were read
//! live; unknown is neither present nor absent.

mod activity;
mod agent;
mod clock;
mod conditions;
mod destroy;
mod facts;
mod ids;
mod needs;
mod plan;
mod pods;
mod probe;
mod restart;
mod session;
mod sleep;
mod status;
mod task;
#[cfg(test)]
mod tests;
mod town;

pub use activity::{AgentActivity, agent_activity, mode};
pub use agent::{decide_agent, needs_live_town};
pub use conditions::{Failure, overlay};
pub use destroy::tombstone_time;
pub use facts::{
    AgentSnapshot, ChildFacts, ChildKind, ClaimFacts, Freshness, PodFacts, PodPhase, ProbeFacts, Remains,
    ServiceFacts, Standing, Termination, TownFacts, TownSnapshot, TownView, Unknown,
};
pub use ids::{ObjectKey, OwnerRef, Uid, child_name};
pub use plan::{Action, Ask, Notice, Plan};
pub use probe::token_secret;
pub use restart::pod_record;
pub use town::{decide_town, needs_live};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::names;

/// The tombstone on an object, whatever it names.
pub fn tombstone(meta: &ObjectMeta) -> Option<&str> {
    meta.annotations.as_ref()?.get(names::TOMBSTONE).map(String::as_str)
}

/// Whether the object carries a tombstone that names its own UID.
pub fn has_own_tombstone(meta: &ObjectMeta) -> bool {
    match (tombstone(meta), meta.uid.as_deref()) {
        (Some(value), Some(uid)) => value.split_once('@').is_some_and(|(named, _)| named == uid),
        _ => false,
    }
}

/// A label of the object.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether the object carries the finalizer.
pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.as_ref().is_some_and(|all| all.iter().any(|f| f == finalizer))
}
