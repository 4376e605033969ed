//! The effects of watch events.

pub(crate) mod crd_presence;
pub(crate) mod watch_events;
