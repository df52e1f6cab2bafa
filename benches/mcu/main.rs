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
use mote_runtime::format::checksum::crc32;
use mote_runtime::kernels::select;
use mote_runtime::ops::{Context, Workers, run_rows};
use mote_runtime::shape::op_rows;
use mote_runtime::{Model, Poll, Request, Sampler, opset};
use mote_tests::{Flash, arena_for};

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
    Write {
        file: PathBuf,
        /// Convolutions by Winograd's algorithm where it can be
        #[arg(long)]
        winograd: bool,
    },
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
        Command::Write { file, winograd } => {
            std::fs::write(file, cases::file(*winograd))
                .into_diagnostic()
                .wrap_err_with(|| file.display().to_string())?;
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
    let expected = written(&model)?;
    for (board, path) in &args.counts {
        // A fast wrong answer does not pass for a result.
        let text = read(&path.with_extension("text"))?;
        if !String::from_utf8_lossy(&text).contains(&expected) {
            return Err(miette!("{board}: an operator wrote other bytes than here, which are:\n{expected}"));
        }
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

/// What the firmware says if it is right: the same operators, run here.
fn written(model: &Model<'_>) -> Result<String> {
    let mut arena = arena_for(model);
    let arena = arena.bytes_mut();
    let class = model.classes().checked_sub(1).map(|last| last.min(7));
    let request = Request { seed: 7, class, ..Default::default() };
    let failed = |error| miette!("{error}");
    Sampler::new(model, arena).map_err(failed)?.start(request).map_err(failed)?;
    let kernels = select::kernels::<{ opset::ALL }>();
    let context = Context { model, kernels, row: 0, class: class.unwrap_or(0).into(), workers: Workers::ALONE };
    let mut written = 0u32;
    let graph = model.graph(0);
    for record in (graph.first_op..graph.first_op + graph.ops).filter_map(|index| model.op(index.into())) {
        run_rows(&context, arena, &record.op, record.live_end as usize, 0..op_rows(&record.op, model));
        written = written.rotate_left(1) ^ crc32(&arena[model.tensor(record.op.out()).range()]);
    }
    let mut sampler = Sampler::new(model, arena).map_err(failed)?;
    sampler.start(request).map_err(failed)?;
    while let Poll::Pending(_) = sampler.poll() {}
    Ok(format!("written {written:08x}\npicture {:08x}\n", sampler.sample_crc()))
}
