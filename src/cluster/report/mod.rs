//! The status of an object after a reconcile.

pub(crate) mod status;
pub(crate) mod transition_metrics;
