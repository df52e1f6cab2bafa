//! What the reuse of deep features comes to: work and memory with and without it, and what it does to float's pictures.
//!
//! Fewer steps save work too, and whoever reuses features should know what those would cost: so the same pictures are drawn
//! once more without reuse, in as many steps as make about the same work.

use miette::Result;
use mote_runtime::format::Row;
use serde::Serialize;

use crate::draw::{Draw, Drawn, Float};
use crate::pipeline::{Calibrated, Options};
use crate::plan::plan;
use crate::quantize::QuantGraph;
use crate::report::metrics::{Spread, psnr};
use crate::schedule::{FULL_GRAPH, Scheduler, Schedules, is_shallow};
use crate::search::Evaluator;

/// Pictures that the cost is measured on, with the first seeds of calibration.
const PICTURES: usize = 16;

/// The outcome, of the first schedule.
#[derive(Clone, Debug, Serialize)]
pub struct ReuseCost {
    /// One call in so many is full.
    pub interval: usize,
    /// Network calls.
    pub calls: usize,
    /// Which of them are full.
    pub full_rows: Vec<usize>,
    /// Multiply-adds of the others.
    pub shallow_macs: u64,
    /// Multiply-adds of a picture without guidance.
    pub picture_macs: u64,
    /// The same if every call were full.
    pub picture_macs_without: u64,
    /// The arena if every call were full.
    pub arena_bytes_without: usize,
    /// Pictures that were drawn.
    pub pictures: usize,
    /// Their PSNR with reuse against without, both in float.
    pub psnr_db: Spread,
    /// What fewer steps would cost instead; absent where the scheduler has no such number.
    pub fewer_steps: Option<FewerSteps>,
}

/// A schedule without reuse and with about as much work.
#[derive(Clone, Debug, Serialize)]
pub struct FewerSteps {
    /// Its steps.
    pub steps: usize,
    /// PSNR of its pictures against those of all steps, in float.
    pub psnr_db: Spread,
}

/// Measures; `None` where nothing is reused. `done` hears of each picture, out of [`ReuseCost::DRAWINGS`].
pub fn reuse_cost(
    calibrated: &Calibrated,
    scheduler: &Scheduler,
    graph: &QuantGraph,
    options: &Options,
    done: &(dyn Fn() + Sync),
) -> Result<Option<ReuseCost>> {
    let Calibrated { network, schedules, classes, .. } = calibrated;
    let (true, Some(schedule)) = (graph.reuse.is_some(), schedules.schedules.first()) else { return Ok(None) };
    let rows = &schedules.rows[usize::from(schedule.first_row)..][..usize::from(schedule.rows)];
    let calls = rows.len();
    let full_rows: Vec<usize> = (0..calls).filter(|&row| !is_shallow(&rows[row])).collect();
    let picture_macs = graph.macs() * full_rows.len() as u64 + graph.shallow_macs() * (calls - full_rows.len()) as u64;
    let picture_macs_without = graph.macs() * calls as u64;

    let mut prompts = Evaluator::prompts(calibrated, options.seed, PICTURES);
    if classes.null.is_some() {
        prompts.iter_mut().for_each(|prompt| prompt.guidance = *options.guidance.start());
    }
    let draw = |rows: &[Row]| Float { network, rows, first_row: 0, classes: *classes }.draw(&prompts, false, done);
    let all: Vec<Row> = rows.iter().map(|row| Row { graph: FULL_GRAPH, ..*row }).collect();
    let reference = draw(&all)?;
    let against =
        |drawn: &[Drawn]| Spread::of(&reference.iter().zip(drawn).map(|(a, b)| psnr(&a.x0, &b.x0)).collect::<Vec<_>>());
    let psnr_db = against(&draw(rows)?);
    let steps = (calls as f64 * picture_macs as f64 / picture_macs_without as f64).round() as usize;
    let fewer = Schedules::compile(scheduler, &[steps], options.eta, network.graph.output_over_timestep);
    let fewer_steps = match fewer {
        Ok(fewer) => Some(FewerSteps { steps, psnr_db: against(&draw(&fewer.rows)?) }),
        Err(_) => None,
    };
    let without = QuantGraph { reuse: None, ..graph.clone() };
    Ok(Some(ReuseCost {
        interval: options.cache_interval,
        calls,
        full_rows,
        shallow_macs: graph.shallow_macs(),
        picture_macs,
        picture_macs_without,
        arena_bytes_without: plan(&without, options.tiling).arena_bytes,
        pictures: prompts.len(),
        psnr_db,
        fewer_steps,
    }))
}

impl ReuseCost {
    /// Pictures that [`reuse_cost`] draws at most.
    pub const DRAWINGS: usize = 3 * PICTURES;
}
