//! What a checkpoint or a bare configuration would cost on a device, before it is quantized or even trained.
//!
//! The network goes through the whole pipeline but for calibration: its tensors are assumed to lie within −1..1. Arena,
//! multiply-adds, weights and time path do not depend on ranges, so they are what `quantize` will find for the same
//! options. Activation tables do: layers of like ranges share one, so the file may grow by a few of them (2 KiB each).

use std::fmt::{self, Display};

use miette::Result;
use mote_runtime::format::Clip;
use mote_runtime::kernels::tiling::Target;
use serde::Serialize;

use super::Report;
use super::table::{Table, bytes, count, shape, short_bytes, short_count};
use crate::arch::{Network, TimeEmbeddingType};
use crate::calibrate::{Classes, Patches, Ranges};
use crate::fields::ConfigText;
use crate::graph::{Graph, Op};
use crate::pack::assemble;
use crate::pipeline::Calibrated;
use crate::plan::plan;
use crate::quantize::time::TimeFold;
use crate::quantize::{Level, Precision, Techniques, WeightWidth};
use crate::schedule::{PredictionType, Scheduler, Schedules, Spacing};
use crate::weights::Checkpoint;

/// A network, what it is and what it would cost.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointReport {
    /// What was opened.
    pub path: String,
    /// Bytes of the weight files, 0 for a bare configuration.
    pub weights_bytes: u64,
    /// Parameters of the network, time path included.
    pub parameters: usize,
    /// `[h, w, c]` of the pictures.
    pub image: [usize; 3],
    /// Number of classes, the null class included; 0 for none.
    pub classes: usize,
    /// The null class.
    pub null_class: Option<usize>,
    /// Elements of the class vector that the caller gives, 0 for none.
    pub class_embedding_len: usize,
    /// How a timestep becomes a vector.
    pub time_embedding: &'static str,
    /// The scheduler, absent where no configuration was found.
    pub scheduler: Option<SchedulerLine>,
    /// Numbers of steps that the costs are for.
    pub steps: Vec<usize>,
    /// The core that scratch is planned for.
    pub target: &'static str,
    /// One for each width of activations, from the narrowest.
    pub costs: Vec<Cost>,
    /// The float graph's operators.
    pub layers: Vec<LayerLine>,
}

/// The noise levels that the network was trained with.
#[derive(Clone, Debug, Serialize)]
pub struct SchedulerLine {
    /// What the network's output is.
    pub prediction_type: &'static str,
    /// `num_train_timesteps`.
    pub train_timesteps: usize,
    /// `timestep_spacing`.
    pub spacing: &'static str,
    /// What happens to x₀.
    pub clip: String,
    /// Whether x₀ is clipped at 1 or less, which guidance overshoots (for digits at guidance 2: class share 74 % with a clip
    /// at 1, 99.8 % with one at 2).
    pub clips_guidance: bool,
}

/// The costs with one width of activations.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// As `--activations` calls it, and `stream` for the residual stream in 16 bits, which auto may take.
    pub activations: &'static str,
    /// As `--weights` calls them.
    pub weights: &'static str,
    /// What `quantize` would report.
    pub report: Report,
}

/// An operator of the float graph.
#[derive(Clone, Debug, Serialize)]
pub struct LayerLine {
    /// The parameter prefix.
    pub name: String,
    /// Kind, kernel and stride, groups or heads.
    pub op: String,
    /// `[h, w, c]` of its output.
    pub shape: [usize; 3],
    /// Multiply-adds.
    pub macs: u64,
    /// Parameters.
    pub parameters: usize,
}

impl CheckpointReport {
    /// Plans `network` for `steps` on a core, without calibrating it.
    pub fn new(
        checkpoint: &Checkpoint,
        network: Network,
        classes: Classes,
        steps: &[usize],
        target: &Target,
    ) -> Result<Self> {
        let scheduler = match checkpoint.scheduler_config() {
            Ok(text) => Some(Scheduler::read(text)?),
            Err(_) => None,
        };
        // Costs depend on the number of rows only, so any noise levels do where none are known.
        let assumed = Scheduler::read(&ConfigText::parse("the default scheduler".to_owned(), ASSUMED_SCHEDULER)?)?;
        let rows_of = scheduler.as_ref().unwrap_or(&assumed);
        let schedules = Schedules::compile(rows_of, steps, 0.0, network.graph.output_over_timestep)?;
        let fold = TimeFold::new(&network, &schedules.rows, classes)?;
        let ranges = Ranges::assumed(&network.graph, schedules.rows.len());
        let patches = Patches::default();
        let calibrated = Calibrated { network, schedules, classes, ranges, patches, fold, info: Vec::new() };
        let network = &calibrated.network;
        let x = &network.graph.tensors[network.graph.input];
        Ok(Self {
            path: checkpoint.path().display().to_string(),
            weights_bytes: checkpoint.len_bytes(),
            parameters: network.parameters,
            image: [x.h, x.w, x.c],
            classes: classes.count,
            null_class: classes.null,
            class_embedding_len: if network.time.takes_vector() { network.time.dim() } else { 0 },
            time_embedding: match network.config.time_embedding_type {
                TimeEmbeddingType::Positional => "positional",
                TimeEmbeddingType::Fourier => "fourier",
                TimeEmbeddingType::Learned => "learned",
            },
            scheduler: scheduler.as_ref().map(scheduler_line),
            steps: steps.to_vec(),
            target: target.name,
            costs: costs(&calibrated, target)?,
            layers: network.graph.ops.iter().map(|op| layer(&network.graph, op)).collect(),
        })
    }
}

/// Fourier embeddings have no timestep 0, hence the offset.
const ASSUMED_SCHEDULER: &str = r#"{"steps_offset": 1}"#;

fn costs(calibrated: &Calibrated, target: &Target) -> Result<Vec<Cost>> {
    let graph = &calibrated.network.graph;
    let solutions = calibrated.solutions(Techniques::default());
    let cost = |(level, weights)| {
        let precision = Precision::level(graph, level);
        let precision = match weights {
            WeightWidth::Int8 => precision,
            WeightWidth::Int4 => precision.with_weights(&calibrated.large_layers(), WeightWidth::Int4),
        };
        let lowered = calibrated.lower(&solutions, &precision)?;
        let plan = plan(&lowered, target.tiling);
        let packed = assemble(&lowered, &plan, &calibrated.schedules, calibrated.classes, &calibrated.info)?;
        let report = Report::new(&lowered, &calibrated.fold, &plan, &packed, &calibrated.schedules);
        let activations = match level {
            Level::Int8 => "int8",
            Level::Edge => "edge",
            Level::Stream => "stream",
            Level::Norms => "int16",
        };
        let weights = match weights {
            WeightWidth::Int8 => "int8",
            WeightWidth::Int4 => "int4",
        };
        Ok(Cost { activations, weights, report })
    };
    let int8 = Level::ALL.into_iter().rev().map(|level| (level, WeightWidth::Int8));
    int8.chain([(Level::Int8, WeightWidth::Int4)]).map(cost).collect()
}

fn scheduler_line(scheduler: &Scheduler) -> SchedulerLine {
    let config = scheduler.config();
    SchedulerLine {
        prediction_type: match config.prediction_type {
            PredictionType::Epsilon => "epsilon",
            PredictionType::Sample => "sample",
            PredictionType::VPrediction => "v_prediction",
        },
        train_timesteps: config.num_train_timesteps,
        spacing: match config.timestep_spacing {
            Spacing::Linspace => "linspace",
            Spacing::Leading => "leading",
            Spacing::Trailing => "trailing",
        },
        clips_guidance: matches!(config.clip, Clip::Range(range) if range <= 1.0),
        clip: match config.clip {
            Clip::None => "none".into(),
            Clip::Range(range) => format!("to ±{range}"),
            Clip::Dynamic { ratio, max } => format!("thresholding, quantile {ratio}, at most {max}"),
        },
    }
}

fn layer(graph: &Graph, op: &Op) -> LayerLine {
    let out = &graph.tensors[op.out()];
    let (name, kind, macs, parameters) = match op {
        Op::Conv2d(conv) => {
            let [kh, kw] = conv.kernel;
            let stride = if conv.stride == 1 { String::new() } else { format!(" /{}", conv.stride) };
            let up = if conv.upsample { " up2" } else { "" };
            let weights: usize = conv.sources.iter().map(|source| source.weight.len()).sum();
            let time =
                conv.time_bias.map_or(0, |id| graph.projections[id].weight.len() + graph.projections[id].bias.len());
            (
                &conv.name,
                format!("conv {kh}x{kw}{stride}{up}"),
                (out.h * out.w * weights) as u64,
                weights + conv.bias.len() + time,
            )
        }
        Op::GroupNorm(norm) => {
            (&norm.name, format!("norm, {} groups", norm.groups), 0, norm.gamma.len() + norm.beta.len())
        }
        Op::Attention(attention) => {
            let positions = (out.h * out.w) as u64;
            (
                &attention.name,
                format!("attention, {} heads", attention.heads),
                2 * positions * positions * out.c as u64,
                0,
            )
        }
        Op::AvgPool { .. } => (&out.name, "avg_pool".to_owned(), 0, 0),
        Op::Upsample { .. } => (&out.name, "upsample".to_owned(), 0, 0),
    };
    LayerLine { name: name.clone(), op: kind, shape: [out.h, out.w, out.c], macs, parameters }
}

/// The report as text; all layers with `verbose`.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointText<'a> {
    /// The report.
    pub report: &'a CheckpointReport,
    /// All layers.
    pub verbose: bool,
}

impl Display for CheckpointText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let mut line = |name: &str, text: String| writeln!(f, "  {name:<12} {text}");
        line("checkpoint", report.path.clone())?;
        let weights = match report.weights_bytes {
            0 => "a bare configuration, no weights".to_owned(),
            n => format!("{} of weight files", short_bytes(n as usize)),
        };
        line(
            "network",
            format!("UNet2DModel, {} parameters, {weights}; every key is supported", count(report.parameters as u64)),
        )?;
        line("pictures", format!("{} (height x width x channels)", shape(report.image)))?;
        line("condition", condition(report))?;
        line("time", format!("{} embedding", report.time_embedding))?;
        match &report.scheduler {
            Some(s) => {
                line(
                    "scheduler",
                    format!(
                        "{}, {} noise levels, {} spacing, clip {}",
                        s.prediction_type, s.train_timesteps, s.spacing, s.clip
                    ),
                )?;
                if s.clips_guidance && report.null_class.is_some() {
                    line("", "the clip at ±1 cuts what guidance adds: with guidance, try clip_sample_range 2".into())?;
                }
            }
            None => {
                line("scheduler", "no scheduler_config.json found: `quantize` will need it; costs are for any".into())?
            }
        }
        let steps: Vec<String> = report.steps.iter().map(usize::to_string).collect();
        if let Some(cost) = report.costs.first() {
            line("work", format!("{} multiply-adds a network call", short_count(cost.report.macs)))?;
        }
        writeln!(
            f,
            "\n  costs with --steps {}, {} kernels (calibration may add a few activation tables of 2 KiB)\n",
            steps.join(","),
            report.target
        )?;
        let mut table =
            Table::new(&["activations", "weights", ">arena bytes", ">least possible", ">file bytes", "arena peak"]);
        for Cost { activations, weights, report } in &self.report.costs {
            let number = |n: usize| count(n as u64);
            table.row([
                (*activations).to_owned(),
                (*weights).to_owned(),
                number(report.arena_bytes),
                number(report.arena_lower_bound_bytes),
                number(report.file_bytes),
                report.peak.clone(),
            ]);
        }
        write!(f, "{table}")?;
        writeln!(
            f,
            "\n  16 bits have: edge, the network's input and what its first convolution writes; stream, what is added to or skipped"
        )?;
        writeln!(
            f,
            "  to a later block, too; int16, what norms read, too. quantize takes what draws best: int8 or edge, or any within --ram"
        )?;
        if let Some(Cost { report, .. }) = self.report.costs.first() {
            let time = if report.time_layers { "as layers" } else { "as tables" };
            writeln!(
                f,
                "\n  file: weights {}, constants {}, time path {} ({time}), tables {}, records {}",
                bytes(report.weights_bytes),
                short_bytes(report.constants_bytes),
                short_bytes(report.time_bytes),
                short_bytes(report.tables_bytes),
                short_bytes(report.meta_bytes)
            )?;
        }
        writeln!(f)?;
        let mut table = Table::new(&["layer", "operator", ">output", ">multiply-adds", ">parameters"]);
        for layer in &report.layers {
            let number = |n: u64| if n == 0 { "-".to_owned() } else { count(n) };
            let cells = [layer.name.clone(), layer.op.clone(), shape(layer.shape), number(layer.macs)];
            table.row(cells.into_iter().chain([number(layer.parameters as u64)]));
        }
        if !self.verbose {
            table.shorten(10, 6);
        }
        write!(f, "{table}")
    }
}

fn condition(report: &CheckpointReport) -> String {
    match (report.class_embedding_len, report.classes, report.null_class) {
        (0, 0, _) => "none".into(),
        (0, n, Some(null)) => format!("{n} classes; {null} is the null class, so guidance is possible"),
        (0, n, None) => format!("{n} classes, no null class known (--null-class), so no guidance"),
        (len, ..) => format!("a class vector of {len} elements, from the caller"),
    }
}
