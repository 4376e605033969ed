//! The effects of watch events.

pub(crate) mod affected;
pub(crate) mod crd_presence;
pub(crate) mod misplaced;
pub(crate) mod watch_events;
pub(crate) mod watched;
