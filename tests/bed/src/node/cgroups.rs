//! The control groups of a node: one root group, in each hierarchy of cgroup v1 or in that of v2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Doing, Error};
use crate::proc::LOOK;

const MOUNT: &str = "/sys/fs/cgroup";

/// The number of trials of this process. Two concurrent trials need different names.
static TRIALS: AtomicU32 = AtomicU32::new(0);

/// Whether this machine has only cgroup v2. A hybrid machine counts as v1, as for containerd and the kubelet.
fn unified() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// The mount points of all hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    if unified() {
        return vec![MOUNT.into()];
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let cgroups = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let at = words.nth(1)?;
        // A hybrid machine has the tree of v2 besides those of v1, and runc also uses it for containers.
        (matches!(words.next()?, "cgroup" | "cgroup2") && at.starts_with(MOUNT)).then(|| PathBuf::from(at))
    });
    let mut all: Vec<PathBuf> = cgroups.collect();
    all.sort();
    all.dedup();
    all
}

/// Whether this process can create groups. A container without privileges cannot.
pub(super) fn writable() -> Result<(), Error> {
    let name = format!("town-bed-trial-{}-{}", std::process::id(), TRIALS.fetch_add(1, Ordering::Relaxed));
    for hierarchy in hierarchies() {
        let trial = hierarchy.join(&name);
        if let Err(error) = fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)) {
            let (hierarchy, why) = (hierarchy.display(), error);
            return Err(Error::Impossible(format!(
                "no node here: no cgroup can be made in {hierarchy}: {why}"
            )));
        }
    }
    Ok(())
}

/// Creates the root group of this name.
pub(super) fn make(name: &str) -> Result<(), Error> {
    let hierarchies = hierarchies();
    if hierarchies.is_empty() {
        return Err(Error::Impossible(format!("no cgroups are mounted below {MOUNT}, which a node needs")));
    }
    for hierarchy in hierarchies {
        let root = hierarchy.join(name);
        fs::create_dir_all(&root).doing(|| format!("making the cgroup {}", root.display()))?;
        // A new cpuset of v1 has no CPU, and accepts no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (hierarchy.join(file), root.join(file));
            if !unified() && from.exists() {
                let value = fs::read(&from).doing(|| format!("reading {}", from.display()))?;
                fs::write(&to, value).doing(|| format!("writing {}", to.display()))?;
            }
        }
        if unified() {
            delegate(&hierarchy)?;
            delegate(&root)?;
        }
    }
    Ok(())
}

/// Enables the controllers of a v2 group for its children.
fn delegate(group: &Path) -> Result<(), Error> {
    let read = |file| fs::read_to_string(group.join(file)).unwrap_or_default();
    let (available, given) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
        let has = |list: &str| list.split_whitespace().any(|word| word == controller);
        if has(&available) && !has(&given) {
            fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")).doing(|| {
                let group = group.display();
                format!("passing the controller {controller} on from the cgroup {group} (processes in it?)")
            })?;
        }
    }
    Ok(())
}

/// Removes the root group of this name with its children, after its last process has ended.
pub(super) fn remove(name: &str) -> Result<(), Error> {
    for hierarchy in hierarchies() {
        let root = hierarchy.join(name);
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = remove_below(&root) {
            if Instant::now() > deadline {
                return Err(error).doing(|| format!("removing the cgroup {}", root.display()));
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

fn remove_below(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::writable;

    #[test]
    fn concurrent_cgroup_write_checks_do_not_interfere() {
        if let Err(why) = writable() {
            return println!("skipped: {why}");
        }
        std::thread::scope(|threads| {
            let trials: Vec<_> =
                (0..8).map(|_| threads.spawn(|| (0..50).try_for_each(|_| writable()))).collect();
            for trial in trials {
                trial.join().unwrap().unwrap();
            }
        });
    }
}
