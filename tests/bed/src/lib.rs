//! The test bed: real Kubernetes control planes and a real node, built from source and started in seconds.
//!
//! [`ControlPlane`] is etcd, API server and controller manager for a test that plays the pods itself; it needs no root.
//! [`NodeCluster`] adds scheduler, kubelet, containerd and kube-proxy, so that pods really run. It needs root, and
//! [`node_possible`] tells whether this machine supports it. [`Programs`] builds the programs once per machine.

mod api;
mod component;
mod control_plane;
mod crew;
mod error;
mod home;
mod node;
mod options;
mod pki;
mod ports;
mod proc;
mod programs;
mod servers;

pub use component::Component;
pub use control_plane::ControlPlane;
pub use error::Error;
pub use node::{BUSYBOX, NodeCluster, Process, node_possible};
pub use options::Options;
pub use proc::is_stopped;
pub use programs::Programs;

/// The hidden commands with which a node starts itself; for the `bed` program only.
#[doc(hidden)]
pub mod first_process {
    pub use crate::node::{init, launch};
}
