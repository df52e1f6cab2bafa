//! The float sampling loop: the trajectory that calibration measures and that the quantized sampler is compared with.

use miette::{Result, miette};
use mote_runtime::format::schedule::Row;
use mote_runtime::sampler::coefficients;

use crate::arch::{Cond, TimePath};
use crate::graph::TensorId;
use crate::interpret::{Deep, Interpreter, Observed};
use crate::schedule::is_shallow;
use crate::schedule::update::State;

/// A network call or the end of a step, as the observer of [`sample`] sees it.
pub enum Event<'a> {
    /// A tensor of the network was made.
    Tensor {
        /// Row of the schedule.
        row: usize,
        /// For the null condition.
        null: bool,
        /// Which tensor.
        id: TensorId,
        /// Its values, HWC.
        values: &'a [f32],
    },
    /// A norm was applied, its activation was not yet.
    PreActivation {
        /// Row of the schedule.
        row: usize,
        /// For the null condition.
        null: bool,
        /// The tensor that the norm writes.
        id: TensorId,
        /// Values before the activation, HWC.
        values: &'a [f32],
    },
    /// A row was applied.
    Row {
        /// Row of the schedule.
        row: usize,
        /// The network's output, guidance applied.
        model: &'a [f32],
        /// The state after the row.
        state: &'a State,
    },
}

/// The condition of a sample, projected for each row: it depends on timestep and class only, so many samples share it.
/// Guidance is Ho and Salimans', arXiv:2207.12598: out(null) + guidance·(out(cond) − out(null)); at 1 the network runs
/// once a row.
pub struct Conditioning {
    cond: Vec<Vec<Vec<f32>>>,
    null: Option<Vec<Vec<Vec<f32>>>>,
    guidance: f32,
}

impl Conditioning {
    /// Runs the time path for every row. An error where the network does not take the condition, or where guidance
    /// has no null condition.
    pub fn new(
        interpreter: &Interpreter,
        time: &TimePath,
        rows: &[Row],
        cond: &Cond,
        null: Option<&Cond>,
        guidance: f32,
    ) -> Result<Self> {
        let project = |cond: &Cond| -> Result<Vec<_>> {
            rows.iter()
                .map(|row| Ok(TimePath::projections(interpreter.graph(), &time.embed(row.timestep, cond)?)))
                .collect()
        };
        let null = match (guidance == 1.0, null) {
            (true, _) => None,
            (false, Some(null)) => Some(project(null)?),
            (false, None) => {
                return Err(miette!(
                    help = "name it with `--null-class` (the class that stood for \"no class\" in training), or put \
                            `null_class` into the safetensors metadata",
                    "guidance {guidance} needs a null class"
                ));
            }
        };
        Ok(Self { cond: project(cond)?, null, guidance })
    }
}

/// Draws one sample: x₀ after the last row, HWC. Rows that are [`is_shallow`] reuse what the last other row left, each
/// condition its own.
///
/// `step_noise` fills a slice with standard normal numbers for a row; only rows that add noise (eta > 0) call it.
pub fn sample(
    interpreter: &Interpreter,
    rows: &[Row],
    conditioning: &Conditioning,
    x_t: &[f32],
    step_noise: &mut dyn FnMut(usize, &mut [f32]),
    observe: &mut dyn FnMut(Event),
) -> Vec<f32> {
    let mut state = State::new(x_t.to_vec());
    let mut noise = vec![0.0; x_t.len()];
    let mut kept = [Vec::new(), Vec::new()];
    for (index, row) in rows.iter().enumerate() {
        let mut call = |projections: &[Vec<f32>], null: bool| {
            let kept = &mut kept[usize::from(null)];
            let deep = if is_shallow(row) { Deep::Reuse(kept) } else { Deep::Keep(kept) };
            interpreter.run_observed(&state.x, projections, deep, &mut |what, values| {
                observe(match what {
                    Observed::Tensor(id) => Event::Tensor { row: index, null, id, values },
                    Observed::PreActivation(id) => Event::PreActivation { row: index, null, id, values },
                });
            })
        };
        let mut model = call(&conditioning.cond[index], false);
        if let Some(null) = &conditioning.null {
            coefficients::guide(&mut model, &call(&null[index], true), conditioning.guidance);
        }
        if row.d != 0.0 {
            step_noise(index, &mut noise);
        }
        state.update(row, &model, &noise);
        observe(Event::Row { row: index, model: &model, state: &state });
    }
    state.x
}
