//! How people and scripts are told: what a quantized file costs and where, for the summary, for `--json` and for budgets;
//! how it compares with float, as text and as a page.

pub mod arena_map;
pub mod canvas;
pub mod checkpoint;
pub mod comparison;
pub mod encode;
pub mod html;
pub mod layout;
pub mod metrics;
pub mod mote;
pub mod mote_text;
pub mod npy;
pub mod summary;
pub mod table;
pub mod terminal;

use miette::{Result, miette};
use mote_runtime::format::DType;
use mote_runtime::shape::Tensors;
use serde::Serialize;

use crate::pack::Packed;
use crate::pipeline::WeightChoice;
use crate::plan::Plan;
use crate::plan::winograd::is_marked;
use crate::quantize::time::{TimeFold, TimeValues};
use crate::quantize::{BlobKind, Level, QuantGraph};
use crate::schedule::Schedules;

/// The costs of a file.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Length of the file.
    pub file_bytes: usize,
    /// Header and records.
    pub meta_bytes: usize,
    /// Integer weights.
    pub weights_bytes: usize,
    /// Scales, sums, biases, γ and β.
    pub constants_bytes: usize,
    /// The time path's tables.
    pub time_bytes: usize,
    /// Activation and exponential tables.
    pub tables_bytes: usize,
    /// The time path if every projection were a table; absent where the caller gives a class vector.
    pub time_as_tables_bytes: Option<usize>,
    /// The time path if the projections were layers.
    pub time_as_layers_bytes: usize,
    /// Whether the projections are layers.
    pub time_layers: bool,
    /// Arena length.
    pub arena_bytes: usize,
    /// No placement of the same operators needs less.
    pub arena_lower_bound_bytes: usize,
    /// The operator that needs most.
    pub peak: String,
    /// Multiply-adds of one network call, a full one.
    pub macs: u64,
    /// Multiply-adds of a call that reuses deep features, where there are such.
    pub shallow_macs: Option<u64>,
    /// Convolutions that microcontrollers do by Winograd's algorithm.
    pub winograd_convolutions: usize,
    /// Steps of each schedule, the default one first.
    pub steps: Vec<u16>,
    /// Activation tensors with 16 bits.
    pub wide_tensors: usize,
    /// Activation tensors with 8 bits.
    pub narrow_tensors: usize,
    /// Operators in execution order.
    pub layers: Vec<Layer>,
}

/// One operator's line.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// The parameter prefix in the checkpoint, or what it does.
    pub name: String,
    /// The device operator.
    pub op: &'static str,
    /// Output, `[h, w, c]`.
    pub shape: [u16; 3],
    /// Output type: `i8`, `i16` or `f32`.
    pub dtype: &'static str,
    /// Multiply-adds.
    pub macs: u64,
    /// Weight rows in the file.
    pub weights_bytes: usize,
    /// How each source's weights are written.
    pub weights: Vec<String>,
    /// Arena bytes alive during it, scratch included.
    pub live_bytes: usize,
}

impl Report {
    /// Gathers the numbers of a finished file.
    pub fn new(graph: &QuantGraph, fold: &TimeFold, plan: &Plan, packed: &Packed, schedules: &Schedules) -> Self {
        let size = |kind| graph.payload.sizes().get(&kind).copied().unwrap_or(0);
        let count = |dtype| graph.tensors.iter().filter(|tensor| tensor.dtype == dtype).count();
        let layers = plan.order.iter().zip(&plan.need_bytes).map(|(&index, &live)| layer(graph, index, live)).collect();
        Self {
            file_bytes: packed.bytes.len(),
            meta_bytes: packed.meta_bytes,
            weights_bytes: size(BlobKind::Weights),
            constants_bytes: size(BlobKind::Constants),
            time_bytes: size(BlobKind::Time),
            tables_bytes: size(BlobKind::Tables),
            time_as_tables_bytes: fold.tables_bytes,
            time_as_layers_bytes: fold.layers_bytes,
            time_layers: !matches!(fold.values, TimeValues::Tables(_)),
            arena_bytes: plan.arena_bytes,
            arena_lower_bound_bytes: plan.lower_bound_bytes,
            peak: graph.ops.get(plan.peak_op).map_or(String::new(), |op| op.name.clone()),
            macs: graph.macs(),
            shallow_macs: graph.reuse.as_ref().map(|_| graph.shallow_macs()),
            winograd_convolutions: graph.ops.iter().filter(|op| is_marked(&op.op)).count(),
            steps: schedules.schedules.iter().map(|schedule| schedule.steps).collect(),
            wide_tensors: count(DType::I16),
            narrow_tensors: count(DType::I8),
            layers,
        }
    }

    /// Refuses what does not fit, with the layer to blame and what would help.
    pub fn check_budgets(
        &self,
        ram_bytes: Option<usize>,
        flash_bytes: Option<usize>,
        level: Level,
        weights: WeightChoice,
    ) -> Result<()> {
        if let Some(budget) = ram_bytes.filter(|&budget| self.arena_bytes > budget) {
            let narrower = match level {
                Level::Int8 => "",
                Level::Edge | Level::Stream | Level::Norms => "quantize with `--activations int8`, or ",
            };
            // Cached features stay in the arena.
            let cached = if self.shallow_macs.is_some() { "leave `--cache-interval` out, or " } else { "" };
            let direct = if self.winograd_convolutions > 0 { "leave `--winograd on` out, or " } else { "" };
            return Err(miette!(
                help = format!(
                    "{narrower}{cached}{direct}use a smaller picture (`--size`) or narrower layers at the level of the peak; with these layers \
                     the arena cannot fall below {} bytes",
                    self.arena_lower_bound_bytes
                ),
                "the arena has {} bytes, {} more than --ram allows; the peak is {}",
                self.arena_bytes,
                self.arena_bytes - budget,
                self.peak
            ));
        }
        if let Some(budget) = flash_bytes.filter(|&budget| self.file_bytes > budget) {
            let smaller = match weights {
                WeightChoice::Int8 => "give some or all of the weights 4 bits with `--weights auto`, ",
                WeightChoice::Int4 | WeightChoice::Auto => "the weights have 4 bits already; ",
            };
            let largest = self.layers.iter().max_by_key(|layer| layer.weights_bytes);
            return Err(miette!(
                help = format!(
                    "{smaller}use narrower layers, or offer fewer numbers of steps: the weights are {} bytes, the time path {} bytes",
                    self.weights_bytes, self.time_bytes
                ),
                "the file has {} bytes, {} more than --flash allows; the largest layer is {}",
                self.file_bytes,
                self.file_bytes - budget,
                largest.map_or(String::new(), |layer| format!("{} ({} bytes)", layer.name, layer.weights_bytes))
            ));
        }
        Ok(())
    }
}

/// What a network call is called.
pub fn call_name(shallow: bool) -> &'static str {
    if shallow { "shallow" } else { "full" }
}

fn layer(graph: &QuantGraph, index: usize, live_bytes: usize) -> Layer {
    let op = &graph.ops[index];
    let out = graph.tensor(op.op.out());
    let weights = graph.weights(&op.op);
    Layer {
        name: op.name.clone(),
        op: mote::op_name(&op.op),
        shape: [out.h, out.w, out.c],
        dtype: mote::dtype_name(out.dtype),
        macs: graph.op_macs(&op.op),
        weights: weights.iter().flatten().map(|weights| mote::encoding_name(weights.encoding)).collect(),
        weights_bytes: weights.iter().flatten().map(|weights| weights.len_bytes()).sum(),
        live_bytes,
    }
}
