//! Which activation tensors are 16 bits wide, and which layers' weights 4.
//!
//! The residual stream adds up rounding errors over the whole depth and carries the skip connections, so it gains most
//! from 16 bits; what a norm writes is normalised and loses least in 8. A policy is only a set of tensors, so that a
//! search can drive it.
//!
//! Voids the promise: nothing; tensors whose operators take 8 bits only stay 8 bits whatever is asked.

use std::collections::HashMap;

use mote_runtime::format::{DType, Encoding};

use crate::calibrate::RangeMethod;
use crate::graph::{Conv2d, ConvSource, Graph, Op, ProjectionId, TensorId};

/// A layer with less of the network's weights than this keeps 8 bits where others get 4. Those are the first and the last
/// convolution and the narrow ones at full size, which touch every pixel: `digits`' int4 file loses 4.3 dB without them
/// (`ablation`) and grows by 11 % with them. Half of this left its pictures, 5,000 of them, 11 % above float in Fréchet
/// distance; this leaves 6 %.
const SMALL_SHARE: f64 = 0.01;
/// Group elements up to which a group norm's sums of squares of 16-bit values are exact.
const WIDE_GROUP_ELEMS_MAX: usize = 1 << 16;

/// A choice of element types, from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// 8 bits everywhere.
    Int8,
    /// The network's input and what its first convolution writes in 16 bits: channels that differ most share a scale there,
    /// and the last block reads it almost directly.
    Edge,
    /// The network's input and the residual stream in 16 bits: what is added to, or skipped to a later block.
    Stream,
    /// Every convolution's output that a norm reads, too.
    Norms,
}

impl Level {
    /// From the widest to the narrowest.
    pub const ALL: [Level; 4] = [Level::Norms, Level::Stream, Level::Edge, Level::Int8];
}

/// How the weights of a layer are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightWidth {
    /// 8 bits, a scale an output channel.
    #[default]
    Int8,
    /// 4 bits, and an integer scale for each group of input channels of a tap.
    Int4,
}

impl WeightWidth {
    /// The encoding of a layer whose taps have `tap_elems` input channels; groups of at most `group_elems`, or one scale a
    /// row (0).
    pub fn encoding(self, tap_elems: usize, group_elems: usize) -> Encoding {
        match self {
            WeightWidth::Int8 => Encoding::I8,
            // A group lies within a tap, in whole blocks of four, where a tap is made of such.
            WeightWidth::Int4 => {
                let divides = |&len: &usize| tap_elems.is_multiple_of(len);
                let within = (1..=group_elems / 4).rev().map(|blocks| 4 * blocks).find(divides);
                Encoding::I4 { group_len: within.unwrap_or(group_elems) as u16 }
            }
        }
    }
}

/// A weight matrix of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// A convolution's, for one of its sources.
    Conv {
        /// The tensor that it writes.
        out: TensorId,
        /// The tensor that it reads.
        source: TensorId,
    },
    /// A projection of the time embedding.
    Projection(ProjectionId),
}

impl Layer {
    /// All of a graph; projections only where they are layers on the device.
    pub fn all(graph: &Graph, projections: bool) -> Vec<Layer> {
        let convs = graph.ops.iter().filter_map(|op| if let Op::Conv2d(conv) = op { Some(conv) } else { None });
        let of = |conv: &Conv2d| -> Vec<Layer> {
            let layer = |source: ConvSource| Layer::Conv { out: conv.out, source: source.tensor };
            joined(&conv.sources).into_iter().map(layer).collect()
        };
        let count = if projections { graph.projections.len() } else { 0 };
        convs.flat_map(of).chain((0..count).map(Layer::Projection)).collect()
    }

    /// Of some layers those whose weights are worth packing into 4 bits: not the first convolution, not the last, none
    /// with less than a hundredth of all weights.
    pub fn large(layers: &[Layer], graph: &Graph) -> Vec<Layer> {
        let weights = |layer: Layer| layer.matrix(graph).weight.len() as f64;
        let least = SMALL_SHARE * layers.iter().map(|&layer| weights(layer)).sum::<f64>();
        let is_edge =
            |layer: Layer| matches!(layer, Layer::Conv { out, source } if out == graph.output || source == graph.input);
        layers.iter().copied().filter(|&layer| !is_edge(layer) && weights(layer) >= least).collect()
    }

    /// Its name in the checkpoint.
    pub fn name(self, graph: &Graph) -> &str {
        match self {
            Layer::Conv { out, .. } => &graph.tensors[out].name,
            Layer::Projection(id) => &graph.projections[id].name,
        }
    }

    /// Its weights.
    pub fn matrix(self, graph: &Graph) -> Matrix {
        match self {
            Layer::Conv { out, source } => {
                let conv = graph.ops.iter().find_map(|op| match op {
                    Op::Conv2d(conv) if conv.out == out => Some(conv),
                    _ => None,
                });
                let Some(conv) = conv else { return Matrix::default() };
                let weight = joined(&conv.sources).into_iter().find(|s| s.tensor == source).map(|s| s.weight);
                let tap_elems = graph.tensors[source].c;
                let row_elems = conv.kernel[0] * conv.kernel[1] * tap_elems;
                Matrix { weight: weight.unwrap_or_default(), row_elems, tap_elems, factor: conv.out_scale }
            }
            Layer::Projection(id) => {
                let projection = &graph.projections[id];
                let row_elems = projection.weight.len() / projection.bias.len().max(1);
                let factor = graph.ops.iter().find_map(|op| match op {
                    Op::Conv2d(conv) if conv.time_bias == Some(id) => Some(conv.out_scale),
                    _ => None,
                });
                let weight = projection.weight.clone();
                Matrix { weight, row_elems, tap_elems: row_elems, factor: factor.unwrap_or(1.0) }
            }
        }
    }
}

/// A layer's weights in float.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// `[rows, row_elems]`.
    pub weight: Vec<f32>,
    /// Elements of a row.
    pub row_elems: usize,
    /// Input channels: elements of a tap.
    pub tap_elems: usize,
    /// The device's weights are these times this.
    pub factor: f32,
}

impl Matrix {
    /// Output channels.
    pub fn rows(&self) -> usize {
        self.weight.len() / self.row_elems.max(1)
    }
}

/// The sources, with those that read one tensor added up to one: a tensor that is joined with itself.
pub fn joined(sources: &[ConvSource]) -> Vec<ConvSource> {
    let mut joined: Vec<ConvSource> = Vec::new();
    for source in sources {
        match joined.iter_mut().find(|other| other.tensor == source.tensor) {
            Some(other) => other.weight.iter_mut().zip(&source.weight).for_each(|(sum, w)| *sum += w),
            None => joined.push(source.clone()),
        }
    }
    joined
}

/// The element type of each tensor of the graph (the input's is that of its quantized copy), and each layer's width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precision {
    dtypes: Vec<DType>,
    /// What is not here has 8 bits.
    widths: HashMap<Layer, WeightWidth>,
    /// How a tensor's range is chosen, where it is not as all others.
    ranges: HashMap<TensorId, RangeMethod>,
}

impl Precision {
    /// The tensors of a level.
    pub fn level(graph: &Graph, level: Level) -> Self {
        let mut wanted = vec![false; graph.tensors.len()];
        let mut readers = vec![0; graph.tensors.len()];
        if level >= Level::Edge {
            wanted[graph.input] = true;
            let first = graph.ops.iter().filter(|op| op.inputs().contains(&graph.input));
            first.for_each(|op| wanted[op.out()] = true);
        }
        if level >= Level::Stream {
            for op in &graph.ops {
                if let Op::Conv2d(conv) = op {
                    for id in conv.residual.into_iter().chain(conv.residual.map(|_| conv.out)) {
                        wanted[id] = true;
                    }
                }
                op.inputs().into_iter().for_each(|id| readers[id] += 1);
            }
            // What is read by two operators is a stream that forks (conv_in and the downsamplers' outputs).
            wanted.iter_mut().zip(&readers).for_each(|(wanted, &n)| *wanted |= n > 1);
        }
        if level >= Level::Norms {
            for op in &graph.ops {
                if let Op::GroupNorm(norm) = op {
                    norm.sources.iter().for_each(|&id| wanted[id] = true);
                }
            }
        }
        Self::of(graph, &wanted)
    }

    /// 16 bits for the `wanted` tensors that may have them.
    pub fn of(graph: &Graph, wanted: &[bool]) -> Self {
        let mut wide: Vec<bool> = may_be_wide(graph).iter().zip(wanted).map(|(may, want)| *may && *want).collect();
        // Pooling and upsampling copy codes: one type for the whole chain, the one of its source.
        for op in &graph.ops {
            if let Op::AvgPool { input, out } | Op::Upsample { input, out } = op {
                wide[*out] = wide[*input];
            }
        }
        let dtype = |(id, wide): (TensorId, &bool)| match (id == graph.output, wide) {
            (true, _) => DType::F32,
            (_, true) => DType::I16,
            (_, false) => DType::I8,
        };
        Self { dtypes: wide.iter().enumerate().map(dtype).collect(), widths: HashMap::new(), ranges: HashMap::new() }
    }

    /// The same activations, with these layers' weights in `width`.
    pub fn with_weights(&self, layers: &[Layer], width: WeightWidth) -> Self {
        let mut precision = self.clone();
        precision.widths.extend(layers.iter().map(|&layer| (layer, width)));
        precision
    }

    /// The same, with another choice of range for a tensor.
    pub fn with_range(&self, id: TensorId, method: RangeMethod) -> Self {
        let mut precision = self.clone();
        precision.ranges.insert(id, method);
        precision
    }

    /// How a tensor's range is chosen, where it is not as all others.
    pub fn ranges(&self, id: TensorId) -> Option<RangeMethod> {
        self.ranges.get(&id).copied()
    }

    /// The width of a layer's weights.
    pub fn width(&self, layer: Layer) -> WeightWidth {
        self.widths.get(&layer).copied().unwrap_or_default()
    }

    /// The type of a tensor.
    pub fn dtype(&self, id: TensorId) -> DType {
        self.dtypes[id]
    }

    /// Whether a tensor has 8 bits.
    pub fn is_narrow(&self, id: TensorId) -> bool {
        self.dtypes[id] == DType::I8
    }

    /// How many tensors are 16 bits wide.
    pub fn wide(&self) -> usize {
        self.dtypes.iter().filter(|&&dtype| dtype == DType::I16).count()
    }
}

/// Made by a convolution (or the input), not read by attention, and no group of a norm that reads it too large.
fn may_be_wide(graph: &Graph) -> Vec<bool> {
    let mut may = vec![false; graph.tensors.len()];
    may[graph.input] = true;
    for op in &graph.ops {
        match op {
            Op::Conv2d(conv) => may[conv.out] = true,
            Op::AvgPool { input, out } | Op::Upsample { input, out } => may[*out] = may[*input],
            Op::GroupNorm(_) | Op::Attention(_) => {}
        }
    }
    // From the end, so that a pooled tensor's limits reach its source.
    for op in graph.ops.iter().rev() {
        match op {
            Op::Attention(attention) => attention.qkv.iter().for_each(|&id| may[id] = false),
            Op::GroupNorm(norm) => {
                let shape = &graph.tensors[norm.out];
                if shape.elems() / norm.groups.max(1) > WIDE_GROUP_ELEMS_MAX {
                    norm.sources.iter().for_each(|&id| may[id] = false);
                }
            }
            Op::AvgPool { input, out } | Op::Upsample { input, out } => may[*input] &= may[*out],
            Op::Conv2d(_) => {}
        }
    }
    may
}
