//! The command line of the test bed.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Real Kubernetes clusters for tests and the demo.
#[derive(Parser)]
#[command(name = "bed", version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the programs of a cluster, if that has not been done (about 6 minutes on two cores).
    Build,
    /// Print where a program of the cluster lies, building it if needed.
    Path {
        /// Its name, such as kubectl or helm.
        program: String,
    },
    /// Start a control plane, print its URL, and hold it until the end of standard input.
    #[command(hide = true)]
    Hold,
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

fn run(command: Command) -> Result<ExitCode, bed::Error> {
    match command {
        Command::Build => {
            let programs = bed::Programs::ensure()?;
            println!("{}", programs.directory().display());
        }
        Command::Path { program } => println!("{}", bed::Programs::ensure_one(&program)?.display()),
        Command::Hold => {
            let options = bed::Options { name: "hold".into(), ..bed::Options::default() };
            let control_plane = bed::ControlPlane::start(options)?;
            println!("{}", control_plane.directory().display());
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        }
    }
    Ok(ExitCode::SUCCESS)
}
