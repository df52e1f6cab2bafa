//! Instructions of the runtime's operators on emulated microcontrollers. `benches/mcu/run` is the way to call this: it
//! builds the firmware, runs it in QEMU under the counter, and hands the counts over.

mod cases;
mod count;
mod report;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use mote_runtime::Model;
use mote_tests::Flash;

/// Instructions of the runtime's operators on emulated microcontrollers
#[derive(Debug, Parser)]
#[command(name = "mcu", max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the file with the operators that are compared
    Write { file: PathBuf },
    /// Print what was counted
    Report(Report),
}

#[derive(Debug, clap::Args)]
struct Report {
    /// The .mote file that ran
    model: PathBuf,
    /// A board and the counter's file: m4=FILE
    #[arg(required = true, value_parser = board)]
    counts: Vec<(String, PathBuf)>,
    /// CMSIS-NN's figures; without them every operator of the file is listed
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Also print how often each mnemonic ran
    #[arg(long)]
    histogram: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail where a limit is exceeded
    #[arg(long)]
    check: bool,
}

fn board(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let (board, path) = text.split_once('=').ok_or("a board and a file are wanted, such as m4=FILE")?;
    Ok((board.to_owned(), path.into()))
}

fn main() -> ExitCode {
    match run(&Args::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<bool> {
    let args = match command {
        Command::Write { file } => {
            std::fs::write(file, cases::file()).into_diagnostic().wrap_err_with(|| file.display().to_string())?;
            return Ok(true);
        }
        Command::Report(args) => args,
    };
    let read = |path: &PathBuf| std::fs::read(path).into_diagnostic().wrap_err_with(|| path.display().to_string());
    let file = Flash::new(&read(&args.model)?);
    let model = Model::from_bytes(file.bytes()).map_err(|error| miette!("{}: {error}", args.model.display()))?;
    let peers = match &args.peers {
        Some(path) => Some(report::Peers::read(&String::from_utf8_lossy(&read(path)?))?),
        None => None,
    };
    let mut boards = Vec::new();
    for (board, path) in &args.counts {
        let intervals = count::read(&String::from_utf8_lossy(&read(path)?))?;
        boards.push(report::Board::new(board, &model, &intervals, peers.as_ref())?);
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&boards).into_diagnostic()? + "\n",
        false => boards.iter().map(|board| board.text(args.histogram)).collect(),
    };
    std::io::stdout().write_all(text.as_bytes()).into_diagnostic()?;
    Ok(!args.check || boards.iter().all(report::Board::holds))
}
