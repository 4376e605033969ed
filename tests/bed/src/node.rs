//! A cluster with a real node: control plane, scheduler, kubelet, containerd and kube-proxy in their own namespaces.
//! The end of their first process ends all of them.
//!
//! A cluster is of one of two kinds: one that runs until `bed down` (`bed up`), and one that belongs to a test and ends
//! with it.

mod cgroups;
mod config;
mod image;
mod init;
mod network;
mod plan;
mod possible;
mod relay;
mod root;
mod start;
mod tidy;
mod volumes;

use std::borrow::Borrow;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::component::Component;
use crate::error::{Doing, Error, tail};
use crate::home::{self, Base};
use crate::options::Options;
use crate::proc::{self, LOOK};
use crate::programs::{EXECUTABLE_PATH, Programs};
use crate::{ports, servers};

pub use image::BUSYBOX;
pub use init::{init, launch};
pub use possible::node_possible;

use plan::Plan;
use start::Bound;

/// The timeout until the node is ready. The usual time is three to five seconds.
const READY: Duration = Duration::from_mins(4);

/// A process of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The process id on the machine.
    pub pid: i32,
    /// The arguments, separated by spaces.
    pub cmdline: String,
    /// The UID of its pod.
    pub pod_uid: String,
}

/// A cluster with a node. A cluster from [`NodeCluster::start`] ends at the drop of the value, and at any end of this
/// process. A cluster from [`NodeCluster::up`] or [`NodeCluster::attach`] runs until [`NodeCluster::down`].
pub struct NodeCluster {
    directory: PathBuf,
    plan: Plan,
    programs: Programs,
    kubeconfig: PathBuf,
    audit_log: PathBuf,
    bound: Option<Bound>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl NodeCluster {
    /// Starts a cluster that belongs to this process, and waits until its node is ready.
    pub fn start(options: impl Borrow<Options>) -> Result<Self, Error> {
        let options = options.borrow();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("own-{}-{number}-{}", std::process::id(), options.word());
        Self::make(&name, options, true, &mut |_| ()).map(|(cluster, _)| cluster)
    }

    /// Starts a permanent cluster, unless it runs, and waits until its node is ready. Calls `say` with the progress.
    /// Returns whether the cluster was already running.
    pub fn up(options: &Options, say: &mut dyn FnMut(&str)) -> Result<(Self, bool), Error> {
        Self::make(&home_name(&options.name)?, options, false, say)
    }

    fn make(
        name: &str,
        options: &Options,
        bound: bool,
        say: &mut dyn FnMut(&str),
    ) -> Result<(Self, bool), Error> {
        let base = Base::lock()?;
        let directory = base.path().join(name);
        if home::owned(&directory) {
            drop(base);
            let cluster = Self::open(directory)?;
            cluster.await_ready(say)?;
            return Ok((cluster, true));
        }
        drop(base);
        possible::check()?;
        let (programs, busybox) = (Programs::ensure()?, image::busybox()?);
        let executable = start::executable()?;
        // The build can take minutes. Another process can start the cluster meanwhile.
        let base = Base::lock()?;
        if home::owned(&directory) {
            drop(base);
            return Self::make(name, options, bound, say);
        }
        tidy::remnants(&base, &directory)?;
        let home = base.claim(name)?;
        let [port] = ports::take(&base, &home)?;
        let plan = Plan {
            node: "bed-node".into(),
            cgroup: tidy::cgroup(&directory),
            bin: programs.directory().into(),
            busybox,
            port,
            bound,
            api_server_args: options.api_server_args.clone(),
            controller_manager_args: options.controller_manager_args.clone(),
        };
        plan.write(home.path())?;
        let launcher = start::spawn(&executable, &home, port, bound)?;
        drop((base, home));
        let mut cluster = Self::open(directory)?;
        cluster.bound = launcher;
        cluster.await_ready(say)?;
        Ok((cluster, false))
    }

    /// The running cluster of this name.
    pub fn attach(name: &str) -> Result<Self, Error> {
        let directory = home::base().join(home_name(name)?);
        if home::owned(&directory) {
            return Self::open(directory);
        }
        let missing = if directory.exists() { "has ended" } else { "is not running" };
        Err(Error::State(format!("the cluster {name:?} {missing}; start it with: bed up --name {name}")))
    }

    /// The directory for all files of the cluster of this name.
    pub fn directory_of(name: &str) -> Result<PathBuf, Error> {
        Ok(home::base().join(home_name(name)?))
    }

    fn open(directory: PathBuf) -> Result<Self, Error> {
        let plan = Plan::read(&directory)?;
        Ok(Self {
            programs: Programs::at(&plan.bin),
            kubeconfig: directory.join("kubeconfig"),
            audit_log: servers::audit_log(&directory),
            bound: None,
            directory,
            plan,
        })
    }

    fn await_ready(&self, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let deadline = Instant::now() + READY;
        let mut said = String::new();
        loop {
            let alive = home::owned(&self.directory);
            let stage = self.stage();
            if stage == "ready" {
                return Ok(());
            }
            let log = self.directory.join("logs/node.log");
            let why = if let Some(error) = stage.strip_prefix("failed: ") {
                return Err(Error::State(error.to_owned()));
            } else if !alive {
                "it ended".to_owned()
            } else if Instant::now() > deadline {
                format!("not within {} s (it was {stage})", READY.as_secs())
            } else {
                if stage != said {
                    say(&stage);
                    said = stage;
                }
                std::thread::sleep(LOOK);
                continue;
            };
            return Err(Error::NotReady { component: "the cluster".into(), why, said: tail(&log), log });
        }
    }

    /// The state of the cluster: `ready`, a step of its start, or `failed: ...`.
    pub fn stage(&self) -> String {
        fs::read_to_string(self.directory.join("stage")).unwrap_or_else(|_| "making the node's root".into())
    }

    /// Ends the cluster of this name and removes all its files. Returns whether there was one.
    pub fn down(name: &str) -> Result<bool, Error> {
        let base = Base::lock()?;
        let directory = base.path().join(home_name(name)?);
        let there = directory.exists();
        tidy::remove(&directory)?;
        base.leave();
        Ok(there)
    }

    /// The address of the API server on the machine: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.plan.port)
    }

    /// A kubeconfig of the admin, for use on the machine.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The audit log: each request that the API server answered, as one JSON object per line.
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }

    /// The directory with all files of the cluster.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name of its only node.
    pub fn node(&self) -> &str {
        &self.plan.node
    }

    /// The path of the log of a component.
    pub fn logs(&self, component: Component) -> PathBuf {
        component.log(&self.directory)
    }

    /// The kubectl of the bed, with the kubeconfig of this cluster.
    pub fn kubectl(&self) -> Command {
        self.client("kubectl")
    }

    /// The helm of the bed, with the kubeconfig of this cluster.
    pub fn helm(&self) -> Command {
        self.client("helm")
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.path(program));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// The prefix of a command that runs inside of the node, where pods and Services are reachable.
    pub fn inside(&self) -> Result<Command, Error> {
        let ended = || Error::State("the cluster has ended".into());
        let first = tidy::first_process(&self.directory).ok_or_else(ended)?;
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--uts", "--ipc", "--pid", "--target", &first.to_string(), "--"]);
        command.env("PATH", format!("{}:{EXECUTABLE_PATH}", root::BIN));
        Ok(command)
    }

    /// Loads the images of an OCI or docker archive into the node.
    pub fn load_image(&self, archive: &Path) -> Result<(), Error> {
        let file = File::open(archive).doing(|| format!("opening {}", archive.display()))?;
        let mut command = self.inside()?;
        // The path of the file does not exist inside of the node.
        command.args(["ctr", "-n", "k8s.io", "images", "import", "-"]).stdin(file);
        let output = command.output().doing(|| "running ctr in the node".into())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Program { program: "ctr images import".into(), how: output.status.to_string(), said })
    }

    /// The processes of pods on the node, with their sandboxes.
    pub fn processes(&self) -> Vec<Process> {
        let below = format!("/{}/", self.plan.cgroup);
        let of_pod = |pid: Pid| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
            let line = cgroups.lines().find(|line| line.contains(&below))?;
            let pod_uid = line.split('/').find_map(|part| part.strip_prefix("pod"))?.to_owned();
            let words = proc::arguments(pid);
            let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            // A process without arguments has already ended.
            let cmdline = words.join(" ");
            (!cmdline.is_empty()).then(|| Process { pid: pid.as_raw(), cmdline, pod_uid })
        };
        proc::all().filter_map(of_pod).collect()
    }

    /// Each component, with `running` or its exit status.
    pub fn components(&self) -> Result<Vec<(Component, String)>, Error> {
        let text = self.tell("roll")?;
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.filter_map(|(name, state)| Some((Component::named(name)?, state.to_owned()))).collect())
    }

    fn tell(&self, line: &str) -> Result<String, Error> {
        let socket = self.directory.join("control");
        let doing = || format!("telling the node to {line}");
        let mut stream = UnixStream::connect(socket).doing(doing)?;
        stream.write_all(format!("{line}\n").as_bytes()).doing(doing)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).doing(doing)?;
        match answer.split_once('\n') {
            Some(("ok", text)) => Ok(text.to_owned()),
            Some((_, error)) => Err(Error::State(error.to_owned())),
            None => Err(Error::State(format!("the node gave no answer to: {line}"))),
        }
    }

    /// Kills a component (SIGKILL) and waits for its end.
    pub fn kill(&self, component: Component) -> Result<(), Error> {
        self.tell(&format!("kill {component}")).map(drop)
    }

    /// Terminates a component (SIGTERM) and waits for its end.
    pub fn stop(&self, component: Component) -> Result<(), Error> {
        self.tell(&format!("stop {component}")).map(drop)
    }

    /// Freezes a component (SIGSTOP): it keeps its connections and answers nothing.
    pub fn freeze(&self, component: Component) -> Result<(), Error> {
        self.tell(&format!("freeze {component}")).map(drop)
    }

    /// Resumes a frozen component (SIGCONT).
    pub fn thaw(&self, component: Component) -> Result<(), Error> {
        self.tell(&format!("thaw {component}")).map(drop)
    }

    /// Starts a component again, and waits until it is ready. A running component is stopped first.
    pub fn restart(&self, component: Component) -> Result<(), Error> {
        self.tell(&format!("restart {component}")).map(drop)
    }
}

impl Drop for NodeCluster {
    fn drop(&mut self) {
        let Some(mut bound) = self.bound.take() else { return };
        if home::to_be_kept(&self.directory) {
            let _ = bound.launcher.kill();
            let _ = bound.launcher.wait();
            return;
        }
        let Ok(base) = Base::lock() else { return };
        if let Err(error) = tidy::remove(&self.directory) {
            eprintln!("bed: {error}");
        }
        let _ = bound.launcher.wait();
        base.leave();
    }
}

fn home_name(name: &str) -> Result<String, Error> {
    // The length is limited, because paths of Unix sockets are.
    let fine = (1..=40).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if fine {
        Ok(format!("node-{name}"))
    } else {
        Err(Error::State(format!("{name:?} is no name for a cluster: up to 40 letters, digits and -")))
    }
}
