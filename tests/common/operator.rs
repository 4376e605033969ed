//! The operator as a process of its own, as it runs outside of a cluster: started, killed, asked to end,
//! started again.

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

/// The id of the installation that the suites run.
pub const INSTALL_ID: &str = "town-tests";

/// The release that it belongs to.
const RELEASE: &str = "town-system/town-operator";

/// How many lines of its log the message of a failed story shows.
const LINES: usize = 60;

/// Where an operator listens.
#[derive(Clone, Copy)]
struct Addresses {
    health: SocketAddr,
    metrics: SocketAddr,
}

/// A running operator. Dropping it ends it.
pub struct Operator {
    kubeconfig: PathBuf,
    flags: Vec<String>,
    addresses: Addresses,
    pod_uid: String,
    process: Mutex<Process>,
    directory: TempDir,
}

impl Operator {
    /// Starts one and waits until it says that it is ready.
    pub async fn start(kubeconfig: &Path, flags: &[&str]) -> Self {
        let operator = Self::launch(kubeconfig, flags);
        operator.await_ready().await;
        operator
    }

    /// Starts one and does not wait.
    pub fn launch(kubeconfig: &Path, flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a scratch directory");
        let addresses = Addresses { health: free_address(), metrics: free_address() };
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        // As in a pod: it is started again only when the process before is dead.
        let pod_uid = format!("pod-{:08x}", rand::random::<u32>());
        let process = Mutex::new(spawn(kubeconfig, &flags, addresses, &pod_uid, directory.path()));
        Self { kubeconfig: kubeconfig.into(), flags, addresses, pod_uid, process, directory }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it says that it is ready.
    pub async fn await_ready(&self) {
        until("the operator is ready", Duration::from_mins(1), async || {
            if let Some(code) = self.process().ended() {
                panic!("the operator ended with {code}:\n{}", self.log());
            }
            if answers(self.addresses.health, "/readyz") { Ok(()) } else { Err(self.log()) }
        })
        .await;
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// SIGTERM; its exit code and how long it took to end.
    pub fn terminate(&self) -> (i32, Duration) {
        let began = Instant::now();
        self.process().signal(Signal::SIGTERM);
        let code = self.process().await_end(Duration::from_mins(1));
        (code, began.elapsed())
    }

    /// Waits for its end by itself; its exit code.
    pub fn await_end(&self) -> i32 {
        self.process().await_end(Duration::from_mins(1))
    }

    /// Starts it again in its place, as the kubelet does, and waits until it is ready.
    pub async fn restart(&self) {
        self.kill();
        *self.process() =
            spawn(&self.kubeconfig, &self.flags, self.addresses, &self.pod_uid, self.directory.path());
        self.await_ready().await;
    }

    /// SIGSTOP, and waits until it does nothing more.
    pub fn pause(&self) {
        self.process().pause();
    }

    /// SIGCONT after a [`Self::pause`].
    pub fn resume(&self) {
        self.process().signal(Signal::SIGCONT);
    }

    /// How the Lease, its log and the audit log call it; not its restarts apart.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.process().ended().is_none()
    }

    /// The most memory that it has had at once since it was last started, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.process().peak_memory()
    }

    /// Where it answers health checks.
    pub fn health(&self) -> SocketAddr {
        self.addresses.health
    }

    /// Where it serves its metrics.
    pub fn metrics_address(&self) -> SocketAddr {
        self.addresses.metrics
    }

    /// What it has measured, as Prometheus is told.
    pub fn metrics(&self) -> String {
        get(self.addresses.metrics, "/metrics").unwrap_or_else(|error| panic!("GET /metrics: {error}"))
    }

    /// All that it has logged, over restarts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.directory.path())).unwrap_or_default()
    }

    /// Adds the end of its log to the message of the story that fails: the lines with `about` in them.
    pub fn explain(&self, about: &str) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(about)).collect();
        let from = lines.len().saturating_sub(LINES);
        note(format!("the operator's log on '{about}' says last:\n{}", lines[from..].join("\n")));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that stories share outlives them all; this one was a story's own.
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
        // A flag of the story may not stand on the command line twice.
        command.args(flags);
        if !flags.iter().any(|flag| flag.starts_with("--log=")) {
            command.arg("--log=warn,town_operator=debug");
        }
    })
}

/// Ports below those that the bed takes, and below the range from which the kernel takes the ports of connections.
const PORTS: std::ops::Range<u32> = 12_000..20_000;

/// An address of this machine that no server listens on. No other story and no connection takes it before the
/// operator listens there.
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Suites that run side by side begin at different places.
        let number = std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether a GET is answered with 200.
pub fn answers(address: SocketAddr, path: &str) -> bool {
    get(address, path).is_ok()
}

/// What a GET is answered with; an error where that is not 200.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    get_with(address, path, "")
}

/// The same with headers, each with its line end.
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
