//! The host benchmark: draws a picture with a `.mote` file and says where the time goes.
//!
//! Times are wall-clock on one thread, as a microcontroller has one, unless `--threads` says more; of each operator and step the median over the
//! repeats is reported, after one drawing that is not counted. The picture's checksum is the same on every machine and
//! with every kernel table, so that a fast wrong answer does not pass for a result.

mod measure;
mod peak;
mod report;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use miette::{IntoDiagnostic, Result, miette};
use mote_converter::draw::MoteFile;
use mote_runtime::kernels::{Kernels, select};

/// Measure drawing with a .mote file on this machine
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
struct Args {
    /// The .mote file
    file: PathBuf,
    /// Number of steps, one that the file offers (default: its first)
    #[arg(long, value_name = "N")]
    steps: Option<u16>,
    /// The class (default: the null class, else 0)
    #[arg(long, value_name = "N")]
    class: Option<u16>,
    /// Guidance scale; other than 1 doubles the network calls
    #[arg(long, value_name = "G", default_value_t = 1.0)]
    guidance: f32,
    /// Seed of the noise
    #[arg(long, value_name = "S", default_value_t = 7)]
    seed: u64,
    /// Pictures that are timed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Kernels to run (default: the fastest that this machine can run)
    #[arg(long, value_name = "NAME", value_parser = kernels_named)]
    kernels: Option<&'static Kernels>,
    /// Convolve without Winograd's algorithm
    #[arg(long)]
    direct: bool,
    /// Threads inside a step. With several, a picture on one thread and as many pictures side by side, a thread each, are timed too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=127))]
    threads: u16,
    /// Every operator and step
    #[arg(long)]
    verbose: bool,
    /// Print the measurement as JSON
    #[arg(long)]
    json: bool,
}

/// The kernel table of that name.
fn kernels_named(name: &str) -> std::result::Result<&'static Kernels, String> {
    let names = || select::tables().iter().map(|table| table.name).collect::<Vec<_>>().join(", ");
    let table = select::tables().iter().find(|table| table.name == name);
    table.copied().ok_or_else(|| format!("this machine can run: {}", names()))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let file = MoteFile::read(&args.file)?;
    let model = file.model()?;
    let measurement = measure::measure(&args.file, &model, args)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&measurement).into_diagnostic()? + "\n",
        false => report::text(&measurement, args.verbose),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(miette!(help = "redirect it to a disk with room", "standard output cannot be written: {error}"))
        }
        _ => Ok(()),
    }
}
