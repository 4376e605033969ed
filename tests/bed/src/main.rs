//! The command line of the test bed.

use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bed::{ControlPlane, Error, NodeCluster, Options, Programs};
use clap::{Args, Parser, Subcommand};

/// Real Kubernetes clusters for tests and the demo.
#[derive(Parser)]
#[command(name = "bed", version)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Named {
    /// The name of the cluster, if there are several.
    #[arg(long, default_value = "town")]
    name: String,
}

#[derive(Subcommand)]
enum Command {
    /// Build the programs of a cluster, if they are missing (about 6 minutes on two cores).
    Build,
    /// Print the path of a program of the cluster; build it if it is missing.
    Path {
        /// The name, such as kubectl or helm.
        program: String,
    },
    /// Start a cluster with a node, unless it runs, and print how to use it.
    Up(Named),
    /// End a cluster and remove all its files.
    Down(Named),
    /// Show whether a cluster and its components run.
    Status(Named),
    /// Show the logs of a cluster: the end of each, or one complete log.
    Logs {
        #[command(flatten)]
        cluster: Named,
        /// A component, such as kubelet.
        component: Option<String>,
    },
    /// Load the images of an OCI or docker archive into a cluster's node.
    LoadImage {
        #[command(flatten)]
        cluster: Named,
        /// The archive.
        file: PathBuf,
    },
    /// Print whether this machine can have a node, with the reason if not.
    CanNode,
    /// Run kubectl on a cluster, or on that of KUBECONFIG if it is set.
    Kubectl(Pass),
    /// Run helm on a cluster, or on that of KUBECONFIG if it is set.
    Helm(Pass),
    /// Start a control plane, print its directory, and keep it until the end of standard input.
    #[command(hide = true)]
    Hold {
        /// Start a node, too.
        #[arg(long)]
        node: bool,
    },
    #[command(hide = true)]
    NodeLaunch { home: PathBuf },
    #[command(hide = true)]
    NodeInit { home: PathBuf },
}

#[derive(Args)]
struct Pass {
    #[command(flatten)]
    cluster: Named,
    /// The arguments of the command, after --.
    #[arg(last = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match run(Line::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Build => println!("{}", Programs::ensure()?.directory().display()),
        Command::Path { program } => println!("{}", Programs::ensure_one(&program)?.display()),
        Command::Up(Named { name }) => up(&name)?,
        Command::Down(Named { name }) => {
            let there = NodeCluster::down(&name)?;
            eprintln!("bed: the cluster {name:?} {}", if there { "is gone" } else { "was not there" });
        }
        Command::Status(Named { name }) => return status(&name),
        Command::Logs { cluster, component } => logs(&cluster.name, component.as_deref())?,
        Command::LoadImage { cluster, file } => NodeCluster::attach(&cluster.name)?.load_image(&file)?,
        Command::CanNode => {
            if let Err(why) = bed::node_possible() {
                println!("{why}");
                return Ok(ExitCode::FAILURE);
            }
            println!("this machine can have a node");
        }
        Command::Kubectl(pass) => return pass_on("kubectl", &pass),
        Command::Helm(pass) => return pass_on("helm", &pass),
        Command::Hold { node } => hold(node)?,
        Command::NodeLaunch { home } => bed::first_process::launch(&home)?,
        Command::NodeInit { home } => bed::first_process::init(&home)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: &str) -> Result<(), Error> {
    let began = Instant::now();
    let say = |stage: &str| eprintln!("bed: {stage} ({:.1} s)", began.elapsed().as_secs_f32());
    let (cluster, before) =
        NodeCluster::up(&Options { name: name.into(), ..Options::default() }, &mut |stage| say(stage))?;
    say(&format!("the cluster {name:?} is {}", if before { "running already" } else { "ready" }));
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

fn status(name: &str) -> Result<ExitCode, Error> {
    let cluster = match NodeCluster::attach(name) {
        Err(Error::State(why)) => {
            println!("{why}");
            return Ok(ExitCode::FAILURE);
        }
        cluster => cluster?,
    };
    show(&format!("the cluster {name:?} is {}, at {}", cluster.stage(), cluster.url()));
    show(&format!("export KUBECONFIG={}", cluster.kubeconfig().display()));
    for (component, state) in cluster.components()? {
        show(&format!("  {:<24} {state}", component.program()));
    }
    show(&format!("  {} processes of pods", cluster.processes().len()));
    Ok(ExitCode::SUCCESS)
}

/// Prints a line. A closed pipe, as with `| head`, is not an error.
fn show(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The function reads only the directory, so that it also works for a cluster that has ended.
fn logs(name: &str, component: Option<&str>) -> Result<(), Error> {
    let directory = NodeCluster::directory_of(name)?.join("logs");
    let unreadable = |source| Error::Io { doing: format!("reading {}", directory.display()), source };
    if let Some(component) = component {
        let mut log = std::fs::File::open(directory.join(format!("{component}.log"))).map_err(unreadable)?;
        let _ = std::io::copy(&mut log, &mut std::io::stdout());
        return Ok(());
    }
    for entry in std::fs::read_dir(&directory).map_err(unreadable)?.flatten() {
        let text = std::fs::read(entry.path()).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(10)..].join("\n");
        show(&format!("==> {} <==\n{end}\n", entry.path().display()));
    }
    Ok(())
}

fn pass_on(program: &str, pass: &Pass) -> Result<ExitCode, Error> {
    let mut command = if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) {
        std::process::Command::new(Programs::ensure_one(program)?)
    } else {
        let cluster = NodeCluster::attach(&pass.cluster.name)?;
        if program == "helm" { cluster.helm() } else { cluster.kubectl() }
    };
    // The call returns only on failure.
    let source = command.args(&pass.arguments).exec();
    Err(Error::Io { doing: format!("running {program}"), source })
}

fn hold(node: bool) -> Result<(), Error> {
    let options = Options { name: "hold".into(), ..Options::default() };
    let until_told = |directory: &std::path::Path| {
        println!("{}", directory.display());
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    };
    if node {
        until_told(NodeCluster::start(&options)?.directory());
    } else {
        until_told(ControlPlane::start(options)?.directory());
    }
    Ok(())
}
