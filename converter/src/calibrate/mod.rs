//! Calibration: the float sampler is run as it will be run on the device, and every tensor is watched.
//!
//! Activations of a diffusion network change with the timestep, so ranges are kept for each row of the schedules; what a
//! step sees depends on the steps before it, so the trajectories are real ones, from real seeds, over all rows, with the
//! classes and guidance values that users will ask for.
//!
//! Deterministic on any number of threads: what trajectories observe is added as integers ([`Observation`]).
//! Voids the promise: prompts outside of what was run (other guidance, another class vector) may clip.

mod observe;
mod patches;

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use miette::{Result, miette};
use mote_runtime::sampler::noise;
use rayon::prelude::*;

use crate::arch::{Cond, Network};
use crate::graph::{Graph, TensorId};
use crate::interpret::Interpreter;
use crate::sample::{Conditioning, Event, sample};
use crate::schedule::{Schedules, is_shallow};

pub use observe::{Observation, Range, RangeMethod};
pub use patches::Patches;

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Trajectories for each number of steps.
    pub trajectories: usize,
    /// Guidance values are spread over this interval; only where there is a null class.
    pub guidance: RangeInclusive<f32>,
    /// Seed of the first trajectory.
    pub seed: u64,
    /// How many classes there are, and which one is the null class.
    pub classes: Classes,
}

/// What a user may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Number of classes, the null class included; 0 where the network takes none.
    pub count: usize,
    /// The class that stands for "none".
    pub null: Option<usize>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// By tensor, then by row of all schedules.
    tensors: Vec<Vec<Observation>>,
    /// Before the activation, over all rows, by the tensor that a norm writes.
    pre_activations: Vec<Observation>,
}

impl Ranges {
    /// Every tensor within −1..1: not for drawing, but arena and multiply-adds do not depend on ranges, so a network can
    /// be planned before it is trained.
    pub fn assumed(graph: &Graph, rows: usize) -> Self {
        let unit = Observation::of(&[-1.0, 1.0]).unwrap_or_default();
        Self {
            tensors: vec![vec![unit.clone(); rows]; graph.tensors.len()],
            pre_activations: vec![unit; graph.tensors.len()],
        }
    }

    /// Of a tensor at a row; an error where calibration has not come by.
    pub fn tensor(&self, graph: &Graph, id: TensorId, row: usize) -> Result<&Observation> {
        let seen = self.tensors.get(id).and_then(|rows| rows.get(row)).filter(|seen| seen.extremes().is_some());
        seen.ok_or_else(|| {
            miette!(
                help = "calibrate with at least one trajectory for each number of steps",
                "{}: calibration has not seen this tensor in row {row}",
                graph.tensors[id].name
            )
        })
    }

    /// Of a tensor over all rows.
    pub fn tensor_overall(&self, graph: &Graph, id: TensorId) -> Result<Observation> {
        let mut whole = Observation::default();
        for row in 0..self.rows() {
            whole.add(self.tensor(graph, id, row)?);
        }
        Ok(whole)
    }

    /// What the norm that writes `id` gives before its activation, over all rows.
    pub fn pre_activation(&self, id: TensorId) -> &Observation {
        &self.pre_activations[id]
    }

    /// What a shallow row does not make is what the last full row made.
    fn repeat(&mut self, deep: &[bool], full_rows: &[usize]) {
        for (rows, _) in self.tensors.iter_mut().zip(deep).filter(|(_, deep)| **deep) {
            for (row, &full) in full_rows.iter().enumerate() {
                rows[row] = rows[full].clone();
            }
        }
    }

    /// Rows of all schedules.
    pub fn rows(&self) -> usize {
        self.tensors.first().map_or(0, Vec::len)
    }
}

/// One trajectory.
struct Job {
    schedule: usize,
    index: usize,
}

/// Runs the trajectories; `progress` hears of each network row that is done, and of how many there are.
pub fn calibrate(
    network: &Network,
    schedules: &Schedules,
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Ranges, Patches)> {
    let graph = &network.graph;
    let rows = schedules.rows.len();
    let tensors: Vec<Vec<Mutex<Observation>>> =
        graph.tensors.iter().map(|_| (0..rows).map(|_| Mutex::default()).collect()).collect();
    let pre_activations: Vec<Mutex<Observation>> = graph.tensors.iter().map(|_| Mutex::default()).collect();
    let jobs: Vec<Job> = (0..schedules.schedules.len())
        .flat_map(|schedule| (0..options.trajectories.max(1)).map(move |index| Job { schedule, index }))
        .collect();
    let total: usize = jobs.iter().map(|job| usize::from(schedules.schedules[job.schedule].rows)).sum();
    let done = AtomicUsize::new(0);
    // Guided trajectories call the network twice a row.
    let calls = 2 * total;
    // What shallow rows skip is seen in fewer of them.
    let full_share = schedules.rows.iter().filter(|row| !is_shallow(row)).count() as f64 / rows.max(1) as f64;
    let results: Vec<Result<Patches>> = jobs
        .par_iter()
        .enumerate()
        .map(|(index, job)| {
            let mut patches = patches::Sampler::new(graph, index * calls / jobs.len(), calls, full_share);
            let first_row = usize::from(schedules.schedules[job.schedule].first_row);
            let mut not_finite = None;
            trajectory(network, schedules, options, job, &mut |event| {
                let (slot, id, row, values) = match event {
                    Event::Tensor { row, id, values, .. } => {
                        if id == graph.input {
                            patches.next_call();
                        }
                        patches.see(id, values);
                        (&tensors[id][first_row + row], id, row, values)
                    }
                    Event::PreActivation { row, id, values, .. } => (&pre_activations[id], id, row, values),
                    Event::Row { .. } => {
                        progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                        return;
                    }
                };
                match Observation::of(values) {
                    // A poisoned lock is one whose holder panicked; the sums in it are whole all the same.
                    Some(seen) => slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).add(&seen),
                    None => {
                        not_finite.get_or_insert((id, row));
                    }
                }
            })?;
            match not_finite {
                None => Ok(patches.finish()),
                Some((id, row)) => Err(miette!(
                    help = "check the checkpoint by sampling from it in float: it diverges there too",
                    "{}: not every value is finite at step {row} of trajectory {}",
                    graph.tensors[id].name,
                    job.index
                )),
            }
        })
        .collect();
    let mut patches = Patches::default();
    for taken in results {
        patches.extend(taken?);
    }
    let open = |cell: Mutex<Observation>| cell.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut ranges = Ranges {
        tensors: tensors.into_iter().map(|rows| rows.into_iter().map(open).collect()).collect(),
        pre_activations: pre_activations.into_iter().map(open).collect(),
    };
    if let (true, Some(reuse)) = (schedules.reuses(), &graph.reuse) {
        let (deep, full_rows) = (reuse.deep_tensors(graph), schedules.full_rows());
        ranges.repeat(&deep, &full_rows);
    }
    Ok((ranges, patches))
}

fn trajectory(
    network: &Network,
    schedules: &Schedules,
    options: &Options,
    job: &Job,
    observe: &mut dyn FnMut(Event),
) -> Result<()> {
    let schedule = &schedules.schedules[job.schedule];
    let rows = &schedules.rows[usize::from(schedule.first_row)..][..usize::from(schedule.rows)];
    let seed = options.seed.wrapping_add(job.index as u64);
    let cond = condition(network, options.classes, job.index, options.trajectories, seed);
    let null = options.classes.null.map(Cond::Class);
    let guidance = if null.is_some() { guidance_of(&options.guidance, job.index) } else { 1.0 };
    let interpreter = Interpreter::new(&network.graph);
    let conditioning = Conditioning::new(&interpreter, &network.time, rows, &cond, null.as_ref(), guidance)?;
    let mut x_t = vec![0.0; network.graph.tensors[network.graph.input].elems()];
    noise::fill(seed, 0, &mut x_t);
    // The runtime's streams: 0 starts the sample, each row of the file has its own.
    let mut step_noise = |row: usize, to: &mut [f32]| noise::fill(seed, 1 + row as u32, to);
    sample(&interpreter, rows, &conditioning, &x_t, &mut step_noise, observe);
    Ok(())
}

/// The guidance of a trajectory: multiples of the golden ratio fill an interval evenly, however many are taken.
fn guidance_of(guidance: &RangeInclusive<f32>, index: usize) -> f32 {
    guidance.start() + (guidance.end() - guidance.start()) * (index as f32 * 0.618_034).fract()
}

/// The condition of trajectory `index` of `count`: classes in turn; vectors of the caller's as standard normal numbers,
/// which is what embeddings are scaled to.
pub fn condition(network: &Network, classes: Classes, index: usize, count: usize, seed: u64) -> Cond {
    if network.time.takes_vector() {
        let mut vector = vec![0.0; network.time.dim()];
        noise::fill(seed, u32::MAX, &mut vector);
        return Cond::Vector(vector);
    }
    match classes.count {
        0 => Cond::None,
        classes if count >= classes => Cond::Class(index % classes),
        classes => Cond::Class(index * classes / count.max(1)),
    }
}
