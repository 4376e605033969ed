//! The first process of the node: it sets up the node, starts the components, reaps, relays, and executes commands from
//! a socket. The process does all of this itself, so that its starter may be interrupted. The process is the first of
//! its pid namespace, so that its end is the end of every process on the node.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::plan::Plan;
use super::{cgroups, config, image, network, relay, root, volumes};
use crate::component::{Component, Launch};
use crate::crew::{Crew, in_words};
use crate::error::{Doing, Error, tail};
use crate::pki::{self, Identity, PROXY, SCHEDULER};
use crate::proc::LOOK;
use crate::programs::EXECUTABLE_PATH;
use crate::servers::{self, API_SERVICE, Ports, Seat};

/// The ports are fixed, because no other process inside of the node uses ports.
const PORTS: Ports = Ports { etcd: 2379, etcd_peer: 2380, api: 6443, controller_manager: 10257 };
const READY: Duration = Duration::from_mins(2);

/// Creates the namespaces and starts the first process in them. A bound process dies with its parent, and the function
/// waits for its end; otherwise the function returns immediately.
pub fn launch(home: &Path) -> Result<(), Error> {
    let plan = Plan::read(home)?;
    if !plan.bound {
        // The new session does not receive Ctrl-C of the terminal.
        nix::unistd::setsid().doing(|| "leaving the terminal's session".into())?;
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .doing(|| "making the node's namespaces".into())?;
    let mut first = Command::new("/proc/self/exe")
        .arg0("bed")
        .arg("node-init")
        .arg(home)
        // The standard input and output are the listening socket and the lock on the home.
        .env_clear()
        .env("PATH", format!("{}:{EXECUTABLE_PATH}", root::BIN))
        .spawn()
        .doing(|| "starting the node's first process".into())?;
    if plan.bound {
        first.wait().map(drop).doing(|| "waiting for the node's end".into())?;
    }
    Ok(())
}

/// The main function of the first process; it returns only on failure.
pub fn init(home: &Path) -> Result<(), Error> {
    let plan = Plan::read(home)?;
    if std::process::id() != 1 {
        return Err(Error::State("node-init is started by `bed up` alone".into()));
    }
    if plan.bound {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "binding the node to its owner".into())?;
    }
    let listener = io::stdin().as_fd().try_clone_to_owned().doing(|| "taking the listening socket".into())?;
    let say = |stage: &str| {
        let _ = fs::write(Path::new(root::HOME).join("stage.new"), stage);
        let _ = fs::rename(Path::new(root::HOME).join("stage.new"), Path::new(root::HOME).join("stage"));
    };
    root::enter(home, &plan.bin, &plan.node)?;
    let node = bring_up(&plan, TcpListener::from(listener), &say);
    match node {
        Ok(crew) => {
            say("ready");
            loop {
                // The call blocks until a child has ended, without reaping it.
                let _ = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
                crew.reap();
            }
        }
        Err(error) => {
            say(&format!("failed: {error}"));
            Err(error)
        }
    }
}

fn bring_up(plan: &Plan, listener: TcpListener, say: &dyn Fn(&str)) -> Result<Arc<Crew>, Error> {
    let home = Path::new(root::HOME);
    say("making the node's namespaces");
    nix::unistd::sethostname(&plan.node).doing(|| "naming the node".into())?;
    network::set_up()?;
    cgroups::make(&plan.cgroup)?;
    volumes::open(Path::new(root::VOLUMES))?;
    servers::write_files(home).doing(|| "writing the servers' files".into())?;
    let overlay = root::overlay_works(Path::new("/var/lib/containerd"));
    config::write(&plan.cgroup, overlay).doing(|| "writing the node's files".into())?;

    let seat = Seat { bin: Path::new(root::BIN), home, ports: PORTS, advertise: Some(network::NODE) };
    certificates(plan, &seat)?;
    relay::serve(listener, PORTS.api);
    let crew = Arc::new(Crew::new(home)?);
    obey(&crew)?;

    say("starting etcd, kube-apiserver and containerd");
    crew.launch(seat.etcd())?;
    crew.launch(seat.api_server(&plan.api_server_args))?;
    crew.launch(config::containerd())?;
    let archive = Path::new("/run/images.tar");
    image::write(&plan.busybox, archive)?;
    crew.await_ready(Component::Containerd)?;
    import(archive)?;
    crew.await_ready(Component::Etcd)?;
    crew.await_ready(Component::ApiServer)?;
    say("starting kube-controller-manager, kube-scheduler, kubelet and kube-proxy");
    let mut launches: Vec<Launch> = vec![seat.controller_manager(&plan.controller_manager_args)];
    launches.extend([config::scheduler(), config::kubelet(&plan.node), config::proxy(&plan.node)]);
    for launch in &launches {
        crew.launch(launch.clone())?;
    }
    crew.client().create_storage_class(&seat.server())?;
    for launch in &launches {
        crew.await_ready(launch.component)?;
    }
    say("waiting for the node to be ready");
    let deadline = Instant::now() + READY;
    while !(crew.client().node_is_ready(&seat.server(), &plan.node)
        && crew.client().default_namespace_is_ready(&seat.server()))
    {
        if Instant::now() > deadline {
            let log = Component::Kubelet.log(home);
            let (component, why) = ("the node".into(), format!("not within {} s", READY.as_secs()));
            return Err(Error::NotReady { component, why, said: tail(&log), log });
        }
        std::thread::sleep(LOOK * 2);
    }
    Ok(crew)
}

fn certificates(plan: &Plan, seat: &Seat<'_>) -> Result<(), Error> {
    let home = seat.home;
    let mut names: Vec<String> =
        ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(Into::into).into();
    names.push("kubernetes.default.svc.cluster.local".into());
    names.extend(["127.0.0.1".into(), network::NODE.to_string(), API_SERVICE.to_string()]);
    let outside = format!("https://127.0.0.1:{}", plan.port);
    let authority = pki::control_plane(home, &names, &outside, &seat.server())?;
    authority.server("kubelet", &[plan.node.clone(), network::NODE.to_string(), "127.0.0.1".into()])?;
    let user = format!("system:node:{}", plan.node);
    let kubelet = Identity { user: &user, group: Some("system:nodes") };
    for (name, who) in [("scheduler", SCHEDULER), ("kubelet", kubelet), ("kube-proxy", PROXY)] {
        authority.kubeconfig(&home.join(format!("{name}.kubeconfig")), &seat.server(), who)?;
    }
    Ok(())
}

fn import(archive: &Path) -> Result<(), Error> {
    // The socket of containerd exists before its services are ready.
    let deadline = Instant::now() + READY;
    loop {
        let output = Command::new(format!("{}/ctr", root::BIN))
            .args(["-n", "k8s.io", "images", "import"])
            .arg(archive)
            .stdin(Stdio::null())
            .output()
            .doing(|| "running ctr".into())?;
        if output.status.success() {
            return fs::remove_file(archive).doing(|| "removing the imported images".into());
        }
        if Instant::now() > deadline {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Program { program: "ctr".into(), how: output.status.to_string(), said });
        }
        std::thread::sleep(LOOK);
    }
}

/// Listens on the socket `control`. A client sends one line, such as `restart kubelet`; the answer is `ok` or `error`
/// and more.
fn obey(crew: &Arc<Crew>) -> Result<(), Error> {
    let socket = Path::new(root::HOME).join("control");
    let listener = UnixListener::bind(&socket).doing(|| format!("listening on {}", socket.display()))?;
    let crew = Arc::clone(crew);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let crew = Arc::clone(&crew);
            std::thread::spawn(move || answer(&crew, stream));
        }
    });
    Ok(())
}

fn answer(crew: &Crew, mut stream: UnixStream) {
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let text = match carry_out(crew, line.trim()) {
        Ok(text) => format!("ok\n{text}"),
        Err(error) => format!("error\n{error}"),
    };
    let _ = stream.write_all(text.as_bytes());
}

fn carry_out(crew: &Crew, line: &str) -> Result<String, Error> {
    if line == "roll" {
        let word = |exit| Option::map_or(exit, "running".to_owned(), in_words);
        let lines = crew.roll().into_iter().map(|(component, exit)| format!("{component} {}", word(exit)));
        return Ok(lines.collect::<Vec<_>>().join("\n"));
    }
    let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
    let component =
        Component::named(name).ok_or_else(|| Error::State(format!("there is no component {name}")))?;
    match verb {
        "kill" => crew.kill(component),
        "stop" => crew.stop(component),
        "freeze" => crew.freeze(component),
        "thaw" => crew.thaw(component),
        "restart" => crew.restart(component),
        _ => Err(Error::State(format!("the node cannot {verb}"))),
    }?;
    Ok(String::new())
}
