//! Starts the process that becomes the node, and binds it to its owner.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use crate::error::{Doing, Error, tail};
use crate::home::Home;

/// The process of a test's cluster, and the thread that is its parent for the kernel.
pub(super) struct Bound {
    pub(super) launcher: Child,
    _thread: Sender<()>,
}

/// The path of the `bed` program, which is the first process of the node: this program, or for tests the one that is
/// built beside them.
pub(super) fn executable() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("BED_BIN").filter(|value| !value.is_empty()) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().doing(|| "looking for the bed program".into())?;
    if own.file_name().is_some_and(|name| name == "bed") {
        return Ok(own);
    }
    let beside = own.ancestors().skip(1).take(2).map(|directory| directory.join("bed"));
    beside.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let own = own.display();
        Error::State(format!(
            "no bed program beside {own}: build it with `cargo build -p town-bed`, or set BED_BIN"
        ))
    })
}

/// Starts the process that becomes the node. Its standard input is the listening socket of the relay, and its standard
/// output is the lock on the home, so that the process keeps both until its end.
pub(super) fn spawn(executable: &Path, home: &Home, port: u16, bound: bool) -> Result<Option<Bound>, Error> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).doing(|| format!("listening on port {port}"))?;
    let logs = home.path().join("logs");
    fs::create_dir_all(&logs).doing(|| format!("making {}", logs.display()))?;
    let mut options = OpenOptions::new();
    let log = options.create(true).append(true).open(logs.join("node.log"));
    let mut command = Command::new("setpriv");
    command.args(if bound { &["--pdeathsig", "KILL", "--"] } else { &["--pdeathsig", "clear", "--"] });
    command.arg(executable).arg("node-launch").arg(home.path());
    command.stdin(OwnedFd::from(listener)).stdout(home.owner()?);
    command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
    if !bound {
        let status = command.status().doing(|| "starting the node".into())?;
        if !status.success() {
            let (said, log) = (tail(&logs.join("node.log")), logs.join("node.log"));
            let component = "the node".into();
            return Err(Error::NotReady {
                component,
                why: format!("it did not start ({status})"),
                said,
                log,
            });
        }
        return Ok(None);
    }
    // The launcher dies with this thread, and this thread ends at the drop of `Bound`.
    let (reply, launcher) = channel();
    let (thread, end) = channel::<()>();
    std::thread::spawn(move || {
        let _ = reply.send(command.spawn());
        drop(command);
        let _ = end.recv();
    });
    let launcher = launcher
        .recv()
        .map_err(std::io::Error::other)
        .and_then(|spawned| spawned)
        .doing(|| "starting the node".into())?;
    Ok(Some(Bound { launcher, _thread: thread }))
}
