//! The writes of a plan.

pub(crate) mod create;
pub(crate) mod execute;
pub(crate) mod live_owner;
pub(crate) mod mutate;
pub(crate) mod places;
pub(crate) mod subject;
pub(crate) mod tombstones;
