//! What each technique of quantization gives: finished pictures with it and without it.
//!
//! One calibration, one set of float pictures, then a file for every variant; a variant differs from the default in one
//! thing. Differences are paired, picture by picture, and come with their standard error: what is smaller than two of
//! those is scatter. Two techniques from the literature that the converter does not have, because of what stands here,
//! are carried out by this program alone ([`equalize`], [`coefficients`]).

mod coefficients;
mod equalize;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use miette::{IntoDiagnostic, Result};
use mote_converter::calibrate::RangeMethod;
use mote_converter::pipeline::{Calibrated, Options, prepare};
use mote_converter::quantize::{Level, Precision, Techniques, WeightWidth};
use mote_converter::search::{self, Evaluator, Measured};
use mote_converter::weights::Checkpoint;
use serde::Serialize;

/// Measure what each quantization technique gives
#[derive(Debug, Parser)]
#[command(name = "ablation", version, max_term_width = 100)]
struct Args {
    /// A .safetensors file or a model folder
    checkpoint: PathBuf,
    /// Pictures that are drawn with every variant
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..))]
    count: u32,
    /// Also the search over ranges, tensor by tensor, which takes minutes
    #[arg(long)]
    search: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Seeds of the pictures: none that calibration or a search has seen.
const FIRST_SEED: u64 = 5 << 32;

/// A variant's pictures against the default's.
#[derive(Debug, Serialize)]
struct Outcome {
    variant: &'static str,
    /// int8 weights, then int4.
    weights: [Option<Quality>; 2],
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Quality {
    psnr_db: f64,
    /// Against the default with the same weights, and its standard error.
    gain_db: f64,
    gain_error_db: f64,
    file_bytes: usize,
}

/// What a variant changes.
struct Variant {
    name: &'static str,
    techniques: Techniques,
    level: Level,
    /// Small layers in 4 bits too.
    small: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    eprintln!("calibrating");
    let calibrated = prepare(&checkpoint, &Options::default(), &|_, _, _| {})?;
    eprintln!("drawing {} pictures in float", args.count);
    let evaluator = Evaluator::new(&calibrated, FIRST_SEED, args.count as usize, &|| {})?;
    let default = Techniques::default();
    let variant = |name, techniques| Variant { name, techniques, level: Level::Int8, small: false };
    let variants = [
        variant("default", default),
        variant("weights rounded to the nearest", Techniques { least_squares: false, ..default }),
        variant("bias correction", Techniques { bias_correction: true, ..default }),
        variant(
            "bias correction, rounded to the nearest",
            Techniques { bias_correction: true, least_squares: false, ..default },
        ),
        variant("one scale a row (no groups)", Techniques { group_elems: 0, ..default }),
        variant("groups of 8", Techniques { group_elems: 8, ..default }),
        variant("groups of 32", Techniques { group_elems: 32, ..default }),
        Variant { small: true, ..variant("small layers in 4 bits too", default) },
        variant("activation scales for all steps, not each", Techniques { per_step: false, ..default }),
        variant("ranges: min-max", Techniques { ranges: RangeMethod::MinMax, ..default }),
        variant("ranges: percentile", Techniques { ranges: RangeMethod::Percentile, ..default }),
        Variant { level: Level::Edge, ..variant("the input and the first convolution's output in 16 bits", default) },
        Variant { level: Level::Norms, ..variant("16-bit activations", default) },
    ];
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut defaults: [Option<Measured>; 2] = [None, None];
    for variant in &variants {
        eprintln!("{}", variant.name);
        let mut weights = [None; 2];
        for (at, width) in [WeightWidth::Int8, WeightWidth::Int4].into_iter().enumerate() {
            // Groups, and what is kept at 8 bits, are questions of int4 only.
            let same_int8 = variant.small || variant.techniques.group_elems != default.group_elems;
            if width == WeightWidth::Int8 && same_int8 {
                continue;
            }
            let solutions = calibrated.solutions(variant.techniques);
            let precision = precision(&calibrated, variant.level, width, variant.small);
            let measured = evaluator.measure(&calibrated.lower(&solutions, &precision)?)?;
            weights[at] = Some(quality(defaults[at].get_or_insert(measured.clone()), &measured));
        }
        outcomes.push(Outcome { variant: variant.name, weights });
    }
    for (name, run) in [
        ("channels of attention equalized", equalize::measure as fn(&Calibrated, u32, WeightWidth) -> Result<Measured>),
        ("the sampler's coefficients corrected", coefficients::measure),
    ] {
        eprintln!("{name}");
        let mut weights = [None; 2];
        for (at, width) in [WeightWidth::Int8, WeightWidth::Int4].into_iter().enumerate() {
            let measured = run(&calibrated, args.count, width)?;
            weights[at] = defaults[at].as_ref().map(|default| quality(default, &measured));
        }
        outcomes.push(Outcome { variant: name, weights });
    }
    if args.search {
        outcomes.push(searched_ranges(&calibrated, &evaluator, &defaults)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&outcomes).into_diagnostic()?);
    } else {
        table(&outcomes);
    }
    Ok(())
}

fn precision(calibrated: &Calibrated, level: Level, width: WeightWidth, small: bool) -> Precision {
    let layers = if small { calibrated.layers() } else { calibrated.large_layers() };
    Precision::level(&calibrated.network.graph, level).with_weights(&layers, width)
}

fn searched_ranges(
    calibrated: &Calibrated,
    evaluator: &Evaluator,
    defaults: &[Option<Measured>; 2],
) -> Result<Outcome> {
    eprintln!("searching ranges");
    let searcher = Evaluator::new(calibrated, Evaluator::SEARCH_SEED, 32, &|| {})?;
    let solutions = calibrated.solutions(Techniques::default());
    let base = precision(calibrated, Level::Int8, WeightWidth::Int8, false);
    let found = search::ranges(calibrated, &solutions, &base, &searcher, &|_, _| {})?;
    let measured = evaluator.measure(&calibrated.lower(&solutions, &found)?)?;
    let int8 = defaults[0].as_ref().map(|default| quality(default, &measured));
    Ok(Outcome { variant: "ranges: searched for each tensor", weights: [int8, None] })
}

fn quality(default: &Measured, measured: &Measured) -> Quality {
    let (gain_db, gain_error_db) = measured.gain_over(default);
    Quality { psnr_db: measured.mean_db(), gain_db, gain_error_db, file_bytes: measured.file_bytes }
}

/// As a card holds it.
fn table(outcomes: &[Outcome]) {
    println!("| | int8 weights, dB | gain | int4 weights, dB | gain | int4 file |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (index, Outcome { variant, weights }) in outcomes.iter().enumerate() {
        let cell = |quality: &Option<Quality>| match quality {
            None => " | ".to_owned(),
            Some(quality) if index == 0 => format!("{:.2} | ", quality.psnr_db),
            Some(Quality { psnr_db, gain_db, gain_error_db, .. }) => {
                format!("{psnr_db:.2} | {gain_db:+.2} ± {gain_error_db:.2}")
            }
        };
        let bytes = weights[1].map_or(String::new(), |quality| quality.file_bytes.to_string());
        println!("| {variant} | {} | {} | {bytes} |", cell(&weights[0]), cell(&weights[1]));
    }
}
