//! Which activation tensors are 16 bits wide.
//!
//! The residual stream adds up rounding errors over the whole depth and carries the skip connections, so it gains most
//! from 16 bits; what a norm writes is normalised and loses least in 8. A policy is only a set of tensors, so that a
//! search can drive it.
//!
//! Voids the promise: nothing; tensors whose operators take 8 bits only stay 8 bits whatever is asked.

use mote_runtime::format::DType;

use crate::graph::{Graph, Op, TensorId};

/// Group elements up to which a group norm's sums of squares of 16-bit values are exact.
const WIDE_GROUP_ELEMS_MAX: usize = 1 << 16;

/// A choice of element types, from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// 8 bits everywhere.
    Int8,
    /// The network's input and the residual stream in 16 bits: what is added to, or skipped to a later block.
    Stream,
    /// Every convolution's output that a norm reads, too.
    Norms,
}

impl Level {
    /// From the widest to the narrowest.
    pub const ALL: [Level; 3] = [Level::Norms, Level::Stream, Level::Int8];
}

/// The element type of each tensor of the graph (the input's is that of its quantized copy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precision {
    dtypes: Vec<DType>,
}

impl Precision {
    /// The tensors of a level.
    pub fn level(graph: &Graph, level: Level) -> Self {
        let mut wanted = vec![false; graph.tensors.len()];
        let mut readers = vec![0; graph.tensors.len()];
        if level >= Level::Stream {
            wanted[graph.input] = true;
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
        Self { dtypes: wide.iter().enumerate().map(dtype).collect() }
    }

    /// The type of a tensor.
    pub fn dtype(&self, id: TensorId) -> DType {
        self.dtypes[id]
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
