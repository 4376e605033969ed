//! Checks before a start whether this machine can have a node.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::programs::{install, on_path};

/// Returns the reason in one line if this machine cannot have a node. Installs missing tools if permitted.
pub fn node_possible() -> Result<(), String> {
    check().map_err(|error| error.to_string())
}

pub(super) fn check() -> Result<(), Error> {
    let no = |why: &str| Err(Error::Impossible(format!("no node here: {why}")));
    if !cfg!(target_os = "linux") {
        return no("this is not Linux");
    }
    if !nix::unistd::geteuid().is_root() {
        return no("that needs root (a control plane without a node does not)");
    }
    let tools = [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")];
    let missing: Vec<&str> =
        tools.iter().filter(|(tool, _)| !on_path(tool)).map(|(_, package)| *package).collect();
    install(&missing, "for a node")?;
    if !Path::new("/dev/kmsg").exists() {
        return no("there is no /dev/kmsg, which the kubelet reads");
    }
    let trial = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork"]).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !trial(&["true"]) {
        return no("new namespaces may not be made (a container without --privileged?)");
    }
    if !trial(&["ip", "link", "add", "bed0", "type", "veth", "peer", "name", "bed1"]) {
        return no("the kernel gives no veth interface");
    }
    if !trial(&["nft", "add table ip bed; add chain ip bed c { type nat hook output priority -100; }"]) {
        return no("the kernel has no nftables NAT, which kube-proxy needs");
    }
    super::cgroups::writable()
}
