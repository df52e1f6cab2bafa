//! Geometry that converter and runtime share: what an operator costs and what it reads.

use crate::format::op::{Attention, Conv, EmbedAdd, EmbedLookup, NormApply, NormStats, Op};
use crate::format::tensor::{NONE, Tensor};

/// Rows or columns that a convolution's kernel window begins at: `index·stride − pad`, which may be negative.
#[inline(always)]
pub const fn window_start(index: usize, stride: usize, pad: usize) -> isize {
    (index * stride) as isize - pad as isize
}

/// Output length of a convolution along one axis, 0 where the window does not fit.
pub const fn conv_len(input: usize, kernel: usize, stride: usize, pad_before: usize, pad_after: usize) -> usize {
    let padded = input + pad_before + pad_after;
    if padded < kernel || stride == 0 { 0 } else { (padded - kernel) / stride + 1 }
}

/// Where tensor records come from: a file in the runtime, a plan in the converter.
pub trait Tensors {
    /// The tensor's record.
    fn tensor(&self, id: u16) -> Tensor;
}

/// Output rows of an operator, the unit in which a poll splits it.
///
/// Image rows for operators over images; statistics count the input's rows.
pub fn op_rows(op: &Op, tensors: &impl Tensors) -> usize {
    match *op {
        Op::NormStats(NormStats { sources: [first, _], .. }) => tensors.tensor(first).h as usize,
        Op::Quantize { out, .. } | Op::AvgPool { out, .. } | Op::Upsample { out, .. } => tensors.tensor(out).h as usize,
        Op::Conv(Conv { out, .. }) | Op::NormApply(NormApply { out, .. }) | Op::Attention(Attention { out, .. }) => {
            tensors.tensor(out).h as usize
        }
        Op::EmbedLookup(EmbedLookup { .. }) | Op::EmbedAdd(EmbedAdd { .. }) => 1,
    }
}

/// Multiply-adds of one output row; an element of a pointwise operator counts as one.
pub fn row_macs(op: &Op, tensors: &impl Tensors) -> u32 {
    let elems = |id: u16| if id == NONE { 0 } else { tensors.tensor(id).row_elems() as u64 };
    let macs = match *op {
        Op::Conv(Conv { sources, out, kernel: [kh, kw], .. }) => {
            let out = tensors.tensor(out);
            let in_c: u64 = sources.iter().filter(|&&id| id != NONE).map(|&id| tensors.tensor(id).c as u64).sum();
            out.row_elems() as u64 * in_c * kh as u64 * kw as u64
        }
        Op::Attention(Attention { out, .. }) => {
            let out = tensors.tensor(out);
            2 * out.row_elems() as u64 * out.h as u64 * out.w as u64
        }
        Op::NormStats(NormStats { sources: [a, b], .. }) => elems(a) + elems(b),
        Op::Quantize { out, .. } | Op::AvgPool { out, .. } | Op::Upsample { out, .. } => elems(out),
        Op::NormApply(NormApply { out, .. }) => elems(out),
        Op::EmbedLookup(EmbedLookup { out, .. }) | Op::EmbedAdd(EmbedAdd { out, .. }) => elems(out),
    };
    macs.min(u32::MAX as u64) as u32
}

/// Multiply-adds of the whole operator.
pub fn op_macs(op: &Op, tensors: &impl Tensors) -> u64 {
    row_macs(op, tensors) as u64 * op_rows(op, tensors) as u64
}
