//! The resources that users write: group `gastown.dev`, version `v1alpha1`.
//!
//! These types are the only source of the API. `town-operator crds` prints the
//! `CustomResourceDefinition`s made from them; `crds/` holds the result and a test compares.
//! Nothing in this room knows how a town is run.

mod agent;
pub mod condition;
mod crds;
mod duration;
pub mod names;
mod pod_template;
mod storage;
mod town;

pub use agent::{Agent, AgentSpec, AgentStatus, Hook, Mode, Outcome, Retry, Role, WorkStatus};
pub use crds::YamlError;
pub use crds::{SCHEMA_REVISION, crds, to_yaml};
pub use duration::Duration;
pub use storage::{AccessMode, Storage};
pub use town::{
    AgentCounts, AsleepReason, BlockedBy, DestroyStatus, DestroyStep, Drain, PodStatus, RestartsStatus, Rig,
    StorageStatus, Town, TownSpec, TownStatus,
};
