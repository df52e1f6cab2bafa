//! Which operator of the file makes which tensor of the float graph.
//!
//! The file has no names. But tensor records are written in the order in which the graph was lowered (the operators'
//! own order is the planner's), so operators sorted by the tensor that they write follow the float graph, once those
//! without a counterpart are left out: statistics of norms, and the time path. Kinds and shapes are checked all along,
//! so a file of another network is an error rather than nonsense.

use miette::{Result, miette};
use mote_runtime::Model;
use mote_runtime::format::op::Op as DeviceOp;
use mote_runtime::format::{DType, Tensor};

use crate::arch::Network;
use crate::graph::{Op, TensorId};
use crate::report::mote::{dtype_name, encoding_name};

/// The pairs of operators.
#[derive(Clone, Debug)]
pub struct Layers {
    pairs: Vec<Pair>,
    /// By operator of the file: index into `pairs`.
    of_op: Vec<Option<usize>>,
    /// By tensor of the graph: index into `pairs`.
    of_tensor: Vec<Option<usize>>,
    output: usize,
}

#[derive(Clone, Debug)]
struct Pair {
    name: String,
    tensor: Tensor,
    weights: Vec<String>,
}

/// A layer, in words.
#[derive(Clone, Debug)]
pub struct Description {
    /// The tensor's name in the graph.
    pub name: String,
    /// `[h, w, c]` of its output.
    pub shape: [usize; 3],
    /// Output type.
    pub dtype: &'static str,
    /// How the weights of each source are written.
    pub weights: Vec<String>,
}

impl Layers {
    /// Pairs the file's operators with the network's.
    pub fn new(network: &Network, model: &Model) -> Result<Self> {
        let graph = &network.graph;
        let other = |what: String| {
            miette!(
                help = "compare a file with the checkpoint that it was made of, and at the same `--size`",
                "the file was not made of this checkpoint: {what}"
            )
        };
        // What the float graph makes, in order: the input as the network reads it, then each operator's output.
        let mut wanted: Vec<(TensorId, &str)> = vec![(graph.input, "quantize")];
        wanted.extend(graph.ops.iter().map(|op| (op.out(), kind(op))));

        // Graph 0 is the whole network.
        let whole = model.graph(0);
        let mut ops: Vec<(usize, DeviceOp)> = (0..model.op_count())
            .filter_map(|nth| model.op_index(&whole, nth))
            .filter_map(|index| Some((index, model.op(index)?.op)))
            .collect();
        ops.sort_by_key(|(_, op)| op.out());
        let embedding = ops.iter().find(|(_, op)| matches!(op, DeviceOp::EmbedLookup(_) | DeviceOp::EmbedAdd(_)));
        let embedding = embedding.map(|(_, op)| op.out());
        let is_projection = |op: &DeviceOp| matches!(op, DeviceOp::Conv(conv) if Some(conv.sources[0]) == embedding);
        ops.retain(|(_, op)| device_kind(op).is_some() && !is_projection(op));
        if ops.len() != wanted.len() {
            return Err(other(format!("it has {} operators where the network has {}", ops.len(), wanted.len())));
        }

        let mut layers = Self {
            pairs: Vec::new(),
            of_op: vec![None; model.op_count()],
            of_tensor: vec![None; graph.tensors.len()],
            output: 0,
        };
        for ((id, want), (index, op)) in wanted.into_iter().zip(ops) {
            let (info, tensor) = (&graph.tensors[id], model.tensor(op.out()));
            let have = [tensor.h, tensor.w, tensor.c].map(usize::from);
            if device_kind(&op) != Some(want) || have != [info.h, info.w, info.c] {
                let have = format!("a {} of {have:?}", device_kind(&op).unwrap_or("operator"));
                return Err(other(format!("at {} it has {have}", info.name)));
            }
            layers.of_op[index] = Some(layers.pairs.len());
            layers.of_tensor[id] = Some(layers.pairs.len());
            let name = if want == "quantize" { "the network's input".to_owned() } else { info.name.clone() };
            let weights = match op {
                DeviceOp::Conv(conv) => conv.weights.iter().filter_map(|&id| model.weights(id)).collect(),
                _ => Vec::new(),
            };
            let weights = weights.iter().map(|weights| encoding_name(weights.encoding)).collect();
            layers.pairs.push(Pair { name, tensor, weights });
        }
        layers.output = layers.of_tensor[graph.output].unwrap_or(0);
        Ok(layers)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none, which no network is.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pair that makes the network's output.
    pub fn output(&self) -> usize {
        self.output
    }

    /// The pair of an operator of the file, if it has one.
    pub fn of_op(&self, index: usize) -> Option<usize> {
        self.of_op.get(index).copied().flatten()
    }

    /// The pair of a tensor of the graph.
    pub fn of_tensor(&self, id: TensorId) -> Option<usize> {
        self.of_tensor.get(id).copied().flatten()
    }

    /// What a pair is, for reports.
    pub fn describe(&self, index: usize) -> Description {
        let Pair { name, tensor, weights } = &self.pairs[index];
        Description {
            name: name.clone(),
            shape: [tensor.h, tensor.w, tensor.c].map(usize::from),
            dtype: dtype_name(tensor.dtype),
            weights: weights.clone(),
        }
    }

    /// The real values of a pair's tensor in the arena, at a row of all schedules.
    pub fn values(&self, index: usize, model: &Model, arena: &[u8], row: usize) -> Vec<f32> {
        let tensor = &self.pairs[index].tensor;
        let bytes = arena.get(tensor.range()).unwrap_or_default();
        let quant = model.quant(tensor, row);
        let value = |q: i32| quant.scale * (q - i32::from(quant.zero_point)) as f32;
        match tensor.dtype {
            DType::I8 => bytes.iter().map(|&b| value(i32::from(b as i8))).collect(),
            DType::I16 => bytes.chunks_exact(2).map(|b| value(i32::from(i16::from_le_bytes([b[0], b[1]])))).collect(),
            DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        }
    }
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Conv2d(_) => "conv",
        Op::GroupNorm(_) => "norm",
        Op::Attention(_) => "attention",
        Op::AvgPool { .. } => "avg_pool",
        Op::Upsample { .. } => "upsample",
    }
}

/// `None` for what the float graph does not have.
fn device_kind(op: &DeviceOp) -> Option<&'static str> {
    match op {
        DeviceOp::Quantize { .. } => Some("quantize"),
        DeviceOp::Conv(_) => Some("conv"),
        DeviceOp::NormApply(_) => Some("norm"),
        DeviceOp::Attention(_) => Some("attention"),
        DeviceOp::AvgPool { .. } => Some("avg_pool"),
        DeviceOp::Upsample { .. } => Some("upsample"),
        DeviceOp::NormStats(_) | DeviceOp::EmbedLookup(_) | DeviceOp::EmbedAdd(_) => None,
    }
}
