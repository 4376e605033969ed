//! The operator as a process outside of the cluster: start, kill, terminate and restart.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::account::{LEASE_NAMESPACE, NAME};
use super::process::Process;
use super::suite::note;
use super::wait::until;

/// The installation id of the operator in the suites.
pub const INSTALL_ID: &str = "town-tests";

/// The release of the operator.
const RELEASE: &str = "town-system/town-operator";

/// The number of log lines in the message of a failed story.
const LINES: usize = 60;

/// The addresses of an operator's servers.
#[derive(Clone, Copy)]
struct Addresses {
    health: SocketAddr,
    metrics: SocketAddr,
}

/// A running operator. The drop of the value ends it.
pub struct Operator {
    kubeconfig: PathBuf,
    flags: Vec<String>,
    addresses: Addresses,
    pod_uid: String,
    process: Mutex<Process>,
    directory: TempDir,
}

impl Operator {
    /// Starts an operator and waits until it reports ready.
    pub async fn start(kubeconfig: &Path, flags: &[&str]) -> Self {
        let operator = Self::launch(kubeconfig, flags);
        operator.await_ready().await;
        operator
    }

    /// Starts an operator without waiting.
    pub fn launch(kubeconfig: &Path, flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let addresses = Addresses { health: free_address(), metrics: free_address() };
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        // The id stays the same over restarts, as that of a pod: the kubelet restarts a container only after the end of
        // the process.
        let pod_uid = format!("pod-{:08x}", rand::random::<u32>());
        let process = Mutex::new(spawn(kubeconfig, &flags, addresses, &pod_uid, directory.path()));
        Self { kubeconfig: kubeconfig.into(), flags, addresses, pod_uid, process, directory }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the operator reports ready.
    pub async fn await_ready(&self) {
        until("the operator is ready", Duration::from_mins(1), async || {
            if let Some(code) = self.process().ended() {
                panic!("the operator ended with {code}:\n{}", self.log());
            }
            if answers(self.addresses.health, "/readyz") { Ok(()) } else { Err(self.log()) }
        })
        .await;
    }

    /// Sends SIGKILL, and waits for the end of the process.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Sends SIGTERM; returns the exit code and the time to the end.
    pub fn terminate(&self) -> (i32, Duration) {
        let began = Instant::now();
        self.process().signal(Signal::SIGTERM);
        let code = self.process().await_end(Duration::from_mins(1));
        (code, began.elapsed())
    }

    /// Waits until the process ends by itself; returns the exit code.
    pub fn await_end(&self) -> i32 {
        self.process().await_end(Duration::from_mins(1))
    }

    /// Restarts the operator with the same identity, as the kubelet does, and waits until it is ready.
    pub async fn restart(&self) {
        self.kill();
        *self.process() =
            spawn(&self.kubeconfig, &self.flags, self.addresses, &self.pod_uid, self.directory.path());
        self.await_ready().await;
    }

    /// Sends SIGSTOP, and waits until every thread is stopped.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// Sends SIGCONT after a [`Self::pause`].
    pub fn resume(&self) {
        self.process().signal(Signal::SIGCONT);
    }

    /// The identity of the operator in the Lease, in its log and in the audit log. Restarts keep it.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    pub fn runs(&self) -> bool {
        self.process().ended().is_none()
    }

    /// The peak memory since the last start, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.process().peak_memory()
    }

    pub fn health(&self) -> SocketAddr {
        self.addresses.health
    }

    pub fn metrics_address(&self) -> SocketAddr {
        self.addresses.metrics
    }

    /// The metrics in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        get(self.addresses.metrics, "/metrics").unwrap_or_else(|error| panic!("GET /metrics: {error}"))
    }

    /// The log since the first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.directory.path())).unwrap_or_default()
    }

    /// Adds the end of the log to the message of the failing story: the lines that contain `about`.
    pub fn explain(&self, about: &str) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(about)).collect();
        let from = lines.len().saturating_sub(LINES);
        note(format!("the operator's log on '{about}' says last:\n{}", lines[from..].join("\n")));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Only an operator of a single story is dropped during a panic: a shared operator outlives its stories.
        if std::thread::panicking() {
            self.explain("");
        }
    }
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn spawn(
    kubeconfig: &Path,
    flags: &[String],
    addresses: Addresses,
    pod_uid: &str,
    directory: &Path,
) -> Process {
    let log = OpenOptions::new().create(true).append(true).open(log_file(directory)).expect("a log file");
    Process::spawn(env!("CARGO_BIN_EXE_town-operator"), |command| {
        command.env("KUBECONFIG", kubeconfig).stdout(log.try_clone().expect("a log file")).stderr(log);
        let Addresses { health, metrics } = addresses;
        command.arg(format!("--health-addr={health}")).arg(format!("--metrics-addr={metrics}"));
        command.args(["--log-format", "json", "--admission-policies"]);
        for (flag, default) in [
            ("--install-id", INSTALL_ID),
            ("--lease-namespace", LEASE_NAMESPACE),
            ("--release", RELEASE),
            ("--identity", NAME),
            ("--metrics-auth", "none"),
            ("--pod-uid", pod_uid),
        ] {
            if !flags.iter().any(|given| given.starts_with(&format!("{flag}="))) {
                command.args([flag, default]);
            }
        }
        // A flag must not occur twice on the command line.
        command.args(flags);
        if !flags.iter().any(|flag| flag.starts_with("--log=")) {
            command.arg("--log=warn,town_operator=debug");
        }
    })
}

/// The ports below those of the test bed, and below the ephemeral ports of the kernel.
const PORTS: std::ops::Range<u32> = 12_000..20_000;

/// A free address of this machine. No other story and no connection takes it before the operator listens there.
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Concurrent suites begin at different ports.
        let number = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether the answer to a GET is 200.
pub fn answers(address: SocketAddr, path: &str) -> bool {
    get(address, path).is_ok()
}

/// The answer to a GET; an error if the status is not 200.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    get_with(address, path, "")
}

/// The answer to a GET with headers. Each header ends with a line break.
pub fn get_with(address: SocketAddr, path: &str, headers: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other(answer)),
    }
}
