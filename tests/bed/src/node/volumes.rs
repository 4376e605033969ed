//! Opens the directories of volumes to every user.
//!
//! The controller manager makes them root's, mode 0750, and no default ACL or umask can widen that; a container
//! that is not root could not write. They are opened as they appear. The controller manager makes the directory
//! before it writes the volume to the API server, and only then can a pod that uses it be scheduled, so this has
//! long happened when a container starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Doing, Error};

/// Opens what is in `directory` and what will be, until the process ends.
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
