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
mod agent_view;
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
mod meta;
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
mod wake;
mod work;

pub use agent::{decide_agent, needs_live_town};
pub use agent_view::{mode, town_key};
pub use conditions::{Failure, overlay};
pub use destroy::goes_with_town;
pub use ending::{Ending, Row, TABLE};
pub use facts::{
    AgentSnapshot, ChildFacts, ClaimFacts, Freshness, NamespaceFacts, PodClaim, PodFacts, PodPhase,
    ProbeFacts, ProbeIntervals, Record, Remains, RigFacts, Run, ServiceFacts, Standing, Termination,
    TombstoneFacts, TownFacts, TownSnapshot, TownView, Unknown, VolumeFacts,
};
pub use guard::Guard;
pub use ids::{ObjectKey, OwnerId, OwnerRef, Uid, child_name, is_named_child, service_name};
pub use kinds::ChildKind;
pub use meta::{annotation, has_finalizer, has_own_tombstone, is_held, label, tombstone};
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
pub use town::{decide_town, is_new, needs_live, starting};
