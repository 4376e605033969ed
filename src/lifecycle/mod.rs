//! Decisions: pure, total functions of a snapshot and a time.
//!
//! The module has no client, no clock and no randomness, so that every rule about a town's life can be read, tested
//! and explained here. [`decide_town`] and [`decide_agent`] return a [`Plan`]: the actions, the status to report, and
//! the time of the next reconcile.
//!
//! Invariants kept here: the operator creates nothing for an owner that is being deleted or tombstoned. The operator
//! destroys nothing before the tombstone is written. A finalizer is removed only on facts that were read live. An
//! unknown object is neither present nor absent.

mod activity;
mod agent;
mod clock;
mod compute;
mod conditions;
mod destroy;
mod done;
mod ending;
mod expiry;
mod facts;
mod guard;
mod idle;
mod ids;
mod kinds;
mod needs;
mod plan;
mod pods;
mod probe;
mod quantity;
mod record;
mod restart;
mod restored;
mod retry;
mod roles;
mod session;
mod sleep;
mod stamps;
mod status;
mod steps;
mod task;
#[cfg(test)]
mod tests;
mod text;
mod town;
mod update;
mod usage;

pub use activity::mode;
pub use agent::{decide_agent, needs_live_town};
pub use conditions::{Failure, overlay};
pub use destroy::goes_with_town;
pub use ending::{Ending, Row, TABLE};
pub use facts::{
    AgentSnapshot, ChildFacts, ClaimFacts, Freshness, NamespaceFacts, PodClaim, PodFacts, PodPhase,
    ProbeFacts, Record, Remains, RigFacts, Run, ServiceFacts, Standing, Termination, TombstoneFacts,
    TownFacts, TownSnapshot, TownView, Unknown, VolumeFacts,
};
pub use guard::Guard;
pub use ids::{ObjectKey, OwnerId, OwnerRef, Uid, child_name, is_named_child, service_name};
pub use kinds::ChildKind;
pub use needs::{claim_record, copied_keys, copied_mark};
pub use plan::{Action, Ask, Notice, Plan, Questions};
pub use pods::events_are_due;
pub use probe::{FAILURES, token_secret_name};
pub use record::{
    VOLUME, concerns, expire_time, lists_all_claims, of_child as child_entry, present, removable,
    tombstone_name, volume as volume_entry,
};
pub use restart::pod_record;
pub use retry::{reads_secrets_of_agent, reads_secrets_of_town};
pub use roles::{Begin, Begun, begins, standing};
pub use task::may_begin;
pub use text::{cut, plain, short_digest};
pub use town::{PENDING, decide_town, is_new, needs_live, starting};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::names;

/// An annotation of the object.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The tombstone annotation of an object, with any content.
pub fn tombstone(meta: &ObjectMeta) -> Option<&str> {
    annotation(meta, names::TOMBSTONE)
}

/// Whether the object carries a tombstone that names its own UID.
pub fn has_own_tombstone(meta: &ObjectMeta) -> bool {
    match (tombstone(meta), meta.uid.as_deref()) {
        (Some(value), Some(uid)) => value.split_once('@').is_some_and(|(named, _)| named == uid),
        _ => false,
    }
}

/// Whether a user has paused the reconciles of the object. Deletion continues.
pub(crate) fn is_paused(meta: &ObjectMeta) -> bool {
    annotation(meta, names::PAUSED) == Some("true")
}

/// A label of the object.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether the Town or Agent carries our finalizer, under its current name or under the name of an older version.
pub fn is_held(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|name| names::is_finalizer(name))
}

/// Whether the object carries the finalizer.
pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.as_ref().is_some_and(|all| all.iter().any(|f| f == finalizer))
}
