//! operator
use std::process::ExitCode;
mod cli;
/// main
pub fn main() -> ExitCode { cli::main() }
