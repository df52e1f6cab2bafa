//! Whether 16-bit activations pay, by what the finished pictures say.

use miette::Result;

use super::evaluate::Evaluator;
use crate::pipeline::{Calibrated, Options};
use crate::plan::plan;
use crate::quantize::{Level, Precision, Solutions};

/// What wider activations must gain, in decibels: they cost memory and, on most cores, time.
const LEAST_GAIN_DB: f64 = 0.25;

/// The level that draws best among those whose arena stays within the budget; weights are those of `base`.
/// `progress` hears what is done and how much there is.
///
/// Where not even 8 bits fit, they are what comes back: the budget's own check says so.
pub fn activations(
    calibrated: &Calibrated,
    solutions: &Solutions,
    base: &Precision,
    evaluator: &Evaluator,
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Precision, Level)> {
    let budget = options.ram_bytes.unwrap_or(usize::MAX);
    let mut best: Option<(f64, Precision, Level)> = None;
    for (done, level) in Level::ALL.into_iter().rev().enumerate() {
        let precision = base.at_level(&calibrated.network.graph, level);
        let graph = calibrated.lower(solutions, &precision)?;
        if best.is_none() || plan(&graph, options.tiling).arena_bytes <= budget {
            let quality = evaluator.measure(&graph)?.mean_db();
            if best.as_ref().is_none_or(|(db, ..)| quality > db + LEAST_GAIN_DB) {
                best = Some((quality, precision, level));
            }
        }
        progress(done + 1, Level::ALL.len());
    }
    Ok(best.map_or((base.clone(), Level::Int8), |(_, precision, level)| (precision, level)))
}
