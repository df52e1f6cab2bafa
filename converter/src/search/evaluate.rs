//! What a choice of widths and ranges does to the finished picture.
//!
//! The only number that counts: the squared error of x₀ against the float sampler's from the same noise, at guidance 1,
//! after the clip to −1..1 that a display makes. The float pictures are drawn once.
//!
//! Voids the promise: nothing; the same choice gives the same number on any number of threads.

use std::path::Path;
use std::sync::Mutex;

use miette::{Result, miette};
use mote_runtime::format::Tensor;

use crate::arch::Cond;
use crate::calibrate::condition;
use crate::draw::{Device, Draw, Drawn, Float, MoteFile, Prompt};
use crate::pack::assemble;
use crate::pipeline::Calibrated;
use crate::plan::{Plan, plan};
use crate::quantize::QuantGraph;
use crate::report::metrics::psnr;

/// Float pictures to hold files against.
pub struct Evaluator<'a> {
    calibrated: &'a Calibrated,
    prompts: Vec<Prompt>,
    reference: Vec<Drawn>,
    /// The last plan and the tensors that it is for.
    planned: Mutex<Option<(Vec<Tensor>, Plan)>>,
}

impl<'a> Evaluator<'a> {
    /// Seeds of a search's pictures begin here: none of calibration's, none that a user is likely to judge by.
    pub const SEARCH_SEED: u64 = 3 << 32;

    /// Draws `count` pictures in float by the first schedule, seeds and classes in turn; `done` is called behind each.
    pub fn new(calibrated: &'a Calibrated, first_seed: u64, count: usize, done: &(dyn Fn() + Sync)) -> Result<Self> {
        let (network, classes) = (&calibrated.network, calibrated.classes);
        let prompts = Self::prompts(calibrated, first_seed, count);
        let Some(schedule) = calibrated.schedules.schedules.first() else {
            return Err(miette!(help = "name one with --steps", "no number of steps"));
        };
        let first_row = usize::from(schedule.first_row);
        let rows = &calibrated.schedules.rows[first_row..][..usize::from(schedule.rows)];
        let reference = Float { network, rows, first_row, classes }.draw(&prompts, false, done)?;
        Ok(Self { calibrated, prompts, reference, planned: Mutex::default() })
    }

    /// `count` pictures of a model, seeds and classes in turn, at guidance 1.
    pub fn prompts(calibrated: &Calibrated, first_seed: u64, count: usize) -> Vec<Prompt> {
        let (network, classes) = (&calibrated.network, calibrated.classes);
        let prompt = |i: usize| {
            let seed = first_seed + i as u64;
            // The null class is for guidance.
            let cond = match (condition(network, classes, i % classes.count.max(1), classes.count, seed), classes.null)
            {
                (Cond::Class(class), Some(null)) if class == null => Cond::Class(i % null.max(1)),
                (cond, _) => cond,
            };
            Prompt { seed, cond, guidance: 1.0, noise: None }
        };
        (0..count).map(prompt).collect()
    }

    /// Number of pictures.
    pub fn count(&self) -> usize {
        self.prompts.len()
    }

    /// Draws with a candidate.
    pub fn measure(&self, graph: &QuantGraph) -> Result<Measured> {
        self.measure_with(self.calibrated, graph)
    }

    /// As [`Evaluator::measure`], by the schedules of another calibration of the same network.
    pub fn measure_with(&self, calibrated: &Calibrated, graph: &QuantGraph) -> Result<Measured> {
        let Calibrated { schedules, classes, info, .. } = calibrated;
        let packed = assemble(graph, &self.plan(graph), schedules, *classes, info)?;
        let file = MoteFile::in_memory(Path::new("a candidate"), &packed.bytes);
        let model = file.model()?;
        let drawn = Device::new(&model, None)?.draw(&self.prompts, false, &|| {})?;
        let pairs = self.reference.iter().zip(&drawn);
        let psnr_db = pairs.map(|(float, drawn)| psnr(&float.x0, &drawn.x0)).collect();
        Ok(Measured { psnr_db, file_bytes: packed.bytes.len() })
    }
}

impl Evaluator<'_> {
    /// A plan, which takes as long as drawing: candidates that differ in weights and ranges only share one, because only
    /// scratch differs, and that lies behind all tensors.
    fn plan(&self, graph: &QuantGraph) -> Plan {
        let mut planned = self.planned.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*planned {
            Some((tensors, plan)) if *tensors == graph.tensors => plan.clone(),
            _ => {
                let plan = plan(graph, mote_runtime::kernels::select::TILING);
                *planned = Some((graph.tensors.clone(), plan.clone()));
                plan
            }
        }
    }
}

/// What a candidate drew.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Of each picture.
    pub psnr_db: Vec<f64>,
    /// Bytes of the file.
    pub file_bytes: usize,
}

impl Measured {
    /// Mean squared error over all pictures, of a range of 2 as 1: the same as a PSNR, but layers' shares of it add up.
    pub fn error(&self) -> f64 {
        self.psnr_db.iter().map(|db| 10f64.powf(-db / 10.0)).sum::<f64>() / self.psnr_db.len().max(1) as f64
    }

    /// Mean of the pictures' decibels.
    pub fn mean_db(&self) -> f64 {
        self.psnr_db.iter().sum::<f64>() / self.psnr_db.len().max(1) as f64
    }

    /// What the pictures gain over another candidate's, in decibels: the mean, and its standard error over the pairs.
    pub fn gain_over(&self, other: &Self) -> (f64, f64) {
        let gains: Vec<f64> = self.psnr_db.iter().zip(&other.psnr_db).map(|(db, other)| db - other).collect();
        let n = gains.len().max(2) as f64;
        let mean = gains.iter().sum::<f64>() / n;
        let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, (variance / n).sqrt())
    }
}
