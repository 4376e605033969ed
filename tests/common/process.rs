//! Child processes that end with the suite, even if the suite is killed.
//!
//! With `setpriv --pdeathsig` the kernel kills a child after the end of its parent. For the kernel the parent is the
//! *thread* that spawned the child. The threads of stories end before the suite, so that one permanent thread spawns
//! all processes.

use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The timeout for the stop of all threads: a thread in the kernel stops when its system call returns.
const STOPPED: Duration = Duration::from_secs(30);

type Order = (Command, Sender<io::Result<Child>>);

static SPAWNER: LazyLock<Sender<Order>> = LazyLock::new(|| {
    let (orders, received) = channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in received {
            let _ = reply.send(command.spawn());
        }
    });
    orders
});

/// A child process. The drop of the value and the end of the suite kill it.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program; `configure` sets its arguments, environment and output.
    pub fn spawn(program: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        configure(&mut command);
        let (reply, answer) = channel();
        SPAWNER.send((command, reply)).expect("the spawning thread");
        let child = answer.recv().expect("the spawning thread");
        Self { child: child.unwrap_or_else(|error| panic!("cannot start {program}: {error}")) }
    }

    /// The exit code of an ended process; -1 if a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("a child of ours");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// The peak memory in bytes; 0 after the end of the process.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.child.id().cast_signed())
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a child of ours");
        }
    }

    /// Sends SIGSTOP, and waits until every thread is stopped.
    pub fn pause(&mut self) {
        let pid = self.child.id().cast_signed();
        self.signal(Signal::SIGSTOP);
        let deadline = Instant::now() + STOPPED;
        while !bed::is_stopped(pid) {
            assert!(self.ended().is_none(), "a process that has ended cannot be paused");
            assert!(Instant::now() < deadline, "the process did not stop within {STOPPED:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends SIGKILL, and waits for the end of the process.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the process ends by itself, and returns its exit code.
    #[track_caller]
    pub fn await_end(&mut self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < deadline, "the process did not end within {within:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The peak memory of a process in bytes; 0 after its end.
pub fn peak_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or_default() * 1024
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
