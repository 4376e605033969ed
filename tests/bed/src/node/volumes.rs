//! Opens the directories of volumes to every user.
//!
//! The controller manager creates them for root with mode 0750. A default ACL or a umask cannot extend that, and a
//! container without root could not write. This module changes the mode of each new directory. The controller manager
//! creates the directory before it writes the volume to the API server, and the scheduler binds a pod only after that.
//! The mode is therefore correct long before a container starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Doing, Error};

/// Opens existing and future entries of `directory`, until the process ends.
pub(super) fn open(directory: &'static Path) -> Result<(), Error> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).doing(|| "watching for volumes".into())?;
    watch
        .add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)
        .doing(|| format!("watching {}", directory.display()))?;
    std::thread::spawn(move || {
        loop {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let open = fs::Permissions::from_mode(0o777);
                if entry.metadata().is_ok_and(|now| now.permissions().mode() & 0o777 == 0o750) {
                    let _ = fs::set_permissions(entry.path(), open);
                }
            }
            if watch.read_events().is_err() {
                return;
            }
        }
    });
    Ok(())
}
