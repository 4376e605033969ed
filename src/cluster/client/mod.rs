//! The connection to the API server.

pub(crate) mod boot_clock;
pub(crate) mod connect;
pub(crate) mod fence;
