//! The processes of this machine, from `/proc`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// The interval between two polls of a condition.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// The ids of all processes.
pub(crate) fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// The arguments of a process; empty for a zombie, a kernel thread or a process that is gone.
pub(crate) fn arguments(process: Pid) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).filter(|argument| !argument.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The processes of the cluster with this home, without this process: the first process of a node and its launcher, or
/// the servers of a control plane. Other processes that name the home, such as a user's kubectl or a `tail` of a log,
/// must not be ended.
pub(crate) fn running_from(home: &Path) -> Vec<Pid> {
    let needle = home.as_os_str().as_bytes();
    let mentions = |argument: &Vec<u8>| {
        argument.windows(needle.len()).enumerate().any(|(at, window)| {
            // `.../town2` does not name `.../town`.
            window == needle && matches!(argument.get(at + needle.len()), None | Some(b'/'))
        })
    };
    let servers = ["/bin/etcd", "/bin/kube-apiserver", "/bin/kube-controller-manager"].map(str::as_bytes);
    let ours = |process: &Pid| {
        let arguments = arguments(*process);
        let node = arguments.windows(2).any(|pair| {
            matches!(pair[0].as_slice(), b"node-launch" | b"node-init") && pair[1].as_slice() == needle
        });
        let server = || arguments.iter().any(|word| servers.iter().any(|server| word.ends_with(server)));
        node || (server() && arguments.iter().any(mentions))
    };
    all().filter(|process| *process != Pid::this() && ours(process)).collect()
}

/// Waits, with a timeout, until no process of a home is left.
pub(crate) fn await_none(home: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running_from(home).is_empty() && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
}

/// Whether a signal has stopped every thread of a process.
pub fn is_stopped(process: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut states = threads.map(|thread| state(&thread.path().join("stat"))).peekable();
    states.peek().is_some() && states.all(|state| state == Some('T'))
}

/// The state of a process or a thread, from its `stat` file.
fn state(stat: &Path) -> Option<char> {
    // The state follows the name, which is in parentheses and can contain any character.
    fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process has ended; it may be a zombie.
pub(crate) fn is_gone(process: Pid) -> bool {
    state(Path::new(&format!("/proc/{process}/stat"))).is_none_or(|state| matches!(state, 'Z' | 'X'))
}
