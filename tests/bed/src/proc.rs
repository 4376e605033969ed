//! What `/proc` tells about the processes of this machine.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// How often a condition is looked at while it is awaited.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Every process id there is.
pub(crate) fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// The arguments of a process; empty for a zombie, a kernel thread or one that is gone.
pub(crate) fn arguments(process: Pid) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).filter(|argument| !argument.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The processes, other than this one, with `path` or something below it in an argument.
pub(crate) fn mentioning(path: &Path) -> Vec<Pid> {
    let needle = path.as_os_str().as_bytes();
    let mentions = |argument: &Vec<u8>| {
        argument.windows(needle.len()).enumerate().any(|(at, window)| {
            // `.../town` is not mentioned by `.../town2`.
            window == needle && matches!(argument.get(at + needle.len()), None | Some(b'/' | b'?' | b' '))
        })
    };
    all().filter(|process| *process != Pid::this() && arguments(*process).iter().any(mentions)).collect()
}

/// Waits, within reason, until no process mentions `path` any more.
pub(crate) fn await_none(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !mentioning(path).is_empty() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}

/// Whether a process has ended, be it reaped or not.
pub(crate) fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold anything.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}
