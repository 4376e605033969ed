//! The resources that users write: group `gastown.dev`, version `v1alpha1`.
//!
//! The types of this module are the only source of the API. `town-operator crds` prints their
//! `CustomResourceDefinition`s. `crds/` contains the result, and a test compares both.
//! The module contains no decision about the operation of a town.

mod activity;
mod agent;
pub mod condition;
mod crds;
mod duration;
mod enumeration;
pub mod names;
mod open;
mod phase;
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
pub use phase::{AgentPhase, TownPhase};
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
