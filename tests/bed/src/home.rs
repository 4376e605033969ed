//! The directory of a control plane or a node cluster, and its owner.
//!
//! The homes are in one base directory of the user. The owner of a home holds the lock on its `owner` file. The kernel
//! releases that lock at the end of the owner, even after a kill. A home with a free lock therefore has no owner, and
//! can be removed. Homes are created and removed under a lock on the base directory itself, so that no lock file
//! remains.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};

use crate::error::{Doing, Error};
use crate::proc;

/// The base directory: `$TOWN_BED_STATE`, or `/var/tmp/town-bed-UID`. The path is short, because paths of Unix sockets
/// are limited. The path is not below `/tmp`, because the controller manager has a private `/tmp`.
pub fn base() -> PathBuf {
    std::env::var_os("TOWN_BED_STATE")
        .filter(|v| !v.is_empty())
        .map_or_else(|| PathBuf::from(format!("/var/tmp/town-bed-{}", nix::unistd::getuid())), PathBuf::from)
}

/// The locked base directory: no other process creates or removes homes meanwhile.
pub(crate) struct Base {
    path: PathBuf,
    _lock: File,
}

impl Base {
    pub(crate) fn lock() -> Result<Self, Error> {
        let path = base();
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .doing(|| format!("making {}", path.display()))?;
            let Ok(lock) = File::open(&path) else { continue };
            lock.lock().doing(|| format!("locking {}", path.display()))?;
            let held = lock.metadata().doing(|| format!("looking at {}", path.display()))?;
            if held.uid() != nix::unistd::getuid().as_raw() {
                let path = path.display();
                return Err(Error::State(format!("{path} belongs to another user; set TOWN_BED_STATE")));
            }
            // The previous holder of the lock may have removed the directory.
            if fs::metadata(&path).is_ok_and(|now| now.ino() == held.ino()) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a home and locks it. The function fails for an existing name.
    pub(crate) fn claim(&self, name: &str) -> Result<Home, Error> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).doing(|| format!("making {}", path.display()))?;
        let owner =
            File::create(path.join("owner")).doing(|| format!("making {}", path.join("owner").display()))?;
        owner.lock().doing(|| format!("locking {}", path.join("owner").display()))?;
        Ok(Home { path, owner })
    }

    /// Removes every home with this `prefix` whose owner is dead, and ends its processes.
    pub(crate) fn sweep(&self, prefix: &str) -> Result<(), Error> {
        let entries = fs::read_dir(&self.path).doing(|| format!("listing {}", self.path.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(prefix) && !owned(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the base directory if it is empty, and the mount point of volumes.
    pub(crate) fn leave(self) {
        if fs::remove_dir(&self.path).is_ok() {
            let _ = fs::remove_dir("/tmp/hostpath_pv");
        }
    }
}

/// Whether a live process holds this home.
pub(crate) fn owned(home: &Path) -> bool {
    File::open(home.join("owner")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Ends every process of this home, then removes the home.
pub(crate) fn remove(home: &Path) -> Result<(), Error> {
    for process in proc::running_from(home) {
        let _ = kill(process, Signal::SIGKILL);
    }
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            // A dying process may have written until now.
            proc::await_none(home);
            fs::remove_dir_all(home).doing(|| format!("removing {}", home.display()))
        }
        _ => Ok(()),
    }
}

/// A home that this process owns until the drop of the value.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    owner: File,
}

impl Home {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A copy of the lock for another process. The lock is released after its last holder ends.
    pub(crate) fn owner(&self) -> Result<File, Error> {
        self.owner.try_clone().doing(|| format!("sharing the lock on {}", self.path.display()))
    }
}

/// Whether the home is kept for an analysis after a failed test.
pub(crate) fn to_be_kept(home: &Path) -> bool {
    if !std::thread::panicking() {
        return false;
    }
    let keep = std::env::var_os("TOWN_BED_KEEP").is_some();
    let home = home.display();
    eprintln!("bed: {home} {}", if keep { "is kept" } else { "is removed; TOWN_BED_KEEP=1 keeps it" });
    keep
}
