//! The pipeline: a checkpoint to the bytes of a `.mote` file. Each arrow is its own type, so a stage cannot be skipped.

use std::ops::RangeInclusive;

use miette::{Result, miette};
use mote_runtime::kernels::scratch::{SCALAR, Tiling};

use crate::arch::Network;
use crate::calibrate::{self, Classes, Patches, Ranges, calibrate};
use crate::pack::{Packed, pack};
use crate::plan::{Plan, plan};
use crate::quantize::time::TimeFold;
use crate::quantize::{Layer, Level, LowerOptions, Precision, QuantGraph, Solutions, Techniques, WeightWidth, lower};
use crate::quantize::time::TimeValues;
use crate::report::Report;
use crate::schedule::{Scheduler, Schedules};
use crate::weights::Checkpoint;

/// Everything that a user can ask of quantization.
#[derive(Clone, Debug)]
pub struct Options {
    /// Numbers of steps that the file offers, the default one first.
    pub steps: Vec<usize>,
    /// DDIM's η.
    pub eta: f64,
    /// Picture height and width, where not the configuration's.
    pub size: Option<[usize; 2]>,
    /// Number of classes, where the configuration does not tell.
    pub classes: Option<usize>,
    /// The null class, where the checkpoint's metadata does not tell.
    pub null_class: Option<usize>,
    /// Calibration trajectories for each number of steps.
    pub trajectories: usize,
    /// Guidance values to calibrate for.
    pub guidance: RangeInclusive<f32>,
    /// Seed of the first trajectory.
    pub seed: u64,
    /// Activation widths; `None` takes the widest whose arena stays within `ram_bytes`, 8 bits where that is not given.
    pub activations: Option<Level>,
    /// How weights are written.
    pub weights: WeightWidth,
    /// What is done to lose less than plain rounding does.
    pub techniques: Techniques,
    /// Arena budget.
    pub ram_bytes: Option<usize>,
    /// File budget.
    pub flash_bytes: Option<usize>,
    /// The kernels' tiling that scratch is planned for.
    pub tiling: Tiling,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steps: vec![20],
            eta: 0.0,
            size: None,
            classes: None,
            null_class: None,
            trajectories: 16,
            guidance: 1.0..=3.0,
            seed: 1 << 32,
            activations: None,
            weights: WeightWidth::Int8,
            techniques: Techniques::default(),
            ram_bytes: None,
            flash_bytes: None,
            tiling: SCALAR,
        }
    }
}

/// A stage of the pipeline, as progress reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The checkpoint is read.
    Import,
    /// Network rows are run in float.
    Calibrate,
    /// Weights are quantized and the arena is planned.
    Quantize,
}

/// Hears of the stage, what of it is done, and how much there is.
pub type Progress<'a> = &'a (dyn Fn(Stage, usize, usize) + Sync);

/// What does not depend on the numbers' widths: the network, its schedules, and what calibration saw.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The float network.
    pub network: Network,
    /// All rows.
    pub schedules: Schedules,
    /// What a user may ask for.
    pub classes: Classes,
    /// What was seen.
    pub ranges: Ranges,
    /// Samples of what the layers read.
    pub patches: Patches,
    /// The time path for all rows and classes.
    pub fold: TimeFold,
    /// Lines for the file's `info` section.
    pub info: Vec<(String, String)>,
}

/// A finished file, not yet on disk.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The file.
    pub packed: Packed,
    /// Its integer graph.
    pub graph: QuantGraph,
    /// Its memory plan.
    pub plan: Plan,
    /// Which activations are 16 bits wide.
    pub level: Level,
    /// What it costs.
    pub report: Report,
}

/// The whole way: checkpoint → network → schedules → ranges → integer graph → plan → bytes.
pub fn quantize(checkpoint: &Checkpoint, options: &Options, progress: Progress) -> Result<Quantized> {
    prepare(checkpoint, options, progress)?.quantize(options, progress)
}

/// Imports and calibrates.
pub fn prepare(checkpoint: &Checkpoint, options: &Options, progress: Progress) -> Result<Calibrated> {
    progress(Stage::Import, 0, 1);
    let network = Network::import(checkpoint, options.size)?;
    let scheduler = Scheduler::read(checkpoint.scheduler_config()?)?;
    let schedules = Schedules::compile(&scheduler, &options.steps, options.eta, network.graph.output_over_timestep)?;
    let classes = classes(&network, checkpoint, options)?;
    let fold = TimeFold::new(&network, &schedules.rows, classes)?;
    progress(Stage::Import, 1, 1);
    let runs = calibrate::Options {
        trajectories: options.trajectories,
        guidance: options.guidance.clone(),
        seed: options.seed,
        classes,
    };
    let (ranges, patches) = calibrate(&network, &schedules, &runs, &|done, total| progress(Stage::Calibrate, done, total))?;
    Ok(Calibrated { network, schedules, classes, ranges, patches, fold, info: info(checkpoint) })
}

impl Calibrated {
    /// Quantizes, plans and packs; refuses a file that breaks a budget.
    pub fn quantize(&self, options: &Options, progress: Progress) -> Result<Quantized> {
        // 16 bits gain `digits` 1 to 2 dB of 44 and cost half as much arena again, so only who has the memory gets them.
        let levels = match (options.activations, options.ram_bytes) {
            (Some(level), _) => vec![level],
            (None, Some(_)) => Level::ALL.to_vec(),
            (None, None) => vec![Level::Int8],
        };
        let budget = options.ram_bytes.unwrap_or(usize::MAX);
        let solutions = self.solutions(options.techniques);
        let layers = self.layers();
        solutions.prepare(&layers, &[options.weights], &|| {});
        for (i, &level) in levels.iter().enumerate() {
            progress(Stage::Quantize, i, levels.len());
            let precision = Precision::level(&self.network.graph, level).with_weights(&layers, options.weights);
            let graph = self.lower(&solutions, &precision)?;
            let plan = plan(&graph, options.tiling);
            if plan.arena_bytes > budget && i + 1 < levels.len() {
                continue;
            }
            let packed = pack(&graph, &plan, &self.schedules, self.classes, &self.info)?;
            let report = Report::new(&graph, &self.fold, &plan, &packed, &self.schedules);
            report.check_budgets(options.ram_bytes, options.flash_bytes, level)?;
            progress(Stage::Quantize, levels.len(), levels.len());
            return Ok(Quantized { packed, graph, plan, level, report });
        }
        Err(miette!(help = "leave the activation width to the converter", "no activation width to try"))
    }

    /// The integer graph for a choice of widths.
    pub fn lower(&self, solutions: &Solutions, precision: &Precision) -> Result<QuantGraph> {
        let options = LowerOptions { techniques: solutions.techniques(), classes: self.classes };
        lower(&self.network, &self.schedules, &self.ranges, precision, solutions, &self.fold, &options)
    }

    /// The network's weight matrices, none solved yet.
    pub fn solutions(&self, techniques: Techniques) -> Solutions<'_> {
        Solutions::new(&self.network.graph, &self.patches, &self.fold, techniques)
    }

    /// The network's weight matrices as the device has them.
    pub fn layers(&self) -> Vec<Layer> {
        Layer::all(&self.network.graph, !matches!(self.fold.values, TimeValues::Tables(_)))
    }
}

/// The classes of a network: options first, then what the checkpoint says.
pub fn classes(network: &Network, checkpoint: &Checkpoint, options: &Options) -> Result<Classes> {
    if !network.time.is_conditional() || network.time.takes_vector() {
        return Ok(Classes::default());
    }
    let count = network.time.num_classes().or(options.classes).ok_or_else(|| {
        miette!(help = "say how many with `--classes`", "the configuration does not say how many classes there are")
    })?;
    let told = checkpoint.metadata().get("null_class").map(|text| {
        text.trim().parse::<usize>().map_err(|_| {
            miette!(
                help = "name it with `--null-class`",
                "the metadata's null_class is \"{text}\", which is no class number"
            )
        })
    });
    let null = options.null_class.map(Ok).or(told).transpose()?;
    if let Some(null) = null.filter(|&null| null >= count) {
        return Err(miette!(
            help = "classes count from 0",
            "null class {null} does not exist: the network has {count} classes"
        ));
    }
    Ok(Classes { count, null })
}

/// Who made what, for people.
fn info(checkpoint: &Checkpoint) -> Vec<(String, String)> {
    let source = checkpoint.path().file_name().map(|name| name.to_string_lossy().into_owned());
    let kept = ["name", "license", "class_names"].into_iter();
    kept.filter_map(|key| checkpoint.metadata().get(key).map(|value| (key.to_owned(), value.clone())))
        .chain(source.map(|source| ("source".to_owned(), source)))
        .chain([("converter".to_owned(), format!("mote {}", env!("CARGO_PKG_VERSION")))])
        .collect()
}
