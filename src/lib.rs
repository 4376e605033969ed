//! `town-operator`: towns on Kubernetes that leave nothing behind when they are deleted and cost
//! nothing while they are idle.
//!
//! The rooms, and the only way arrows may point:
//! `bin -> operator -> cluster -> resources -> lifecycle -> api`; `telemetry` lies below all that
//! runs. `tests/architecture.rs` keeps it so.
//!
//! One reconcile reads as four calls: observe (the only reads), decide (pure), act and report (the
//! only writes).

// With `--cfg decisions_alone` only what decides is built: in seconds, so that every change to it can be tried
// (`make mutants`).
pub mod api;
#[cfg(not(decisions_alone))]
pub mod cluster;
pub mod lifecycle;
#[cfg(not(decisions_alone))]
pub mod operator;
#[cfg(not(decisions_alone))]
pub mod resources;
#[cfg(not(decisions_alone))]
pub mod telemetry;
