//! `town-operator`: towns on Kubernetes that leave nothing behind when they are deleted and cost
//! nothing while they are idle.
//!
//! The rooms, and the only way arrows may point:
//! `bin -> operator -> cluster -> resources -> lifecycle -> api`; `telemetry` lies below all that
//! runs. `tests/architecture.rs` keeps it so.
//!
//! One reconcile reads as four calls: observe (the only reads), decide (pure), act and report (the
//! only writes).

pub mod api;
pub mod cluster;
pub mod lifecycle;
pub mod operator;
pub mod resources;
pub mod telemetry;
