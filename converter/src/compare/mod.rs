//! The float network and its quantized file, from the same noise, side by side.
//!
//! Two questions are answered apart. *What does a user see?* Both samplers run freely, each from its own state, and the
//! pictures are compared (PSNR, data range −1..1), with the state after every row. *Which layer is to blame?* The float
//! network is run on the quantized sampler's state, row by row, so that a layer's number (SQNR) is the error that the
//! integer network makes of the same input, and drift of the trajectory is not counted as its fault.
//!
//! Deterministic on any number of threads: samples are independent, and their sums are added in order.
//! Voids the promise: nothing; a file of another network is an error.

mod layers;
mod trajectory;

use miette::{Result, miette};
use mote_runtime::{Model, Sampler};
use rayon::prelude::*;
use serde::Serialize;

use crate::arch::Network;
use crate::draw::{AlignedBuffer, Device, Draw, Float, Prompt};
use crate::interpret::Interpreter;
use crate::report::metrics::{Power, Spread, psnr};

pub use layers::Layers;

/// What to compare.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// One pair of pictures each; all of one guidance.
    pub prompts: Vec<Prompt>,
    /// The number of steps, `None` for the file's first schedule.
    pub steps: Option<usize>,
    /// How many of the prompts are looked at layer by layer: that costs a third network run.
    pub layered: usize,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Pairs of pictures.
    pub samples: usize,
    /// Steps of the schedule.
    pub steps: usize,
    /// `guidance_scale` of all samples.
    pub guidance: f32,
    /// PSNR of the pictures, in decibels.
    pub psnr_db: Spread,
    /// Of each picture, in the prompts' order.
    pub psnr_each_db: Vec<f64>,
    /// One a network row.
    pub rows: Vec<RowQuality>,
    /// Pairs that were looked at layer by layer.
    pub layered: usize,
    /// One an operator of the float graph, in its order; empty where none was looked at.
    pub layers: Vec<LayerQuality>,
}

/// A row of the schedule, over all samples.
#[derive(Clone, Debug, Serialize)]
pub struct RowQuality {
    /// The training timestep.
    pub timestep: f32,
    /// SQNR of the state after the row, both samplers running freely.
    pub state_sqnr_db: f64,
    /// Mean PSNR of x₀ as the row foresees it, both samplers running freely.
    pub preview_psnr_db: f64,
    /// SQNR of the network's output on the same input (the last layer of the conditional call).
    pub model_sqnr_db: Option<f64>,
}

/// An operator, over all rows and the samples that were looked at.
#[derive(Clone, Debug, Serialize)]
pub struct LayerQuality {
    /// The tensor's name in the graph.
    pub name: String,
    /// `[h, w, c]` of its output.
    pub shape: [usize; 3],
    /// Output type.
    pub dtype: &'static str,
    /// SQNR over all rows.
    pub sqnr_db: f64,
    /// The worst row.
    pub worst_row: usize,
    /// SQNR at the worst row.
    pub worst_sqnr_db: f64,
}

/// What one pair of trajectories gave.
struct Pair {
    psnr: f64,
    /// By row: the state's power, the preview's PSNR.
    rows: Vec<(Power, f64)>,
    /// By row, by layer; empty where layers were not looked at.
    layers: Vec<Vec<Power>>,
}

/// Compares a float network with a file that was made of it; `done` is called behind each pair.
///
/// The float sampler runs by the file's own rows, so the numbers are those of quantization, whatever scheduler lies
/// beside the checkpoint now.
pub fn compare(network: &Network, model: &Model, options: &Options, done: &(dyn Fn() + Sync)) -> Result<Comparison> {
    let layers = Layers::new(network, model)?;
    let device = Device::new(model, options.steps)?;
    let schedule = match options.steps {
        None => model.schedules().next(),
        Some(steps) => model.schedules().find(|schedule| usize::from(schedule.steps) == steps),
    };
    let Some(schedule) = schedule else { return Err(miette!(help = "convert it again", "the file has no schedule")) };
    let first_row = usize::from(schedule.first_row);
    let rows: Vec<_> = (first_row..first_row + usize::from(schedule.rows)).filter_map(|row| model.row(row)).collect();
    let float = Float { network, rows: &rows, first_row, classes: device.signature().classes };
    let interpreter = Interpreter::new(&network.graph);

    let arena = || AlignedBuffer::zeroed(model.arena_len());
    let pairs: Vec<Pair> = options
        .prompts
        .par_iter()
        .enumerate()
        .map_init(arena, |arena, (index, prompt)| {
            let conditioning = float.conditioning(&interpreter, prompt)?;
            let reference = trajectory::float(&float, &interpreter, &conditioning, prompt)?;
            let sampler = Sampler::new(model, arena.as_mut_slice()).map_err(crate::draw::not_runnable)?;
            let look = (index < options.layered).then_some(&layers);
            let quantized = trajectory::device(sampler, &device, &float, &interpreter, prompt, look)?;
            let row = |(f, q): (&trajectory::Point, &trajectory::Point)| {
                (Power::of(&f.state, &q.state), psnr(&f.preview, &q.preview))
            };
            let pair = Pair {
                psnr: psnr(&reference.x0, &quantized.x0),
                rows: reference.points.iter().zip(&quantized.points).map(row).collect(),
                layers: quantized.layers,
            };
            done();
            Ok(pair)
        })
        .collect::<Result<_>>()?;
    Ok(summary(&pairs, &rows, &layers, options, usize::from(schedule.steps)))
}

fn summary(
    pairs: &[Pair],
    rows: &[mote_runtime::format::Row],
    layers: &Layers,
    options: &Options,
    steps: usize,
) -> Comparison {
    let looked: Vec<&Pair> = pairs.iter().filter(|pair| !pair.layers.is_empty()).collect();
    let total = |powers: &mut dyn Iterator<Item = Power>| {
        let mut total = Power::default();
        powers.for_each(|power| total.add(power));
        total
    };
    let layer_at = |layer: usize, row: usize| total(&mut looked.iter().map(|pair| pair.layers[row][layer]));
    let row_quality = |(index, row): (usize, &mote_runtime::format::Row)| {
        let previews = pairs.iter().map(|pair| pair.rows[index].1);
        RowQuality {
            timestep: row.timestep,
            state_sqnr_db: total(&mut pairs.iter().map(|pair| pair.rows[index].0)).sqnr(),
            preview_psnr_db: previews.sum::<f64>() / pairs.len().max(1) as f64,
            model_sqnr_db: (!looked.is_empty()).then(|| layer_at(layers.output(), index).sqnr()),
        }
    };
    let layer_quality = |index: usize| {
        let (name, shape, dtype) = layers.describe(index);
        let by_row: Vec<Power> = (0..rows.len()).map(|row| layer_at(index, row)).collect();
        let worst = by_row.iter().map(Power::sqnr).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        LayerQuality {
            name,
            shape,
            dtype,
            sqnr_db: total(&mut by_row.iter().copied()).sqnr(),
            worst_row: worst.0,
            worst_sqnr_db: worst.1,
        }
    };
    let each: Vec<f64> = pairs.iter().map(|pair| pair.psnr).collect();
    Comparison {
        samples: pairs.len(),
        steps,
        guidance: options.prompts.first().map_or(1.0, |prompt| prompt.guidance),
        psnr_db: Spread::of(&each),
        psnr_each_db: each,
        rows: rows.iter().enumerate().map(row_quality).collect(),
        layered: looked.len(),
        layers: if looked.is_empty() { Vec::new() } else { (0..layers.len()).map(layer_quality).collect() },
    }
}
