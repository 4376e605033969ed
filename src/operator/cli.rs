//! The command line: flags, and what each command does.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api;

/// Runs towns: workspaces of AI coding agents. When a town is deleted, nothing of it is left; when
/// it is idle, it costs nothing.
///
/// Without a subcommand it runs the controller against the cluster that KUBECONFIG names, or the one
/// that it runs in.
#[derive(Debug, Parser)]
#[command(name = "town-operator", version, args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
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
}

/// Flags of the controller; each can also be set by the environment variable shown with it.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Which installation this is: a label value of at most 63 characters. It marks everything that
    /// this operator makes; nothing of another installation is ever touched. Cannot be changed later.
    #[arg(long, env = "TOWN_OPERATOR_INSTALL_ID", default_value = "", hide_default_value = true)]
    pub install_id: String,
    /// Namespace of the Lease that keeps the install id.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_NAMESPACE", default_value = "", hide_default_value = true)]
    pub lease_namespace: String,
    /// Name of the Lease that keeps the install id.
    #[arg(long, env = "TOWN_OPERATOR_LEASE_NAME", default_value = "town-operator")]
    pub lease_name: String,
    /// Form of the log lines.
    #[arg(long, env = "TOWN_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: a level, or a comma-separated list of target=level.
    #[arg(long, env = "TOWN_OPERATOR_LOG", default_value = "info,kube=warn,hyper=warn,tower=warn")]
    pub log: String,
    /// Address that serves /healthz (liveness) and /readyz (readiness).
    #[arg(long, env = "TOWN_OPERATOR_HEALTH_ADDR", default_value = "127.0.0.1:8080")]
    pub health_addr: SocketAddr,
    /// Towns, and agents, reconciled at the same time.
    #[arg(long, env = "TOWN_OPERATOR_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Time after which a deletion that does not get on is reported by the condition DeletionBlocked.
    #[arg(long, env = "TOWN_OPERATOR_DELETION_BLOCKED_AFTER", default_value = "10m")]
    pub deletion_blocked_after: api::Duration,
    /// The API server's --request-timeout: a create whose answer was lost may take effect until then.
    #[arg(long, env = "TOWN_OPERATOR_APISERVER_REQUEST_TIMEOUT", default_value = "60s")]
    pub apiserver_request_timeout: api::Duration,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Crds { dir }) => match write_crds(dir.as_deref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        None => ExitCode::SUCCESS,
    }
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
