//! The connection to the API server.

pub(crate) mod boot_clock;
pub(crate) mod connect;
pub(crate) mod fence;
pub(crate) mod identity;
pub(crate) mod overload;
pub(crate) mod params;
pub(crate) mod timeouts;
pub(crate) mod write_window;
