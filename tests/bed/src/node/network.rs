//! The node's network: wholly inside its own namespace, so that nothing of it is seen on the machine.
//!
//! Both ends of the veth pair that carries the node's address are inside. There is no way out and none in, but
//! for the relay to the API server; so every cluster may use the same addresses, and a request to anywhere
//! else is refused at once instead of running into a timeout.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use crate::error::{Doing, Error};
use crate::servers::SERVICES;

/// The node's address.
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
        // Never taken: kube-proxy turns Services' addresses into pods'. But without a route the kernel
        // refuses before kube-proxy's rules are asked.
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
