//! Quantization: the f32 graph and its calibrated ranges become the integer graph of the device.
//!
//! `ranges` → scales, `solve` → the weights' integers (kept in `solutions`, written by `weights`), `tables` and `time` → payload
//! blobs, `precision` says how many bits a tensor and a layer have, `lower` puts them together, operator by operator. What
//! comes out has every constant; only places in the arena and in the file are open.

mod lower;
pub mod payload;
pub mod precision;
pub mod ranges;
pub mod solutions;
pub mod solve;
mod tables;
pub mod time;
pub mod weights;

use mote_runtime::format::op::Op;
use mote_runtime::format::schedule::HISTORY;
use mote_runtime::format::{Quant, Tensor, Weights};
use mote_runtime::shape::Tensors;

use crate::calibrate::RangeMethod;
use crate::graph::TensorId;

pub use lower::{LowerOptions, lower};
pub use payload::{BlobKind, Payload};
pub use precision::{Layer, Level, Precision, WeightWidth};
pub use solutions::Solutions;

/// What is done to lose less than plain rounding does. The default is what measurement kept; an ablation changes one at a
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Techniques {
    /// Weights are solved for the layer's real inputs ([`solve`]) instead of rounded to the nearest.
    pub least_squares: bool,
    /// What rounding takes from a channel's mean is given back by its bias.
    pub bias_correction: bool,
    /// Elements of a group of int4 weights, at most; 0 for one scale a row.
    pub group_elems: usize,
    /// How activation ranges are made of what calibration saw.
    pub ranges: RangeMethod,
    /// An activation's scale belongs to a step, else to all of them.
    pub per_step: bool,
}

impl Default for Techniques {
    fn default() -> Self {
        Self {
            least_squares: true,
            bias_correction: false,
            group_elems: 16,
            ranges: RangeMethod::MeanSquare,
            per_step: true,
        }
    }
}

/// The integer graph. Payload offsets in operators and weight records count from the payload's start.
#[derive(Clone, Debug)]
pub struct QuantGraph {
    /// Tensor records whose offsets are still 0.
    pub tensors: Vec<Tensor>,
    /// Their names, for people.
    pub names: Vec<String>,
    /// The float graph's tensor of each, where there is one.
    pub origins: Vec<Option<TensorId>>,
    /// Quantization records, which the tensors index.
    pub quants: Vec<Quant>,
    /// Weight records.
    pub weights: Vec<Weights>,
    /// Operators in execution order.
    pub ops: Vec<QuantOp>,
    /// Weight blobs and tables.
    pub payload: Payload,
    /// x_t.
    pub input: u16,
    /// The model's output.
    pub output: u16,
    /// The caller's class embedding, or `NONE`.
    pub class_embedding: u16,
    /// Keeps the unconditional output for guidance, or `NONE`.
    pub uncond: u16,
    /// Keep earlier rows' values, or `NONE`.
    pub history: [u16; HISTORY],
    /// What shallow rows skip, where there are such.
    pub reuse: Option<QuantReuse>,
}

/// [`graph::Reuse`](crate::graph::Reuse) on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantReuse {
    /// The operators that shallow rows skip, by place: no order of operators changes which places these are. The last one
    /// writes the cached tensor.
    pub deep: std::ops::Range<usize>,
    /// The cached tensor.
    pub cached: u16,
    /// That of the null class's calls, or `NONE` where there is no guidance.
    pub null_cached: u16,
}

/// An operator with its name.
#[derive(Clone, Debug)]
pub struct QuantOp {
    /// The parameter prefix in the checkpoint, or what it does.
    pub name: String,
    /// The operator.
    pub op: Op,
}

impl QuantGraph {
    /// Tensors that outlive operators: the sampler reads and writes them between network calls. Of the cached ones it is the
    /// null class's, which lives while the other call runs.
    pub fn kept(&self) -> impl Iterator<Item = u16> {
        let null_cached = self.reuse.as_ref().map(|reuse| reuse.null_cached);
        let kept = [self.input, self.class_embedding, self.uncond].into_iter().chain(self.history).chain(null_cached);
        kept.filter(|&id| id != mote_runtime::format::NONE)
    }

    /// The weight records of an operator's sources.
    pub fn weights(&self, op: &Op) -> [Option<&Weights>; 2] {
        match op {
            Op::Conv(conv) => conv.weights.map(|id| self.weights.get(usize::from(id))),
            _ => [None; 2],
        }
    }

    /// Multiply-adds of one network call, a full one.
    pub fn macs(&self) -> u64 {
        self.ops.iter().map(|op| self.op_macs(&op.op)).sum()
    }

    /// Multiply-adds of a shallow call.
    pub fn shallow_macs(&self) -> u64 {
        let deep = self.reuse.as_ref().map_or(0..0, |reuse| reuse.deep.clone());
        self.macs() - self.ops[deep].iter().map(|op| self.op_macs(&op.op)).sum::<u64>()
    }

    /// Multiply-adds of an operator; operators other than convolution and attention count their elements in the
    /// runtime's poll budget, but they multiply little, so they count nothing here.
    pub fn op_macs(&self, op: &Op) -> u64 {
        match op {
            Op::Conv(_) | Op::Attention(_) => mote_runtime::shape::op_macs(op, self),
            _ => 0,
        }
    }
}

impl Tensors for QuantGraph {
    fn tensor(&self, id: u16) -> Tensor {
        const ABSENT: Tensor = Tensor {
            h: 0,
            w: 0,
            c: 0,
            dtype: mote_runtime::format::DType::I8,
            carried: false,
            per_step: false,
            offset: 0,
            quant: 0,
        };
        self.tensors.get(usize::from(id)).copied().unwrap_or(ABSENT)
    }
}
