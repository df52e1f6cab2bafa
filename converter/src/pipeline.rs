//! The pipeline: a checkpoint to the bytes of a `.mote` file. Each arrow is its own type, so a stage cannot be skipped.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use miette::{Result, miette};
use mote_runtime::kernels::tiling::{SCALAR, Tiling};

use crate::arch::Network;
use crate::calibrate::{self, Classes, Patches, Ranges, calibrate};
use crate::pack::{Packed, pack};
use crate::plan::Plan;
use crate::plan::winograd::{Winograd, plan_with};
use crate::quantize::time::TimeFold;
use crate::quantize::time::TimeValues;
use crate::quantize::{Layer, Level, LowerOptions, Precision, QuantGraph, Solutions, Techniques, WeightWidth, lower};
use crate::report::Report;
use crate::schedule::{Scheduler, Schedules};
use crate::search::{self, Evaluator, Front};
use crate::weights::Checkpoint;

/// Pictures that a search draws with each candidate.
const SEARCH_PICTURES: usize = 16;

/// Everything that a user can ask of quantization.
#[derive(Clone, Debug)]
pub struct Options {
    /// Numbers of steps that the file offers, the default one first.
    pub steps: Vec<usize>,
    /// DDIM's η.
    pub eta: f64,
    /// One network call in so many is a full one; the others reuse its deep features. 1 reuses nothing.
    pub cache_interval: usize,
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
    /// Activation widths; `None` takes those whose arena stays within `ram_bytes` and that draw best; where that is not given,
    /// 8 bits, or [`Level::Edge`] where that draws much better.
    pub activations: Option<Level>,
    /// How weights are written.
    pub weights: WeightChoice,
    /// Each tensor's ranges are chosen by what they do to finished pictures.
    pub search_ranges: bool,
    /// What is done to lose less than plain rounding does.
    pub techniques: Techniques,
    /// Which convolutions are done by Winograd's algorithm.
    pub winograd: Winograd,
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
            cache_interval: 1,
            size: None,
            classes: None,
            null_class: None,
            trajectories: 64,
            guidance: 1.0..=3.0,
            seed: 1 << 32,
            activations: None,
            weights: WeightChoice::Int8,
            search_ranges: false,
            techniques: Techniques::default(),
            winograd: Winograd::Auto,
            ram_bytes: None,
            flash_bytes: None,
            tiling: SCALAR,
        }
    }
}

/// How weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightChoice {
    /// 8 bits.
    Int8,
    /// 4 bits, but for small layers ([`Layer::large`]).
    Int4,
    /// What loses least within the file budget.
    Auto,
}

/// A stage of the pipeline, as progress reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The checkpoint is read.
    Import,
    /// Network rows are run in float.
    Calibrate,
    /// Layers are solved.
    Solve,
    /// Float pictures are drawn, for a search.
    Reference,
    /// Choices are tried on finished pictures.
    Search,
    /// The arena is planned, the file packed.
    Pack,
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
    /// What the search over weights found, where there was one.
    pub front: Option<Front>,
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
    let schedules = schedules.with_reuse(options.cache_interval)?;
    if schedules.reuses() && network.graph.reuse.is_none() {
        return Err(miette!(
            help = "leave --cache-interval out; fewer --steps are another way to less work",
            "{}: the network has no level below its outermost one, so there are no deep features to reuse",
            checkpoint.path().display()
        ));
    }
    let classes = classes(&network, checkpoint, options)?;
    let fold = TimeFold::new(&network, &schedules.rows, classes)?;
    progress(Stage::Import, 1, 1);
    let runs = calibrate::Options {
        trajectories: options.trajectories,
        guidance: options.guidance.clone(),
        seed: options.seed,
        classes,
    };
    let (ranges, patches) =
        calibrate(&network, &schedules, &runs, &|done, total| progress(Stage::Calibrate, done, total))?;
    Ok(Calibrated { network, schedules, classes, ranges, patches, fold, info: info(checkpoint) })
}

impl Calibrated {
    /// Chooses widths, quantizes, plans and packs; refuses a file that breaks a budget.
    pub fn quantize(&self, options: &Options, progress: Progress) -> Result<Quantized> {
        let solutions = self.solutions(options.techniques);
        self.solve(&solutions, options, progress);
        let graph = &self.network.graph;
        let chooses = options.activations.is_none() || options.weights == WeightChoice::Auto || options.search_ranges;
        let evaluator = if chooses { Some(self.evaluator(progress)?) } else { None };
        // Activations first, with 8-bit weights: what 4 bits do to a picture would hide what activations do to it.
        let (activations, level) = match (&evaluator, options.activations) {
            (Some(evaluator), None) => {
                let heard = |done, total| progress(Stage::Search, done, total);
                search::activations(self, &solutions, evaluator, options, &heard)?
            }
            (_, level) => {
                let level = level.unwrap_or(Level::Int8);
                (Precision::level(graph, level), level)
            }
        };
        let mut front = None;
        let mut precision = match (options.weights, &evaluator) {
            (WeightChoice::Auto, Some(evaluator)) => {
                let heard = |done, total| progress(Stage::Search, done, total);
                let (precision, found) =
                    search::weights(self, &solutions, &activations, evaluator, options.flash_bytes, &heard)?;
                front = Some(found);
                precision
            }
            (WeightChoice::Int4, _) => activations.with_weights(&self.large_layers(), WeightWidth::Int4),
            _ => activations,
        };
        if let (Some(evaluator), true) = (&evaluator, options.search_ranges) {
            let heard = |done, total| progress(Stage::Search, done, total);
            precision = search::ranges(self, &solutions, &precision, evaluator, &heard)?;
        }
        progress(Stage::Pack, 0, 1);
        let mut graph = self.lower(&solutions, &precision)?;
        let plan = plan_with(&mut graph, options.winograd, options.tiling, options.ram_bytes);
        let packed = pack(&graph, &plan, &self.schedules, self.classes, &self.info)?;
        let report = Report::new(&graph, &self.fold, &plan, &packed, &self.schedules);
        report.check_budgets(options.ram_bytes, options.flash_bytes, level, options.weights)?;
        progress(Stage::Pack, 1, 1);
        Ok(Quantized { packed, graph, plan, level, front, report })
    }

    /// Solves every layer in the widths that a choice may take.
    fn solve(&self, solutions: &Solutions, options: &Options, progress: Progress) {
        let widths: &[WeightWidth] = match options.weights {
            WeightChoice::Int8 => &[WeightWidth::Int8],
            WeightChoice::Int4 if options.activations.is_some() => &[WeightWidth::Int4],
            WeightChoice::Int4 | WeightChoice::Auto => &[WeightWidth::Int8, WeightWidth::Int4],
        };
        let layers = self.layers();
        let done = AtomicUsize::new(0);
        solutions.prepare(&layers, widths, &|| {
            let done = 1 + done.fetch_add(1, Ordering::Relaxed);
            progress(Stage::Solve, done, layers.len() * widths.len());
        });
    }

    /// Float pictures for a search.
    fn evaluator(&self, progress: Progress) -> Result<Evaluator<'_>> {
        let done = AtomicUsize::new(0);
        Evaluator::new(self, Evaluator::SEARCH_SEED, SEARCH_PICTURES, &|| {
            progress(Stage::Reference, 1 + done.fetch_add(1, Ordering::Relaxed), SEARCH_PICTURES);
        })
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

    /// What `--weights int4` gives 4 bits.
    pub fn large_layers(&self) -> Vec<Layer> {
        Layer::large(&self.layers(), &self.network.graph)
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
