//! The `converter` command: quantizes checkpoints into `.mote` files, inspects, runs and compares them.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
