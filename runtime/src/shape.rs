//! Geometry that converter and runtime share: what an operator costs and what it reads.

use crate::format::op::{Attention, Conv, EmbedAdd, EmbedLookup, NormApply, NormStats, Op};
use crate::format::tensor::{DType, NONE, Tensor};

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

/// Whether Winograd's algorithm can do a convolution: 3×3, stride 1, padded by one, of one 8-bit source, channels in fours, at least
/// three pixels wide.
pub const fn winograd_fits(op: &Conv, input: &Tensor, out: &Tensor) -> bool {
    let shape = op.kernel[0] == 3 && op.kernel[1] == 3 && op.stride == 1 && op.pad[0] == 1 && op.pad[1] == 1;
    let single = op.sources[1] == NONE && matches!(input.dtype, DType::I8);
    let up = op.upsample as u32;
    let same = out.h as u32 == (input.h as u32) << up && out.w as u32 == (input.w as u32) << up;
    // Two tiles of two pixels in a row, at least.
    let wide = out.w > 2;
    // Sums are four times those of the direct convolution until the last addition: 4·127·128·9·in_c stays in 31 bits.
    let small = input.c.is_multiple_of(4) && out.c.is_multiple_of(4) && input.c <= 3_072;
    shape && single && same && wide && small
}

/// Where tensor records come from: a file in the runtime, a plan in the converter.
pub trait Tensors {
    /// The tensor's record.
    fn tensor(&self, id: u16) -> Tensor;
}

/// Output rows of an operator, the unit in which a poll splits it.
///
/// Image rows for operators over images, pairs of them where Winograd's algorithm makes two at a time; statistics count the
/// input's rows.
#[cfg_attr(not(target_os = "none"), inline(always))]
pub fn op_rows(op: &Op, tensors: &impl Tensors) -> usize {
    match *op {
        Op::NormStats(NormStats { sources: [first, _], .. }) => tensors.tensor(first).h as usize,
        Op::Quantize { out, .. } | Op::AvgPool { out, .. } | Op::Upsample { out, .. } => tensors.tensor(out).h as usize,
        Op::Conv(Conv { out, winograd: true, .. }) => (tensors.tensor(out).h as usize).div_ceil(2),
        Op::Conv(Conv { out, .. }) | Op::NormApply(NormApply { out, .. }) | Op::Attention(Attention { out, .. }) => {
            tensors.tensor(out).h as usize
        }
        Op::EmbedLookup(EmbedLookup { .. }) | Op::EmbedAdd(EmbedAdd { .. }) => 1,
    }
}

/// Multiply-adds of one output row (as [`op_rows`] counts them), direct ones; an element of a pointwise operator counts as one.
pub fn row_macs(op: &Op, tensors: &impl Tensors) -> u32 {
    let elems = |id: u16| if id == NONE { 0 } else { tensors.tensor(id).row_elems() as u64 };
    let macs = match *op {
        Op::Conv(Conv { sources, out, kernel: [kh, kw], winograd, .. }) => {
            let out = tensors.tensor(out);
            let in_c: u64 = sources.iter().filter(|&&id| id != NONE).map(|&id| tensors.tensor(id).c as u64).sum();
            let rows = if winograd { 2 } else { 1 };
            rows * out.row_elems() as u64 * in_c * kh as u64 * kw as u64
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
    match *op {
        // A last row alone is no pair.
        Op::Conv(conv @ Conv { winograd: true, .. }) => op_macs(&Op::Conv(Conv { winograd: false, ..conv }), tensors),
        _ => row_macs(op, tensors) as u64 * op_rows(op, tensors) as u64,
    }
}
