//! Ends a node cluster and removes its remains. The home alone identifies them, so that the removal works for a running
//! cluster, for an interrupted start, and for an interrupted removal.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{cgroups, image::digest};
use crate::error::{Doing, Error};
use crate::home::{self, Base};
use crate::proc::{self, LOOK};

const GONE: Duration = Duration::from_mins(1);

/// The root of the control groups of the cluster with this home.
pub(super) fn cgroup(home: &Path) -> String {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    let whole = digest(home.as_os_str().as_encoded_bytes());
    format!("town-bed-{name}-{}", &whole[..8])
}

/// The first process of the node, by its id on the machine.
pub(super) fn first_process(home: &Path) -> Option<Pid> {
    let is_first = |pid: &Pid| proc::arguments(*pid).get(1).is_some_and(|word| word == b"node-init");
    proc::running_from(home).into_iter().find(is_first)
}

/// Ends the cluster with this home and removes all its remains.
pub(super) fn remove(home: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + GONE;
    let mut ended = Vec::new();
    // A killed process may just have started another, so that the loop repeats until none is left.
    loop {
        let running = proc::running_from(home);
        for pid in &running {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        ended.extend_from_slice(&running);
        // The first process of a namespace exists until the kernel has ended every process in it.
        if running.is_empty() && ended.iter().all(|pid| proc::is_gone(*pid)) {
            break;
        }
        if Instant::now() > deadline {
            return Err(Error::State(format!("processes of {} do not end", home.display())));
        }
        std::thread::sleep(LOOK);
    }
    cgroups::remove(&cgroup(home))?;
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("removing {}", home.display()))
        }
        _ => Ok(()),
    }
}

/// Removes the remains of dead clusters: the former one with this home, and those of dead tests.
pub(super) fn remnants(base: &Base, home: &Path) -> Result<(), Error> {
    remove(home)?;
    for entry in fs::read_dir(base.path()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((owner, _)) = name.to_str().and_then(|name| name.strip_prefix("own-")?.split_once('-'))
        else {
            continue;
        };
        if !home::owned(&entry.path()) || !Path::new("/proc").join(owner).exists() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
