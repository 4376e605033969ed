//! The directory of one running thing (a control plane or a node cluster), and who owns it.
//!
//! All of them lie side by side in one base directory of the user. A home belongs to whoever holds the
//! lock on its `owner` file; the kernel drops that lock when the holder dies, however it dies, so a home
//! whose lock can be had is a dead one's and may be swept. Making and sweeping happen under a lock on the
//! base directory itself, which leaves no lock file behind.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};

use crate::error::{Doing, Error};
use crate::proc;

/// Where homes lie: `$TOWN_BED_STATE`, or `/var/tmp/town-bed-UID`. Short, because Unix socket paths are;
/// not below `/tmp`, because the controller manager gets a `/tmp` of its own.
pub fn base() -> PathBuf {
    std::env::var_os("TOWN_BED_STATE")
        .filter(|v| !v.is_empty())
        .map_or_else(|| PathBuf::from(format!("/var/tmp/town-bed-{}", nix::unistd::getuid())), PathBuf::from)
}

/// The base directory, locked: nobody else makes or sweeps homes meanwhile.
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
            // The one before us may have removed the directory that we then locked.
            if fs::metadata(&path).is_ok_and(|now| now.ino() == held.ino()) {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a home and takes it. An old one of that name must be gone.
    pub(crate) fn claim(&self, name: &str) -> Result<Home, Error> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).doing(|| format!("making {}", path.display()))?;
        let owner =
            File::create(path.join("owner")).doing(|| format!("making {}", path.join("owner").display()))?;
        owner.lock().doing(|| format!("locking {}", path.join("owner").display()))?;
        Ok(Home { path, owner })
    }

    /// Removes every home beginning with `prefix` whose owner is dead, and what still runs from it.
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

    /// Removes the base directory if nothing is left in it, and with it the mount point of volumes.
    pub(crate) fn leave(self) {
        if fs::remove_dir(&self.path).is_ok() {
            let _ = fs::remove_dir("/tmp/hostpath_pv");
        }
    }
}

/// Whether somebody alive holds this home.
pub(crate) fn owned(home: &Path) -> bool {
    File::open(home.join("owner")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Ends every process that runs from this home, then removes the home.
pub(crate) fn remove(home: &Path) -> Result<(), Error> {
    for process in proc::running_from(home) {
        let _ = kill(process, Signal::SIGKILL);
    }
    match fs::remove_dir_all(home) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            // A dying process may still have been writing.
            proc::await_none(home);
            fs::remove_dir_all(home).doing(|| format!("removing {}", home.display()))
        }
        _ => Ok(()),
    }
}

/// A home that this process owns, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    owner: File,
}

impl Home {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The lock, for another process to hold: it is let go when its last holder is gone.
    pub(crate) fn owner(&self) -> Result<File, Error> {
        self.owner.try_clone().doing(|| format!("sharing the lock on {}", self.path.display()))
    }
}

/// Whether a home is to be left for a look after a failed test.
pub(crate) fn to_be_kept(home: &Path) -> bool {
    if !std::thread::panicking() {
        return false;
    }
    let keep = std::env::var_os("TOWN_BED_KEEP").is_some();
    let home = home.display();
    eprintln!("bed: {home} {}", if keep { "is kept" } else { "is removed; TOWN_BED_KEEP=1 keeps it" });
    keep
}
