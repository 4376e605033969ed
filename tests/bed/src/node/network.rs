//! The network of the node. The network is inside of its own namespace, so that nothing of it is visible on the
//! machine.
//!
//! The veth pair with the address of the node has its two ends inside. There is no route to the outside, and the only
//! way to the inside is the relay to the API server. Therefore every cluster can use the same addresses, and a
//! connection to another address fails immediately instead of after a timeout.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::error::{Doing, Error};
use crate::servers::SERVICES;

/// The address of the node.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 2);
/// The addresses of pods.
pub(crate) const PODS: &str = "10.244.0.0/16";

pub(super) fn set_up() -> Result<(), Error> {
    let node = format!("{NODE}/24");
    for line in [
        "link set lo up",
        "link add node0 type veth peer name wire0",
        "link set wire0 up",
        "link set node0 up",
        &format!("address add {node} dev node0"),
        // The route is never used: kube-proxy replaces addresses of Services by those of pods. But without a route the
        // kernel refuses the connection before it evaluates the rules of kube-proxy.
        &format!("route add {SERVICES} dev node0"),
    ] {
        let output =
            Command::new("ip").args(line.split(' ')).output().doing(|| format!("running ip {line}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Program {
                program: format!("ip {line}"),
                how: output.status.to_string(),
                said,
            });
        }
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").doing(|| "switching on forwarding".into())
}
