//! The resources that users write: group `gastown.dev`, version `v1alpha1`.
//!
//! These types are the only source of the API. `town-operator crds` prints the
//! `CustomResourceDefinition`s made from them; `crds/` holds the result and a test compares.
//! Nothing in this room knows how a town is run.

mod activity;
mod agent;
pub mod condition;
mod crds;
mod duration;
pub mod names;
mod open;
mod pod_template;
mod storage;
#[cfg(test)]
mod tests;
mod tombstone;
mod town;

pub use activity::{ActivityReport, ReportedAgent, ReportedState};
pub use agent::{
    Agent, AgentSpec, AgentStatus, Hook, Mode, Outcome, RestoredStatus, Retry, Role, WorkStatus,
};
pub use crds::YamlError;
pub use crds::{SCHEMA_REVISION, crds, to_yaml};
pub use duration::Duration;
pub use pod_template::PodTemplate;
pub use storage::{AccessMode, Copied, DataSource, RetainPolicy, Storage};
pub use tombstone::{
    Cause, KindCount, Receipt, ReceiptOutcome, Recreate, Tombstone, TombstoneChild, TombstoneKind,
    TombstonePhase, TombstonePolicy, TombstoneSpec, TombstoneStatus,
};
pub use town::{
    ActivityProbe, AgentCounts, Alarm, AsleepReason, Backlog, BlockedBy, DestroyStatus, DestroyStep, Drain,
    Expiry, ExpiryPolicy, PodStatus, Port, Protocol, RestartsStatus, Rig, StorageStatus, Town, TownSpec,
    TownStatus, UsageStatus,
};
