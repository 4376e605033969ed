//! The order of the work in this process, and its limits.

pub(crate) mod begun;
pub(crate) mod create_lock;
pub(crate) mod fair_queue;
pub(crate) mod requeue;
pub(crate) mod start_limiter;
pub(crate) mod trims;
