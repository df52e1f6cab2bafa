//! Which tensors gain from another choice of range, by what the finished pictures say.
//!
//! Voids the promise: a gain below twice its standard error over the pictures is scatter and is not taken.

use miette::Result;

use super::evaluate::Evaluator;
use crate::calibrate::RangeMethod;
use crate::pipeline::Calibrated;
use crate::quantize::{Precision, Solutions};

/// Gives each tensor in turn the ranges that draw the better pictures. `progress` hears what is done and how much there is.
pub fn ranges(
    calibrated: &Calibrated,
    solutions: &Solutions,
    base: &Precision,
    evaluator: &Evaluator,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Precision> {
    let measure = |precision: &Precision| evaluator.measure(&calibrated.lower(solutions, precision)?);
    let (mut best, mut quality) = (base.clone(), measure(base)?);
    let graph = &calibrated.network.graph;
    let tensors: Vec<usize> = std::iter::once(graph.input)
        .chain(graph.ops.iter().map(|op| op.out()))
        .filter(|&id| best.is_narrow(id))
        .collect();
    let total = tensors.len();
    for (done, id) in tensors.into_iter().enumerate() {
        for method in [RangeMethod::MinMax, RangeMethod::Percentile] {
            let candidate = best.with_range(id, method);
            let measured = measure(&candidate)?;
            let (gain_db, standard_error_db) = measured.gain_over(&quality);
            if gain_db > 2.0 * standard_error_db {
                (best, quality) = (candidate, measured);
            }
        }
        progress(done + 1, total);
    }
    Ok(best)
}
