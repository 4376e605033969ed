//! Uncached reads.

pub(crate) mod devices;
pub(crate) mod namespaces;
pub(crate) mod objects;
pub(crate) mod pod_events;
pub(crate) mod preflight;
pub(crate) mod secrets;
