//! The file system of the node: a small root directory with parts of the machine's file system.
//!
//! Programs and libraries are those of the machine, read-only. `/var`, and the volumes in `/tmp/hostpath_pv`, are in
//! the home of the cluster. The other directories are in memory. Fixed paths of the kubelet, containerd or CNI are
//! therefore private to the node, several nodes do not conflict, and every mount ends with the namespace of the node.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Doing, Error};

/// The paths of the home and of the built programs inside of the node.
pub(crate) const HOME: &str = "/bed";
pub(crate) const BIN: &str = "/opt/bed/bin";
/// The directory of volumes of the controller manager.
pub(crate) const VOLUMES: &str = "/tmp/hostpath_pv";

/// Lookups fail immediately, because no server listens on the loopback of a pod. A silent server would cost 10 s for
/// each lookup.
const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n";

fn make(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).doing(|| format!("making {}", path.display()))
}

fn bind(from: &Path, to: &Path, read_only: bool) -> Result<(), Error> {
    make(to)?;
    let doing = || format!("binding {} to {}", from.display(), to.display());
    let nothing = None::<&str>;
    mount(Some(from), to, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing).doing(doing)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(nothing, to, nothing, flags, nothing).doing(doing)?;
    }
    Ok(())
}

/// Creates the root directory in the mount namespace of this process, and changes into it.
pub(super) fn enter(home: &Path, bin: &Path, node: &str) -> Result<(), Error> {
    let nothing = None::<&str>;
    // Later mounts must not be visible outside.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .doing(|| "making mounts private".into())?;
    let root = home.join("root");
    make(&root)?;
    mount(Some("bed"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .doing(|| "mounting the node's root".into())?;
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix"] {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        if let Ok(target) = fs::read_link(&from) {
            symlink(target, &to).doing(|| format!("linking {}", to.display()))?;
        } else if from.is_dir() {
            bind(&from, &to, true)?;
        }
    }
    for name in ["dev", "sys"] {
        bind(&Path::new("/").join(name), &root.join(name), false)?;
    }
    etc(&root, node).doing(|| "writing the node's /etc".into())?;
    let proc = root.join("proc");
    make(&proc)?;
    mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), nothing).doing(|| "mounting /proc".into())?;
    for name in ["root", "run", "tmp", "opt/containerd", "old"] {
        make(&root.join(name))?;
    }
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    open(&root.join("tmp"), 0o1777).doing(|| "opening /tmp".into())?;
    for (from, to) in [("var", "/var"), ("volumes", VOLUMES), (".", HOME)] {
        make(&home.join(from))?;
        bind(&home.join(from), &root.join(to.trim_start_matches('/')), false)?;
    }
    bind(bin, &root.join(BIN.trim_start_matches('/')), true)?;
    for name in ["var/lib/kubelet", "var/lib/cni", "var/lib/containerd", "var/log", "var/run", "var/tmp"] {
        make(&root.join(name))?;
    }
    nix::unistd::pivot_root(&root, &root.join("old"))
        .and_then(|()| nix::unistd::chdir("/"))
        .and_then(|()| umount2("/old", MntFlags::MNT_DETACH))
        .doing(|| "moving into the node's root".into())?;
    // The kubelet needs shared mounts, so that its mounts reach containers.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SHARED, nothing)
        .doing(|| "sharing mounts".into())
}

fn etc(root: &Path, node: &str) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir(&etc)?;
    for name in ["passwd", "group", "nsswitch.conf", "protocols", "services", "ld.so.cache", "os-release"] {
        let from = Path::new("/etc").join(name);
        if from.is_file() {
            fs::copy(from, etc.join(name))?;
        }
    }
    for name in ["alternatives", "ssl", "ca-certificates"] {
        let from = Path::new("/etc").join(name);
        if from.is_dir() {
            bind(&from, &etc.join(name), true).map_err(io::Error::other)?;
        }
    }
    fs::write(etc.join("resolv.conf"), RESOLV_CONF)?;
    fs::write(etc.join("hosts"), format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {node}\n"))?;
    fs::write(etc.join("hostname"), format!("{node}\n"))
}

/// Whether overlayfs works below `directory`. Overlayfs does not work on another overlay, as in a container; containerd
/// then copies the layers.
pub(super) fn overlay_works(directory: &Path) -> bool {
    let at = directory.join("overlay-trial");
    let part = |name: &str| at.join(name).display().to_string();
    let works =
        ["lower", "upper", "work", "merged"].iter().all(|name| fs::create_dir_all(part(name)).is_ok()) && {
            let options =
                format!("lowerdir={},upperdir={},workdir={}", part("lower"), part("upper"), part("work"));
            let merged = part("merged");
            let flags = MsFlags::empty();
            mount(Some("overlay"), merged.as_str(), Some("overlay"), flags, Some(options.as_str())).is_ok()
                && umount2(merged.as_str(), MntFlags::empty()).is_ok()
        };
    let _ = fs::remove_dir_all(&at);
    works
}
