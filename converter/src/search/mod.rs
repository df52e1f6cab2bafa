//! Mixed precision by measurement: which layers' weights may have 4 bits, and whether 16-bit activations pay.
//!
//! Each layer alone is given 4 bits, and the finished pictures say what that costs ([`Evaluator`]). Costs are squared
//! errors, which very nearly add up (digits, all layers: 1.0e-3 together, 1.3e-3 as a sum), so the
//! best choice for a file size is a knapsack: layers in order of error for each byte that they save. Every prefix of
//! that order is the best choice for its own size, so the order is the whole Pareto front, and a budget picks a point on
//! it. Published searches rank layers by proxies, because they cannot draw thousands of pictures; an integer network this
//! small can.
//!
//! Voids the promise: an error below the pictures' own scatter (about a tenth of the int8 file's error) is not told from
//! none; such layers rank by the scatter's floor.

mod activations;
mod evaluate;
mod ranges;

use miette::Result;
use serde::Serialize;

use crate::pipeline::Calibrated;
use crate::quantize::{Layer, Precision, Solutions, WeightWidth};

pub use activations::activations;
pub use evaluate::{Evaluator, Measured};
pub use ranges::ranges;

/// The least that 4 bits are taken to cost, as a part of the int8 file's error: differences below are scatter.
const ERROR_FLOOR: f64 = 0.02;
/// Points of the front that are measured, not only predicted.
const MEASURED_POINTS: usize = 6;
/// Without a budget: this part of the int8 file.
const SHARE_OF_INT8: f64 = 0.7;

/// What 4 bits do to a layer.
#[derive(Clone, Debug, Serialize)]
pub struct Sensitivity {
    /// Its name in the checkpoint.
    pub name: String,
    /// Squared error that the finished picture gains, of a range of 2 as 1; negative values are scatter.
    pub error: f64,
    /// Bytes that the file loses.
    pub saved_bytes: usize,
}

/// A choice of layers with 4 bits.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Layers with 4 bits, the first ones of the order.
    pub layers: usize,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// PSNR, from the layers' errors added up.
    pub predicted_psnr_db: f64,
    /// PSNR of the pictures' mean squared error, where it was drawn.
    pub measured_psnr_db: Option<f64>,
}

/// What a search over widths has found.
#[derive(Clone, Debug, Serialize)]
pub struct Front {
    /// Pictures that every number comes from.
    pub pictures: usize,
    /// In the order in which layers get 4 bits.
    pub layers: Vec<Sensitivity>,
    /// From all 8 bits to all 4 bits.
    pub points: Vec<Point>,
    /// The point that was taken.
    pub chosen: usize,
}

fn db(error: f64) -> f64 {
    -10.0 * error.max(1e-15).log10()
}

/// Finds the widths that lose least at `flash_bytes` (without it: at seven tenths of the int8 file); activations are
/// those of `base`. `progress` hears what is done and how much there is.
///
/// Where even 4 bits everywhere are too large, that is what comes back: the budget's own check says so.
pub fn weights(
    calibrated: &Calibrated,
    solutions: &Solutions,
    base: &Precision,
    evaluator: &Evaluator,
    flash_bytes: Option<usize>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Precision, Front)> {
    let layers = calibrated.layers();
    let total = layers.len() + MEASURED_POINTS + 1;
    let measure = |precision: &Precision| evaluator.measure(&calibrated.lower(solutions, precision)?);
    let int8 = measure(base)?;
    progress(1, total);
    let mut ranked: Vec<(Layer, Sensitivity)> = Vec::new();
    for (index, &layer) in layers.iter().enumerate() {
        let measured = measure(&base.with_weights(&[layer], WeightWidth::Int4))?;
        let sensitivity = Sensitivity {
            name: layer.name(&calibrated.network.graph).to_owned(),
            error: measured.error() - int8.error(),
            saved_bytes: int8.file_bytes.saturating_sub(measured.file_bytes),
        };
        ranked.push((layer, sensitivity));
        progress(2 + index, total);
    }
    // Layers that are so small that padding eats what 4 bits save are left alone.
    ranked.retain(|(_, layer)| layer.saved_bytes > 0);
    let floor = ERROR_FLOOR * int8.error();
    let cost = |layer: &Sensitivity| layer.error.max(floor) / layer.saved_bytes as f64;
    ranked.sort_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)));

    let mut points = vec![Point {
        layers: 0,
        file_bytes: int8.file_bytes,
        predicted_psnr_db: db(int8.error()),
        measured_psnr_db: Some(db(int8.error())),
    }];
    let (mut error, mut file_bytes) = (int8.error(), int8.file_bytes);
    for (index, (_, layer)) in ranked.iter().enumerate() {
        error += layer.error.max(floor);
        file_bytes = file_bytes.saturating_sub(layer.saved_bytes);
        points.push(Point { layers: index + 1, file_bytes, predicted_psnr_db: db(error), measured_psnr_db: None });
    }
    let of = |count: usize| {
        let layers: Vec<Layer> = ranked.iter().take(count).map(|&(layer, _)| layer).collect();
        base.with_weights(&layers, WeightWidth::Int4)
    };
    let budget = flash_bytes.unwrap_or((int8.file_bytes as f64 * SHARE_OF_INT8) as usize);
    // What a prefix really takes is measured: checksums and padding do not add up exactly.
    let mut chosen = points.iter().position(|point| point.file_bytes <= budget).unwrap_or(points.len() - 1);
    let mut wanted: Vec<usize> = (1..MEASURED_POINTS).map(|i| i * (points.len() - 1) / (MEASURED_POINTS - 1)).collect();
    wanted.dedup();
    for (index, &at) in wanted.iter().chain([&chosen]).enumerate() {
        if points[at].measured_psnr_db.is_none() {
            let measured = measure(&of(at))?;
            (points[at].file_bytes, points[at].measured_psnr_db) = (measured.file_bytes, Some(db(measured.error())));
        }
        progress(layers.len() + 2 + index, total);
    }
    while points[chosen].file_bytes > budget && chosen + 1 < points.len() {
        chosen += 1;
        let measured = measure(&of(chosen))?;
        let point = &mut points[chosen];
        (point.file_bytes, point.measured_psnr_db) = (measured.file_bytes, Some(db(measured.error())));
    }
    progress(total, total);
    let layers = ranked.iter().map(|(_, layer)| layer.clone()).collect();
    Ok((of(chosen), Front { pictures: evaluator.count(), layers, points, chosen }))
}
