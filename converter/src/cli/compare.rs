//! `converter compare`: float against quantized, from the same noise.

use std::path::PathBuf;

use miette::{Result, miette};
use mote_converter::arch::{Cond, Network};
use mote_converter::compare::{self, compare};
use mote_converter::draw::{Device, Draw, MoteFile};
use mote_converter::report::comparison;

use super::output::{Counter, Progress};
use super::parse::{self, ClassChoice};
use super::prompts::{Wanted, every_class, prompts};
use super::source::{CheckpointArgs, open_weights};
use super::{print, print_json};

/// Arguments of `converter compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The checkpoint (file or folder)
    checkpoint: PathBuf,
    /// The .mote file that was made of it
    file: PathBuf,
    /// Pairs of pictures
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// How many of the pairs are looked at layer by layer
    #[arg(long, value_name = "N", default_value_t = 8)]
    layers: u32,
    /// Seed of the noise; pair i has seed + i
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The class, or `all` for classes in turn (default: all, where there are classes)
    #[arg(long, value_name = "N|all", value_parser = parse::class)]
    class: Option<ClassChoice>,
    /// Guidance scale; 1 is no guidance
    #[arg(long, value_name = "G", default_value = "1", value_parser = parse::guidance, allow_negative_numbers = true)]
    guidance: f32,
    /// Number of steps, one that the file offers (default: its first)
    #[arg(long, value_name = "N", value_parser = parse::steps)]
    steps: Option<usize>,
    /// Class vector, .npy of f32, for networks that take one
    #[arg(long, value_name = "FILE")]
    class_embedding: Option<PathBuf>,
    /// Every step and every layer
    #[arg(long)]
    verbose: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if MoteFile::is_at(&args.checkpoint) && !MoteFile::is_at(&args.file) {
        return Err(miette!(
            help = "the checkpoint comes first: `converter compare model.safetensors out.mote`",
            "the two files are in the other order"
        ));
    }
    let checkpoint = open_weights(&args.checkpoint)?;
    let file = MoteFile::read(&args.file)?;
    let model = file.model()?;
    let device = Device::new(&model, args.steps)?;
    let signature = device.signature();
    let [h, w, _] = signature.shape;
    // The file's size and classes are the ones to compare at.
    let of_checkpoint = CheckpointArgs {
        size: Some([h, w]),
        null_class: signature.classes.null,
        classes: (signature.classes.count > 0).then_some(signature.classes.count),
    };
    let network = Network::import(&checkpoint, of_checkpoint.size)?;
    let classes = of_checkpoint.classes(&network, &checkpoint)?;
    if classes.count != signature.classes.count || network.time.takes_vector() != (signature.class_vector_len > 0) {
        return Err(miette!(
            help = "compare a file with the checkpoint that it was made of",
            "the checkpoint has {} classes, the file {}",
            classes.count,
            signature.classes.count
        ));
    }

    let count = args.count as usize;
    let choice = args.class.or((signature.classes.count > 0).then_some(ClassChoice::All));
    let one = match choice {
        Some(ClassChoice::All) if signature.classes.count > 0 => Some(ClassChoice::One(0)),
        choice => choice,
    };
    let wanted = Wanted {
        seed: args.seed,
        count: Some(count),
        class: one,
        guidance: args.guidance,
        noise: None,
        class_embedding: args.class_embedding.as_deref(),
    };
    let mut list = prompts(&wanted, &signature)?.list;
    if choice == Some(ClassChoice::All) {
        let turns: Vec<Cond> = every_class(&signature);
        list.iter_mut().zip(turns.iter().cycle()).for_each(|(prompt, cond)| prompt.cond = cond.clone());
    }
    let progress = Progress::new();
    let counter = Counter::new(&progress, "comparing", count);
    let options = compare::Options { prompts: list, steps: args.steps, layered: args.layers as usize };
    let comparison = compare(&network, &model, &options, &|| counter.tick())?;
    progress.finish();
    if args.json { print_json(&comparison) } else { print(&comparison::text(&comparison, args.verbose)) }
}
