//! A control plane without a node, for tests: etcd, API server and controller manager on free loopback ports.
//!
//! The control plane needs no root and starts in about three seconds. Several can run at the same time. There is no
//! kubelet and no scheduler: a test plays the pods. The control plane ends when the value is dropped, and when the
//! process is killed. The next start removes the files of a killed one.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::component::Component;
use crate::crew::Crew;
use crate::error::{Doing, Error};
use crate::home::{self, Base, Home};
use crate::options::Options;
use crate::pki;
use crate::ports;
use crate::proc::LOOK;
use crate::programs::Programs;
use crate::servers::{self, Ports, Seat};

/// A running control plane. The drop of the value ends its processes and removes its directory.
pub struct ControlPlane {
    // The function `drop` drops these fields in this order.
    crew: Option<Crew>,
    home: Option<Home>,
    directory: PathBuf,
    programs: Programs,
    url: String,
    kubeconfig: PathBuf,
    audit_log: PathBuf,
    disturbed: AtomicBool,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl ControlPlane {
    /// Starts a control plane and waits until it is ready. Builds missing programs first.
    pub fn start(options: impl Borrow<Options>) -> Result<Self, Error> {
        let options = options.borrow();
        let programs = Programs::ensure_control_plane()?;
        let base = Base::lock()?;
        base.sweep("cp-")?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = base.claim(&format!("cp-{}-{}-{number}", options.word(), std::process::id()))?;
        let [etcd, etcd_peer, api, controller_manager] = ports::take(&base, &home)?;
        drop(base);
        let ports = Ports { etcd, etcd_peer, api, controller_manager };
        let directory = home.path().to_owned();
        let mut control_plane = Self {
            crew: None,
            home: Some(home),
            url: format!("https://127.0.0.1:{api}"),
            kubeconfig: directory.join("kubeconfig"),
            audit_log: servers::audit_log(&directory),
            directory,
            programs,
            disturbed: AtomicBool::new(false),
        };
        // If a step fails, `drop` removes the rest.
        control_plane.bring_up(ports, options)?;
        Ok(control_plane)
    }

    fn bring_up(&mut self, ports: Ports, options: &Options) -> Result<(), Error> {
        let directory = &self.directory;
        servers::write_files(directory).doing(|| format!("writing into {}", directory.display()))?;
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        pki::control_plane(directory, &names, &self.url, &self.url)?;
        let seat = Seat { bin: self.programs.directory(), home: directory, ports, advertise: None };
        let crew = self.crew.insert(Crew::new(directory)?);
        // The API server itself waits for etcd.
        crew.launch(seat.etcd())?;
        crew.launch(seat.api_server(&options.api_server_args))?;
        crew.await_ready(Component::Etcd)?;
        crew.await_ready(Component::ApiServer)?;
        let mut launch = seat.controller_manager(&options.controller_manager_args);
        launch.command.splice(0..0, private_volumes());
        crew.launch(launch)?;
        crew.client().create_storage_class(&self.url)?;
        crew.await_ready(Component::ControllerManager)?;
        let deadline = Instant::now() + Duration::from_mins(1);
        while !crew.client().default_namespace_is_ready(&self.url) {
            if Instant::now() > deadline {
                let what = "the namespace `default` got no service account within 60 s";
                return Err(Error::Api(what.into()));
            }
            std::thread::sleep(LOOK * 2);
        }
        Ok(())
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig of the admin of the cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The audit log: each request that the API server answered, as one JSON object per line.
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }

    /// The path of the log of a component.
    pub fn logs(&self, component: Component) -> PathBuf {
        component.log(&self.directory)
    }

    /// The directory with all files of the control plane.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The kubectl of the bed, with the kubeconfig of this control plane.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.programs.path("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    /// Whether a component was killed, stopped, frozen or restarted.
    pub fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    fn disturb(&self) -> Result<&Crew, Error> {
        self.disturbed.store(true, Ordering::Relaxed);
        self.crew()
    }

    fn crew(&self) -> Result<&Crew, Error> {
        self.crew.as_ref().ok_or_else(|| Error::State("the control plane has ended".into()))
    }

    /// The process id of a component that runs.
    pub fn pid(&self, component: Component) -> Option<i32> {
        self.crew().ok()?.running(component).map(nix::unistd::Pid::as_raw)
    }

    /// Kills a component (SIGKILL) and waits for its end.
    pub fn kill(&self, component: Component) -> Result<(), Error> {
        self.disturb()?.kill(component)
    }

    /// Terminates a component (SIGTERM) and waits for its end.
    pub fn stop(&self, component: Component) -> Result<(), Error> {
        self.disturb()?.stop(component)
    }

    /// Freezes a component (SIGSTOP): it keeps its connections and answers nothing.
    pub fn freeze(&self, component: Component) -> Result<(), Error> {
        self.disturb()?.freeze(component)
    }

    /// Resumes a frozen component (SIGCONT).
    pub fn thaw(&self, component: Component) -> Result<(), Error> {
        self.disturb()?.thaw(component)
    }

    /// Starts a component again, and waits until it is ready. A running component is stopped first.
    pub fn restart(&self, component: Component) -> Result<(), Error> {
        self.disturb()?.restart(component)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.crew = None;
        if home::to_be_kept(&self.directory) {
            return;
        }
        let Ok(base) = Base::lock() else { return };
        let _ = home::remove(&self.directory);
        self.home = None;
        base.leave();
    }
}

/// The command before the controller manager's command line. The command creates a mount namespace, so that the volume
/// directories below `/tmp/hostpath_pv` are private and end with the process. Without the permission for a mount
/// namespace the controller manager runs without one, and the (empty) directories remain.
fn private_volumes() -> Vec<String> {
    let script = "mkdir -p /tmp/hostpath_pv && mount -t tmpfs none /tmp/hostpath_pv && exec \"$@\"";
    let mut prefix = vec!["unshare".to_owned(), "--mount".to_owned()];
    if !nix::unistd::geteuid().is_root() {
        prefix.push("--map-root-user".to_owned());
    }
    prefix.extend(["sh", "-c", script, "sh"].map(str::to_owned));
    // The kernel clears the parent-death signal when a process gains capabilities in a new user namespace.
    let bound = ["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned);
    let mut trial = Command::new("unshare");
    trial.args(&prefix[1..]).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
    if trial.status().is_ok_and(|status| status.success()) {
        prefix.extend(bound);
        prefix
    } else {
        Vec::new()
    }
}
