//! The entry point of the controller. [`town_operator::operator`] contains all of its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    town_operator::operator::main()
}
