//! Whether 16-bit activations pay, by what the finished pictures say.

use miette::Result;

use super::evaluate::Evaluator;
use crate::pipeline::{Calibrated, Options, WeightChoice};
use crate::plan::plan;
use crate::quantize::{Level, Precision, Solutions, WeightWidth};

/// What wider activations must gain, in decibels, where memory was given for them: on most cores they cost time too.
const LEAST_GAIN_DB: f64 = 0.25;
/// What they must gain where none was, for the memory.
const LEAST_GAIN_UNASKED_DB: f64 = 1.0;

/// The level that draws best among those whose arena stays within the budget; without one, [`Level::Int8`] or
/// [`Level::Edge`]. Pictures are drawn with 8-bit weights; the arena is that of the weights that were asked for, where these
/// are not known yet of all large ones in 4 bits, which are unpacked in scratch.
/// `progress` hears what is done and how much there is.
///
/// Where not even 8 bits fit, they are what comes back: the budget's own check says so.
pub fn activations(
    calibrated: &Calibrated,
    solutions: &Solutions,
    evaluator: &Evaluator,
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Precision, Level)> {
    let (levels, least_gain_db, budget) = match options.ram_bytes {
        Some(budget) => (&Level::ALL[..], LEAST_GAIN_DB, budget),
        None => (&[Level::Edge, Level::Int8][..], LEAST_GAIN_UNASKED_DB, usize::MAX),
    };
    let packed = if options.weights == WeightChoice::Int8 { Vec::new() } else { calibrated.large_layers() };
    let mut best: Option<(f64, Precision, Level)> = None;
    for (done, &level) in levels.iter().rev().enumerate() {
        let precision = Precision::level(&calibrated.network.graph, level);
        let fits = || -> Result<bool> {
            let graph = calibrated.lower(solutions, &precision.with_weights(&packed, WeightWidth::Int4))?;
            Ok(plan(&graph, options.tiling).arena_bytes <= budget)
        };
        if best.is_none() || options.ram_bytes.is_none() || fits()? {
            let quality = evaluator.measure(&calibrated.lower(solutions, &precision)?)?.mean_db();
            if best.as_ref().is_none_or(|(db, ..)| quality > db + least_gain_db) {
                best = Some((quality, precision, level));
            }
        }
        progress(done + 1, levels.len());
    }
    let int8 = || (Precision::level(&calibrated.network.graph, Level::Int8), Level::Int8);
    Ok(best.map_or_else(int8, |(_, precision, level)| (precision, level)))
}
