//! Child processes that end with the suite, however it ends.
//!
//! The kernel ends a child with its parent if it is asked to (`setpriv --pdeathsig`), but what it takes for
//! the parent is the *thread* that spawned. Stories run on threads that come and go; so one thread that stays
//! does all the spawning.

use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the threads of a process may take to stop: a thread in the kernel stops when its call returns.
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

/// A child process. It is killed when this value is dropped, or when the suite dies.
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

    /// Its exit code once it has ended; -1 if a signal ended it.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("a child of ours");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// The most memory that it has had at once, in bytes; 0 once it has ended.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.child.id().cast_signed())
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a child of ours");
        }
    }

    /// SIGSTOP, and waits until every thread is stopped.
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

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end by itself, and says its exit code.
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

/// The most memory that a process has had at once, in bytes; 0 once it has ended.
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
