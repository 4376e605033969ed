//! What must be on the machine before a build, and getting it where that is ours to do.

use std::path::Path;
use std::process::{Command, Stdio};

use super::GO_MOD;
use crate::error::Error;

/// Whether a command is on the PATH or where administrators' commands lie.
pub(crate) fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|directory| directory.join(command).is_file())
}

/// Checks what `go build` needs. Installs the Debian packages if it may, else says which they are.
pub(super) fn check(cgo: bool) -> Result<(), Error> {
    let mut packages = Vec::new();
    if !on_path("setpriv") {
        packages.push("util-linux");
    }
    if !on_path("go") {
        // Distributions' own are often too old.
        let version = GO_MOD.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or("");
        let please = format!("to build the programs of the cluster, please install Go {version} or newer");
        return Err(Error::Impossible(please));
    }
    if cgo {
        if !on_path("gcc") {
            packages.extend(["gcc", "libc6-dev"]);
        }
        if !on_path("pkg-config") {
            packages.push("pkg-config");
        }
        if !on_path("pkg-config") || !pkg_config_knows("libseccomp") {
            packages.push("libseccomp-dev");
        }
    }
    install(&packages, "to build the programs of the cluster")
}

fn pkg_config_knows(library: &str) -> bool {
    let mut asked = Command::new("pkg-config");
    asked.args(["--exists", library]).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

/// Installs Debian packages: as root where there is `apt-get`. Elsewhere the error names them.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let please = format!("{why}, please install: {list}");
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(Error::Impossible(please));
    }
    eprintln!("bed: installing {list} ({why})");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let install = || apt(&[&["install", "--no-install-recommends"], packages].concat());
    // The lists may be there already; fetching them takes a while.
    if install() || (apt(&["update"]) && install()) { Ok(()) } else { Err(Error::Impossible(please)) }
}
