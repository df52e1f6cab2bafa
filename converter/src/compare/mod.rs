//! The float network and the files that were made of it, from the same noise, side by side.
//!
//! Two questions are answered apart. *What does a user see?* Both samplers run freely, each from its own state, and the
//! pictures are compared (PSNR, data range −1..1), with the state after every row. *Which layer is to blame?* The float
//! network is run on the quantized sampler's state, row by row, so that a layer's number (SQNR) is the error that the
//! integer network makes of the same input, and drift of the trajectory is not counted as its fault.
//!
//! [`study()`] adds what the pictures are worth as a set: what the [judge](crate::judge) makes of them, and their pixels.
//!
//! Float is drawn once for all files; of a trajectory only the picture and sums of squares are kept. Deterministic on any
//! number of threads: samples are independent, and their sums are added in order.
//! Voids the promise: nothing; a file of another network is an error.

mod layers;
mod pixels;
mod reuse;
mod study;
mod trajectory;

use miette::{Result, miette};
use mote_runtime::format::Row;
use mote_runtime::{Model, Sampler};
use rayon::prelude::*;
use serde::Serialize;

use crate::arch::Network;
use crate::draw::{AlignedBuffer, Device, Draw, Float, Prompt};
use crate::interpret::Interpreter;
use crate::report::metrics::{Power, Spread, psnr};
use crate::schedule::{FULL_GRAPH, is_shallow};

pub use layers::Layers;
pub use pixels::Pixels;
pub use reuse::{FewerSteps, ReuseCost, reuse_cost};
pub use study::{FileStudy, FloatStudy, FrechetDifference, JudgeInfo, Judged, Study, StudyFile, StudyOptions, study};

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
    /// Whether it reuses the deep features of an earlier row.
    pub shallow: bool,
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
    /// How the weights of each source are written; none where the layer has none.
    pub weights: Vec<String>,
    /// SQNR over all rows.
    pub sqnr_db: f64,
    /// The worst row.
    pub worst_row: usize,
    /// SQNR at the worst row.
    pub worst_sqnr_db: f64,
}

/// What one pair of trajectories gave.
struct Pair {
    picture: Vec<f32>,
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
    let mut compared = compare_files(network, &[model], options, done)?;
    compared
        .files
        .pop()
        .map(|(comparison, _)| comparison)
        .ok_or_else(|| miette!(help = "name one", "no file to compare"))
}

/// The pictures of all prompts, in float and by each file.
pub struct Compared {
    /// In float.
    pub float: Vec<Vec<f32>>,
    /// Of each file.
    pub files: Vec<(Comparison, Vec<Vec<f32>>)>,
}

/// As [`compare()`], of several files against one float trajectory, which runs by the first file's rows.
pub fn compare_files(
    network: &Network,
    models: &[&Model],
    options: &Options,
    done: &(dyn Fn() + Sync),
) -> Result<Compared> {
    let sides: Vec<Side> =
        models.iter().map(|model| Side::new(network, model, options.steps)).collect::<Result<_>>()?;
    let Some(first) = sides.first() else { return Err(miette!(help = "name one", "no file to compare")) };
    for (index, side) in sides.iter().enumerate() {
        first.check_alike(side).map_err(|what| {
            miette!(
                help = "compare files of one checkpoint with the same steps and eta, or one at a time",
                "file {} cannot share a float trajectory with the first: {what}",
                index + 1
            )
        })?;
    }
    let float = first.float(network);
    let interpreter = Interpreter::new(&network.graph);
    let conditionings = float.conditionings(&interpreter, &options.prompts)?;

    let arena = || AlignedBuffer::zeroed(sides.iter().map(|side| side.model.arena_len()).max().unwrap_or(0));
    let drawn: Vec<(Vec<f32>, Vec<Pair>)> = options
        .prompts
        .par_iter()
        .enumerate()
        .map_init(arena, |arena, (index, prompt)| {
            let reference = trajectory::float(&float, &interpreter, conditionings.of(prompt)?, prompt)?;
            let pair = |side: &Side| {
                let sampler = Sampler::new(side.model, arena.as_mut_slice()).map_err(crate::draw::not_runnable)?;
                let look = (index < options.layered).then_some(&side.layers);
                let float = side.reusing(network);
                let quantized = trajectory::device(sampler, &side.device, &float, &interpreter, prompt, look)?;
                Ok(Pair::new(&reference, quantized))
            };
            let pairs = sides.iter().map(pair).collect::<Result<_>>()?;
            done();
            Ok((reference.x0, pairs))
        })
        .collect::<Result<_>>()?;

    let (float, pairs): (Vec<Vec<f32>>, Vec<Vec<Pair>>) = drawn.into_iter().unzip();
    let mut by_file: Vec<Vec<Pair>> = sides.iter().map(|_| Vec::with_capacity(pairs.len())).collect();
    for pair in pairs {
        by_file.iter_mut().zip(pair).for_each(|(file, pair)| file.push(pair));
    }
    let files = sides.iter().zip(by_file).map(|(side, mut pairs)| {
        let comparison = summary(&pairs, side, options);
        (comparison, pairs.iter_mut().map(|pair| std::mem::take(&mut pair.picture)).collect())
    });
    Ok(Compared { float, files: files.collect() })
}

/// A file with the schedule that was asked for.
struct Side<'a> {
    model: &'a Model<'a>,
    device: Device<'a>,
    layers: Layers,
    first_row: usize,
    rows: Vec<Row>,
    /// The same, none of them shallow.
    full_rows: Vec<Row>,
    steps: usize,
}

impl<'a> Side<'a> {
    fn new(network: &Network, model: &'a Model<'a>, steps: Option<usize>) -> Result<Self> {
        let layers = Layers::new(network, model)?;
        let device = Device::new(model, steps)?;
        let schedule = match steps {
            None => model.schedules().next(),
            Some(steps) => model.schedules().find(|schedule| usize::from(schedule.steps) == steps),
        };
        let Some(schedule) = schedule else {
            return Err(miette!(help = "convert it again", "the file has no schedule"));
        };
        let first_row = usize::from(schedule.first_row);
        let rows: Vec<Row> =
            (first_row..first_row + usize::from(schedule.rows)).filter_map(|row| model.row(row)).collect();
        let full_rows = rows.iter().map(|row| Row { graph: FULL_GRAPH, ..*row }).collect();
        Ok(Self { model, device, layers, first_row, rows, full_rows, steps: usize::from(schedule.steps) })
    }

    /// The float network as it was trained: what the file's reuse of deep features costs is the file's to answer for.
    fn float<'f>(&'f self, network: &'f Network) -> Float<'f> {
        Float { rows: &self.full_rows, ..self.reusing(network) }
    }

    /// The float network with the file's reuse.
    fn reusing<'f>(&'f self, network: &'f Network) -> Float<'f> {
        Float { network, rows: &self.rows, first_row: self.first_row, classes: self.device.signature().classes }
    }

    /// Whether one float trajectory serves both: the network is called at the same timesteps and noise is added at the
    /// same rows. Coefficients may differ, where a file makes good for its quantization by them.
    fn check_alike(&self, other: &Self) -> Result<(), String> {
        if self.device.signature() != other.device.signature() {
            return Err("it has other classes".to_owned());
        }
        let calls =
            |side: &Self| side.rows.iter().map(|row| (row.timestep, row.advance, row.d != 0.0)).collect::<Vec<_>>();
        match calls(self) == calls(other) {
            true => Ok(()),
            false => Err(format!("its schedule of {} steps calls the network otherwise", other.steps)),
        }
    }
}

impl Pair {
    fn new(reference: &trajectory::Trajectory, quantized: trajectory::Trajectory) -> Self {
        let row = |(f, q): (&trajectory::Point, &trajectory::Point)| {
            (Power::of(&f.state, &q.state), psnr(&f.preview, &q.preview))
        };
        Self {
            psnr: psnr(&reference.x0, &quantized.x0),
            rows: reference.points.iter().zip(&quantized.points).map(row).collect(),
            layers: quantized.layers,
            picture: quantized.x0,
        }
    }
}

fn summary(pairs: &[Pair], side: &Side, options: &Options) -> Comparison {
    let (rows, layers) = (&side.rows, &side.layers);
    let looked: Vec<&Pair> = pairs.iter().filter(|pair| !pair.layers.is_empty()).collect();
    let total = |powers: &mut dyn Iterator<Item = Power>| {
        let mut total = Power::default();
        powers.for_each(|power| total.add(power));
        total
    };
    let layer_at = |layer: usize, row: usize| total(&mut looked.iter().map(|pair| pair.layers[row][layer]));
    let row_quality = |(index, row): (usize, &Row)| {
        let previews = pairs.iter().map(|pair| pair.rows[index].1);
        RowQuality {
            timestep: row.timestep,
            shallow: is_shallow(row),
            state_sqnr_db: total(&mut pairs.iter().map(|pair| pair.rows[index].0)).sqnr(),
            preview_psnr_db: previews.sum::<f64>() / pairs.len().max(1) as f64,
            model_sqnr_db: (!looked.is_empty()).then(|| layer_at(layers.output(), index).sqnr()),
        }
    };
    let layer_quality = |index: usize| {
        let layer = layers.describe(index);
        let by_row: Vec<Power> = (0..rows.len()).map(|row| layer_at(index, row)).collect();
        let worst = by_row.iter().map(Power::sqnr).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        LayerQuality {
            name: layer.name,
            shape: layer.shape,
            dtype: layer.dtype,
            weights: layer.weights,
            sqnr_db: total(&mut by_row.iter().copied()).sqnr(),
            worst_row: worst.0,
            worst_sqnr_db: worst.1,
        }
    };
    let each: Vec<f64> = pairs.iter().map(|pair| pair.psnr).collect();
    Comparison {
        samples: pairs.len(),
        steps: side.steps,
        guidance: options.prompts.first().map_or(1.0, |prompt| prompt.guidance),
        psnr_db: Spread::of(&each),
        psnr_each_db: each,
        rows: rows.iter().enumerate().map(row_quality).collect(),
        layered: looked.len(),
        layers: if looked.is_empty() { Vec::new() } else { (0..layers.len()).map(layer_quality).collect() },
    }
}
