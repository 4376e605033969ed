//! The running components of one cluster: start, watch, signal and wait.
//!
//! The kernel kills every child after the end of its parent (`setpriv --pdeathsig`). For the kernel the parent is the
//! *thread* that spawned the child. Therefore a permanent thread spawns all children.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::api::Client;
use crate::component::{Component, Launch};
use crate::error::{Doing, Error, tail};
use crate::proc::{LOOK, is_stopped};

/// The timeout until a component is ready. A loaded machine with one core needs a tenth of it.
const READY: Duration = Duration::from_secs(90);
/// The timeout until a component ends after SIGTERM. The API server gives requests 60 s to finish.
const STOPPED: Duration = Duration::from_secs(90);

struct Post {
    launch: Launch,
    child: Child,
    exit: Option<ExitStatus>,
}

impl Post {
    /// Checks whether the process has ended, and reaps it.
    fn look(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn signal(&mut self, signal: Signal) {
        // The process is not reaped yet, so that the id still belongs to it.
        if self.look().is_none() {
            let _ = kill(self.pid(), signal);
        }
    }
}

type Order = (Command, Sender<io::Result<Child>>);

pub(crate) struct Crew {
    home: PathBuf,
    client: Client,
    posts: Mutex<BTreeMap<Component, Post>>,
    orders: Option<Sender<Order>>,
    spawner: Option<JoinHandle<()>>,
}

impl Crew {
    /// An empty crew for the cluster with this home.
    pub(crate) fn new(home: &Path) -> Result<Self, Error> {
        let (orders, received) = channel::<Order>();
        let spawner = std::thread::Builder::new()
            .name("bed-spawner".into())
            .spawn(move || {
                for (mut command, reply) in received {
                    let _ = reply.send(command.spawn());
                }
            })
            .doing(|| "starting a thread".into())?;
        Ok(Self {
            home: home.into(),
            client: Client::new(home)?,
            posts: Mutex::default(),
            orders: Some(orders),
            spawner: Some(spawner),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn posts(&self) -> MutexGuard<'_, BTreeMap<Component, Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let gone = || io::Error::other("the spawning thread is gone");
        let (reply, answer) = channel();
        self.orders.as_ref().ok_or_else(gone)?.send((command, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Starts a component without waiting for it.
    pub(crate) fn launch(&self, launch: Launch) -> Result<(), Error> {
        let component = launch.component;
        let log = component.log(&self.home);
        let mut options = OpenOptions::new();
        let output =
            options.create(true).append(true).open(&log).doing(|| format!("opening {}", log.display()))?;
        let errors = output.try_clone().doing(|| format!("opening {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&launch.command);
        command.current_dir(&self.home).stdin(Stdio::null()).stdout(output).stderr(errors);
        // The components live for minutes: memory is cheaper than the time of the Go garbage collector.
        command.env("GOGC", "300");
        let mut posts = self.posts();
        let child = self.spawn(command).doing(|| format!("starting {component}"))?;
        posts.insert(component, Post { launch, child, exit: None });
        Ok(())
    }

    /// Waits until a launched component is ready.
    pub(crate) fn await_ready(&self, component: Component) -> Result<(), Error> {
        let deadline = Instant::now() + READY;
        loop {
            let (exit, ready) = match self.posts().get_mut(&component) {
                Some(post) => (post.look(), post.launch.ready.clone()),
                None => return Err(Error::State(format!("{component} is no part of this cluster"))),
            };
            let why = match exit {
                Some(exit) => format!("it ended ({exit})"),
                None if ready.shows(&self.client) => return Ok(()),
                None if Instant::now() > deadline => format!("not within {} s", READY.as_secs()),
                None => {
                    std::thread::sleep(LOOK * 2);
                    continue;
                }
            };
            let log = component.log(&self.home);
            return Err(Error::NotReady { component: component.to_string(), why, said: tail(&log), log });
        }
    }

    /// Starts a component and waits until it is ready.
    pub(crate) fn start(&self, launch: Launch) -> Result<(), Error> {
        let component = launch.component;
        self.launch(launch)?;
        self.await_ready(component)
    }

    fn signal(&self, component: Component, signal: Signal) -> Result<(), Error> {
        match self.posts().get_mut(&component) {
            Some(post) => {
                post.signal(signal);
                Ok(())
            }
            None => Err(Error::State(format!("{component} is no part of this cluster"))),
        }
    }

    fn await_end(&self, component: Component, within: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + within;
        while self.running(component).is_some() {
            if Instant::now() > deadline {
                return Err(Error::State(format!("{component} did not end within {} s", within.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The process of a component that runs.
    pub(crate) fn running(&self, component: Component) -> Option<Pid> {
        let mut posts = self.posts();
        let post = posts.get_mut(&component)?;
        post.look().is_none().then(|| post.pid())
    }

    /// Each component, with its exit status if it has ended.
    pub(crate) fn roll(&self) -> Vec<(Component, Option<ExitStatus>)> {
        self.posts().iter_mut().map(|(component, post)| (*component, post.look())).collect()
    }

    /// Sends SIGKILL, and waits for the end.
    pub(crate) fn kill(&self, component: Component) -> Result<(), Error> {
        self.signal(component, Signal::SIGKILL)?;
        self.await_end(component, STOPPED)
    }

    /// Sends SIGTERM, and waits for the end.
    pub(crate) fn stop(&self, component: Component) -> Result<(), Error> {
        self.thaw(component)?;
        self.signal(component, Signal::SIGTERM)?;
        self.await_end(component, STOPPED)
    }

    /// Sends SIGSTOP, and waits until every thread is stopped: the component keeps its connections and answers nothing.
    pub(crate) fn freeze(&self, component: Component) -> Result<(), Error> {
        self.signal(component, Signal::SIGSTOP)?;
        let deadline = Instant::now() + STOPPED;
        while let Some(pid) = self.running(component) {
            if is_stopped(pid.as_raw()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::State(format!("{component} did not stop within {} s", STOPPED.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
        Err(Error::State(format!("{component} does not run")))
    }

    /// Sends SIGCONT.
    pub(crate) fn thaw(&self, component: Component) -> Result<(), Error> {
        self.signal(component, Signal::SIGCONT)
    }

    /// Stops a running component, starts it with the same command, and waits until it is ready.
    pub(crate) fn restart(&self, component: Component) -> Result<(), Error> {
        self.stop(component)?;
        let launch = self.posts().get(&component).map(|post| post.launch.clone());
        launch.map_or(Ok(()), |launch| self.start(launch))
    }

    /// Reaps ended processes: the components first, then orphans, which this process inherits as the first of its pid
    /// namespace. The function holds the lock, so that no new process is reaped before it is registered.
    pub(crate) fn reap(&self) {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
        let mut posts = self.posts();
        loop {
            for post in posts.values_mut() {
                post.look();
            }
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
            let Ok(WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..)) = waitid(Id::All, flags)
            else {
                return;
            };
            // A component that ended just now is reaped in the next round.
            if posts.values().all(|post| post.exit.is_some() || post.pid() != ended) {
                let _ = waitpid(ended, None);
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let mut posts = self.posts();
        for post in posts.values_mut() {
            post.signal(Signal::SIGKILL);
        }
        for post in posts.values_mut().filter(|post| post.exit.is_none()) {
            let _ = post.child.wait();
        }
        drop(posts);
        self.orders = None;
        if let Some(spawner) = self.spawner.take() {
            let _ = spawner.join();
        }
    }
}

/// A short text for an exit status.
pub(crate) fn in_words(exit: ExitStatus) -> String {
    match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("exited {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}
