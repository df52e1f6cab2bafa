//! `converter quantize`: a checkpoint becomes a `.mote` file.
//!
//! Budgets are checked before anything is written, and the file appears by rename, so a run that fails or is stopped
//! leaves what was there before. The summary's quality is measured, on a few pairs of pictures.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use miette::{Result, miette};
use mote_converter::arch::Cond;
use mote_converter::calibrate::RangeMethod;
use mote_converter::compare::{self, Comparison, ReuseCost, compare, reuse_cost};
use mote_converter::draw::{Device, Draw, MoteFile, Prompt};
use mote_converter::emit::{self, emit};
use mote_converter::pipeline::{Options, Quantized, Stage, WeightChoice, prepare};
use mote_converter::plan::winograd::Winograd;
use mote_converter::quantize::{Level, Techniques};
use mote_converter::report::summary::Summary;
use mote_converter::schedule::Scheduler;
use mote_converter::weights::Checkpoint;
use mote_runtime::kernels::tiling::Target;

use super::output::{Counter, Progress, note};
use super::source::{CheckpointArgs, open_weights};
use super::{parse, print, print_json, prompts};

/// Multiply-adds that the pictures of the summary's quality may cost, float and quantized together, guided or not.
const QUALITY_MACS: u64 = 12_000_000_000;
/// Pairs of pictures of the summary's quality, at most.
const QUALITY_PAIRS: usize = 8;

/// Arguments of `converter quantize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .safetensors file, a model folder, or a diffusers pipeline folder
    checkpoint: PathBuf,
    /// The file to write (default: NAME.mote in the current folder, after the checkpoint or its folder)
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Numbers of steps that the file offers, the default one first
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "20", value_parser = parse::steps)]
    steps: Vec<usize>,
    /// Noise of DDIM's steps: 0 for none (deterministic), 1 for as much as DDPM
    #[arg(long, value_name = "E", default_value_t = 0.0)]
    eta: f64,
    /// Make one network call in N a full one, the others reuse its deep features; 1 reuses nothing
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse::cache_interval)]
    cache_interval: usize,
    /// Guidance scales to be ready for, as LO..HI or one number (networks with a null class)
    /// (default: 1..3)
    #[arg(long, value_name = "LO..HI", value_parser = parse::guidance_range)]
    guidance: Option<RangeInclusive<f32>>,
    /// How weights are written
    #[arg(long, value_enum, default_value_t = Weights::Int8)]
    weights: Weights,
    /// Width of the activations
    #[arg(long, value_enum, default_value_t = Activations::Auto)]
    activations: Activations,
    /// How 8-bit activation ranges are chosen
    #[arg(long, value_enum, default_value_t = RangeChoice::MeanSquare)]
    ranges: RangeChoice,
    /// Convolutions by Winograd's algorithm on cores that gain (m4, m7, m33): the same picture, sooner, in a larger arena
    #[arg(long, value_enum, default_value_t = WinogradChoice::Auto)]
    winograd: WinogradChoice,
    /// Arena budget, such as 256K
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
    ram: Option<usize>,
    /// File budget, such as 1M
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
    flash: Option<usize>,
    /// The core whose kernels the arena is planned for: m0plus, m3, m4, m7, m33, m55, rv32, rvv, …
    #[arg(long, value_name = "NAME", default_value = "portable", value_parser = parse::target)]
    target: &'static Target,
    /// Trajectories that calibration draws, for each number of steps
    #[arg(long, value_name = "N", default_value_t = Options::default().trajectories as u32,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calibration: u32,
    /// Seed of the first calibration trajectory
    #[arg(long, value_name = "S", default_value_t = Options::default().seed)]
    seed: u64,
    #[command(flatten)]
    of_checkpoint: CheckpointArgs,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Encodings of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Weights {
    /// 8 bits, symmetric, a scale for each output channel
    Int8,
    /// 4 bits with an integer scale for each group of 16 input channels; layers with less than a hundredth
    /// of the weights 8 bits
    Int4,
    /// 4 bits where the picture loses least, 8 elsewhere, to fit --flash (default: 70 % of the int8 file)
    Auto,
}

/// Widths of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Activations {
    /// Those that draw best within --ram; without it int8, with the network's input and its first convolution's output in
    /// 16 bits where that gains a decibel
    Auto,
    /// 8 bits everywhere
    Int8,
    /// 16 bits wherever the device's operators take them
    Int16,
}

/// Which convolutions are done by Winograd's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WinogradChoice {
    /// Wherever it is faster and --ram allows, with a --target that gains; nowhere without both
    Auto,
    /// Wherever it is faster
    On,
    /// Nowhere: the smallest arena and program
    Off,
}

/// Choices of activation ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RangeChoice {
    /// Least squared error, where clipping weighs more than rounding
    MeanSquare,
    /// All that calibration saw
    MinMax,
    /// All but one value in ten thousand at either end
    Percentile,
    /// Whichever of the three draws better, tensor by tensor; takes minutes
    Search,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let checkpoint = open_weights(&args.checkpoint)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => default_out(&args.checkpoint)?,
    };
    check_out(&out, &args.checkpoint)?;
    let options = args.options();
    let progress = Progress::new();
    let stage = |stage, done, total| progress.at(stage_name(stage), done, total);
    let calibrated = prepare(&checkpoint, &options, &stage)?;
    args.of_checkpoint.check(calibrated.classes)?;
    if args.guidance.is_some() && calibrated.classes.null.is_none() {
        note("--guidance has no effect: no null class is known (--null-class)");
    }
    let quantized = calibrated.quantize(&options, &stage)?;
    let file = MoteFile::in_memory(&out, &quantized.packed.bytes);
    // The runtime's own check of what is about to be written, and the pictures that it draws with it.
    let model = file.model()?;
    let device = Device::new(&model, None)?;
    let prompts = quality_prompts(&device, &quantized, &options);
    let counter = Counter::new(&progress, "comparing with float", prompts.len());
    let compared = compare::Options { prompts, ..compare::Options::default() };
    let quality = compare(&calibrated.network, &model, &compared, &|| counter.tick())?;
    let reuse = match quantized.graph.reuse {
        None => None,
        Some(_) => {
            let counter = Counter::new(&progress, "drawing without reuse", ReuseCost::DRAWINGS);
            let scheduler = Scheduler::read(checkpoint.scheduler_config()?)?;
            reuse_cost(&calibrated, &scheduler, &quantized.graph, &options, &|| counter.tick())?
        }
    };
    progress.finish();
    emit(&out, &quantized.packed.bytes)?;
    report(args, &checkpoint, &out, &quantized, reuse.as_ref(), &quality, started)
}

impl Args {
    fn options(&self) -> Options {
        Options {
            steps: self.steps.clone(),
            eta: self.eta,
            cache_interval: self.cache_interval,
            size: self.of_checkpoint.size,
            classes: self.of_checkpoint.classes,
            null_class: self.of_checkpoint.null_class,
            trajectories: self.calibration as usize,
            guidance: self.guidance.clone().unwrap_or(Options::default().guidance),
            seed: self.seed,
            weights: match self.weights {
                Weights::Int8 => WeightChoice::Int8,
                Weights::Int4 => WeightChoice::Int4,
                Weights::Auto => WeightChoice::Auto,
            },
            techniques: Techniques {
                ranges: match self.ranges {
                    RangeChoice::MinMax => RangeMethod::MinMax,
                    RangeChoice::Percentile => RangeMethod::Percentile,
                    RangeChoice::MeanSquare | RangeChoice::Search => RangeMethod::MeanSquare,
                },
                ..Techniques::default()
            },
            search_ranges: self.ranges == RangeChoice::Search,
            activations: match self.activations {
                Activations::Auto => None,
                Activations::Int8 => Some(Level::Int8),
                Activations::Int16 => Some(Level::Norms),
            },
            winograd: match self.winograd {
                WinogradChoice::Auto => Winograd::Auto,
                WinogradChoice::On => Winograd::On,
                WinogradChoice::Off => Winograd::Off,
            },
            ram_bytes: self.ram,
            flash_bytes: self.flash,
            tiling: self.target.tiling,
        }
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Import => "reading the checkpoint",
        Stage::Calibrate => "calibrating",
        Stage::Solve => "solving weights",
        Stage::Reference => "drawing in float",
        Stage::Search => "searching",
        Stage::Pack => "packing",
    }
}

fn report(
    args: &Args,
    checkpoint: &Checkpoint,
    out: &Path,
    quantized: &Quantized,
    reuse: Option<&ReuseCost>,
    quality: &Comparison,
    started: Instant,
) -> Result<()> {
    let summary = Summary {
        checkpoint: checkpoint.path().display().to_string(),
        file: out.display().to_string(),
        ram_bytes: args.ram,
        flash_bytes: args.flash,
        costs: &quantized.report,
        front: quantized.front.as_ref(),
        reuse,
        quality,
        seconds: started.elapsed().as_secs_f64(),
    };
    if args.json { print_json(&summary) } else { print(&summary.to_string()) }
}

/// A few pairs, no more than [`QUALITY_MACS`] allows: classes in turn, at the least guidance that was calibrated for.
fn quality_prompts(device: &Device, quantized: &Quantized, options: &Options) -> Vec<Prompt> {
    let calls = options.steps.first().copied().unwrap_or(1) as u64;
    let pairs = QUALITY_MACS / (4 * calls * quantized.report.macs).max(1);
    let signature = device.signature();
    let mut conds = prompts::every_class(&signature);
    if signature.class_vector_len > 0 {
        // No vector is typical; zero adds nothing to the time embedding.
        conds = vec![Cond::Vector(vec![0.0; signature.class_vector_len])];
    } else if conds.is_empty() {
        conds = vec![Cond::None];
    }
    let guidance = if signature.classes.null.is_some() { *options.guidance.start() } else { 1.0 };
    let prompt = |(i, cond): (usize, &Cond)| Prompt { seed: i as u64, cond: cond.clone(), guidance, noise: None };
    conds.iter().cycle().enumerate().map(prompt).take(pairs.clamp(1, QUALITY_PAIRS as u64) as usize).collect()
}

/// `NAME.mote` in the current folder: a checkpoint's own folder may be a read-only cache. The name is the file's unless
/// that is one of those that every checkpoint has; then it is the folder's.
fn default_out(checkpoint: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(checkpoint).unwrap_or_else(|_| checkpoint.to_owned());
    let file = if absolute.is_dir() { None } else { absolute.file_name().and_then(|name| name.to_str()) };
    let stem = file.map(|name| name.split(".safetensors").next().unwrap_or(name).trim_end_matches(".fp16"));
    let own = stem.filter(|stem| !["model", "diffusion_pytorch_model", ""].contains(stem)).map(str::to_owned);
    let folders = absolute.ancestors().skip(usize::from(file.is_some()));
    let folder = folders.filter_map(|folder| folder.file_name()?.to_str()).find(|name| *name != "unet" && *name != ".");
    let name = own.or(folder.map(str::to_owned)).ok_or_else(|| {
        miette!(help = "name the file with -o", "{}: there is no name to call the result by", checkpoint.display())
    })?;
    Ok(PathBuf::from(format!("{name}.mote")))
}

/// Refuses destinations that cannot be meant, before minutes are spent.
fn check_out(out: &Path, checkpoint: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(out, checkpoint) {
        return Err(miette!(
            help = "name another file with -o",
            "{}: the destination is the checkpoint itself",
            out.display()
        ));
    }
    emit::check(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_named_after_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let digits = folder.path().join("digits");
        std::fs::create_dir_all(digits.join("unet")).unwrap();
        let named = |path: &str| default_out(&digits.join(path)).unwrap();
        assert_eq!(named(""), Path::new("digits.mote"));
        assert_eq!(named("model.safetensors"), Path::new("digits.mote"));
        assert_eq!(named("unet/diffusion_pytorch_model.fp16.safetensors"), Path::new("digits.mote"));
        assert_eq!(named("unet"), Path::new("digits.mote"));
        assert_eq!(named("mnist-v2.safetensors"), Path::new("mnist-v2.mote"));
        assert_eq!(named("model.safetensors.index.json"), Path::new("digits.mote"));
        assert!(default_out(Path::new("/")).is_err());
    }
}
