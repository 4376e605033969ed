//! The command line: flags and commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::flags::{LogFormat, RunArgs};
use super::run::run;
use crate::{api, telemetry};

/// Runs towns: workspaces of AI coding agents. When a town is deleted, nothing of it is left; when
/// it is idle, it costs nothing.
///
/// Without a subcommand it runs the controller against the cluster that KUBECONFIG names, or the one
/// that it runs in.
#[derive(Debug, Parser)]
#[command(name = "town-operator", version, args_conflicts_with_subcommands = true, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the CustomResourceDefinitions, or write them to files.
    Crds {
        /// Directory to write one file per CRD into; standard output where absent.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print the documentation of the metrics, in Markdown.
    Metrics,
}

/// Parses the command line, and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Crds { dir }) => write_crds(dir.as_deref()),
        Some(Command::Metrics) => write_metrics(),
        None => start(cli.run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn start(args: RunArgs) -> Result<(), Box<dyn std::error::Error>> {
    args.check()?;
    telemetry::init(args.log_format == LogFormat::Json, &args.log)
        .map_err(|e| format!("--log '{}' is not a filter: {e}", args.log))?;
    // Two threads are enough: this process mostly waits for the API server.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args))
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "town-operator: {message}");
    ExitCode::FAILURE
}

fn write_crds(dir: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    for crd in api::crds()? {
        let yaml = api::to_yaml(&crd)?;
        match dir {
            Some(dir) => {
                let file = dir.join(format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural));
                std::fs::write(&file, yaml).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
            }
            None => write!(std::io::stdout(), "---\n{yaml}")?,
        }
    }
    Ok(())
}

fn write_metrics() -> Result<(), Box<dyn std::error::Error>> {
    Ok(write!(std::io::stdout(), "{}", telemetry::Metrics::default().documentation()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The chart sets every flag, and adds the arguments of `extraArgs` after its own (C2).
    #[test]
    fn last_value_of_a_flag_counts_when_it_is_given_twice() {
        let arguments = ["town-operator", "--concurrency=1", "--agent-tombstones", "--concurrency=2"];
        let cli = Cli::try_parse_from(arguments.into_iter().chain(["--agent-tombstones"])).unwrap();
        assert_eq!((cli.run.concurrency, cli.run.agent_tombstones), (2, true));
    }

    // C3: on OpenShift the admission sets the group.
    #[test]
    fn volume_group_is_a_number_or_empty() {
        let group = |text: &str| {
            let cli = Cli::try_parse_from(["town-operator", &format!("--volume-group={text}")]);
            cli.map(|cli| cli.run.volume_group.0).map_err(|error| error.to_string())
        };
        assert_eq!((group(""), group("0"), group("65532")), (Ok(None), Ok(Some(0)), Ok(Some(65532))));
        for wrong in ["nonroot", "-1", "2147483648"] {
            let error = group(wrong).unwrap_err();
            assert!(error.contains("leave it empty for no group"), "{error}");
        }
    }
}
