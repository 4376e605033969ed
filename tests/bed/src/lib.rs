//! The test bed: real Kubernetes control planes and a real node, built from source and started in seconds.
//!
//! [`ControlPlane`] is etcd, API server and controller manager for a test that plays the pods itself; it needs
//! no root. The programs are built once per machine by [`Programs`].

mod api;
mod component;
mod control_plane;
mod crew;
mod error;
mod home;
mod pki;
mod ports;
mod proc;
mod programs;
mod servers;

pub use component::Component;
pub use control_plane::{ControlPlane, Options};
pub use error::Error;
pub use programs::Programs;
