//! The prerequisites of a build, and their installation where permitted.

use std::path::Path;
use std::process::{Command, Stdio};

use super::GO_MOD;
use crate::error::Error;

/// Whether a command is on the PATH or in a directory for administrators.
pub(crate) fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|directory| directory.join(command).is_file())
}

/// Checks the prerequisites of `go build`. Installs the Debian packages if permitted; otherwise the error names them.
pub(super) fn check(cgo: bool) -> Result<(), Error> {
    let mut packages = Vec::new();
    if !on_path("setpriv") {
        packages.push("util-linux");
    }
    if !on_path("go") {
        // The Go of a distribution is often too old.
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

/// Installs Debian packages as root with `apt-get`. On other systems the error names them.
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
    // The package lists may already exist; their download takes long.
    if install() || (apt(&["update"]) && install()) { Ok(()) } else { Err(Error::Impossible(please)) }
}
