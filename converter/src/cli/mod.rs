//! The command line: arguments in, text out, exit code 0 or 1 (2 where the arguments themselves are wrong).
//!
//! Each command is one file with its arguments and one `run` that gives the text for standard output. Progress and
//! remarks go to standard error, so that `--json` can be piped.

mod compare;
mod inspect;
mod output;
mod parse;
mod prompts;
mod quantize;
mod run;
mod source;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use miette::Result;

/// Diffusion models for microcontrollers: from a trained checkpoint to one flat .mote file.
#[derive(Debug, Parser)]
#[command(name = "converter", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Quantize a checkpoint into a .mote file
    Quantize(quantize::Args),
    /// Show what a checkpoint, a bare config.json or a .mote file holds and costs
    Inspect(inspect::Args),
    /// Draw samples: a .mote file by the runtime, a checkpoint in float
    Run(run::Args),
    /// Compare a checkpoint in float with the .mote files made of it: pictures, classes, steps, layers
    Compare(compare::Args),
}

/// Parses the arguments, runs the command, and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Quantize(args) => quantize::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed as well; then there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{error:?}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a command's text to standard output. A reader that has left (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(miette::miette!(help = "redirect it to a disk with room", "standard output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// As [`print()`], of JSON, in a form that people can read too.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&json_text(value)?)
}

/// JSON with line breaks and an end of line.
fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| miette::miette!(help = "report this", "the report cannot be written as JSON: {error}"))?;
    Ok(text + "\n")
}
