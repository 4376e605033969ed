//! The controller. Everything it does is in [`town_operator::operator`].

use std::process::ExitCode;

fn main() -> ExitCode {
    town_operator::operator::main()
}
