//! `town-operator`: towns on Kubernetes. A deleted town leaves no object behind, and an idle town costs only its
//! storage.
//!
//! The modules form layers with this dependency order: `bin -> operator -> cluster -> resources -> lifecycle -> api`.
//! Every running layer may use `telemetry`. The test `tests/architecture.rs` enforces the order.
//!
//! A reconcile makes four calls: observe (the only reads), decide (pure), act and report (the only writes).

// With `--cfg decisions_alone` cargo builds only the decision code. Such a build takes seconds, so that every change
// to the decision code can be tried (`make mutants`).
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
