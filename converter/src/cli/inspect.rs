//! `converter inspect`: what a checkpoint, a bare configuration or a `.mote` file holds and costs.

use std::path::PathBuf;

use miette::{Report, Result, miette};
use mote_converter::arch::{Network, Unet2dConfig};
use mote_converter::draw::MoteFile;
use mote_converter::report::checkpoint::{CheckpointReport, CheckpointText};
use mote_converter::report::mote::MoteReport;
use mote_converter::report::mote_text::MoteText;
use mote_converter::schedule::Scheduler;
use mote_converter::weights::Checkpoint;
use mote_runtime::kernels::tiling::Target;

use super::source::CheckpointArgs;
use super::{parse, print, print_json};

/// Arguments of `converter inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A checkpoint (file or folder), a bare config.json, or a .mote file
    file: PathBuf,
    /// Numbers of steps to plan a checkpoint for
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "20", value_parser = parse::steps)]
    steps: Vec<usize>,
    /// The core whose kernels the arena is counted for
    #[arg(long, value_name = "NAME", default_value = "portable", value_parser = parse::target)]
    target: &'static Target,
    #[command(flatten)]
    of_checkpoint: CheckpointArgs,
    /// Long tables in full
    #[arg(long)]
    verbose: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if MoteFile::is_at(&args.file) { mote(args) } else { checkpoint(args) }
}

/// A damaged payload is shown with all else, and still is an error.
fn mote(args: &Args) -> Result<()> {
    let file = MoteFile::read(&args.file)?;
    let report = MoteReport::new(file.bytes(), args.target).map_err(|error| file.invalid(error))?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&MoteText { report: &report, verbose: args.verbose }.to_string())?;
    }
    match report.damaged_block {
        None => Ok(()),
        Some(block) => Err(file.invalid(mote_runtime::Error::PayloadChecksum { block })),
    }
}

fn checkpoint(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.file)?;
    let network = import(&checkpoint, args)?;
    let classes = args.of_checkpoint.classes(&network, &checkpoint)?;
    let report = CheckpointReport::new(&checkpoint, network, classes, &args.steps, args.target)?;
    if args.json {
        print_json(&report)
    } else {
        print(&CheckpointText { report: &report, verbose: args.verbose }.to_string())
    }
}

/// The network, or everything that stands in its way: both configurations are read before either is complained about.
fn import(checkpoint: &Checkpoint, args: &Args) -> Result<Network> {
    let config = Unet2dConfig::read(checkpoint.config()?).err();
    let scheduler = checkpoint.scheduler_config().ok().and_then(|text| Scheduler::read(text).err());
    match (config, scheduler) {
        (None, None) => Network::import(checkpoint, args.of_checkpoint.size),
        (Some(error), None) | (None, Some(error)) => Err(error),
        (Some(config), Some(scheduler)) => Err(both(&config, &scheduler)),
    }
}

fn both(config: &Report, scheduler: &Report) -> Report {
    let help = config.help().map_or(String::new(), |help| help.to_string());
    miette!(help = help, "{config}\n{scheduler}")
}
