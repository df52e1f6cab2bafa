//! The operators: one file each, safe code over the kernel table.
//!
//! [`run_rows`] runs a range of an operator's output rows, so that a poll can stop between rows. Constants that depend
//! on the step's scales are prepared with the first row and stay in the operator's scratch until the last.

mod attention;
mod attention_blocks;
mod bytes;
mod conv;
mod embed;
mod norm;
mod parts;
mod quantize;
mod resize;
#[cfg(feature = "std")]
pub mod together;
mod upsampled;
mod window;
mod winograd;

#[cfg(feature = "std")]
pub(crate) use parts::Cost;
pub use parts::Workers;

use crate::format::Op;
use crate::kernels::Kernels;
use crate::model::Model;
use crate::opset::{self, OpSet, links};
use core::ops::Range;

/// What an operator needs to know besides its record.
#[derive(Clone, Copy, Debug)]
pub struct Context<'m, const OPS: OpSet = { opset::ALL }> {
    /// The model.
    pub model: &'m Model<'m, OPS>,
    /// The kernels to run.
    pub kernels: &'static Kernels,
    /// Row of the schedules: selects the activations' scales and the embedding.
    pub row: usize,
    /// Class: selects the embedding.
    pub class: usize,
    /// Where the operators' rows run.
    pub workers: Workers<'m>,
}

/// Runs output rows `rows` of an operator (as [`op_rows`](crate::shape::op_rows) counts them).
///
/// The rows of an operator are run in order from 0, and nothing else touches the arena in between; scratch begins at
/// `live_end`.
// `advance` is the one caller in a program; apart from it this one's frame would lie above its own.
#[inline(always)]
pub fn run_rows<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &Op,
    live_end: usize,
    rows: Range<usize>,
) {
    match op {
        Op::Quantize { input, out, mul, add } => quantize::run(ctx, arena, [*input, *out], [*mul, *add], rows),
        Op::Conv(op) => conv::run(ctx, arena, op, live_end, rows),
        Op::NormStats(op) if links(OPS, opset::NORM) => norm::stats(ctx, arena, op, live_end, rows),
        Op::NormApply(op) if links(OPS, opset::NORM) => norm::apply(ctx, arena, op, live_end, rows),
        Op::Attention(op) if links(OPS, opset::ATTENTION) => attention::run(ctx, arena, op, live_end, rows),
        Op::AvgPool { input, out } if links(OPS, opset::AVG_POOL) => resize::avg_pool(ctx, arena, *input, *out, rows),
        Op::Upsample { input, out } if links(OPS, opset::UPSAMPLE) => resize::upsample(ctx, arena, *input, *out, rows),
        Op::EmbedLookup(op) if links(OPS, opset::EMBED_LOOKUP) => embed::lookup(ctx, arena, op),
        Op::EmbedAdd(op) if links(OPS, opset::EMBED_ADD) => embed::add(ctx, arena, op),
        // Not linked; `Model::with_ops` has refused such a file. Named one by one, so that a new operator is missed here.
        Op::NormStats(_) | Op::NormApply(_) | Op::Attention(_) | Op::AvgPool { .. } | Op::Upsample { .. } => {}
        Op::EmbedLookup(_) | Op::EmbedAdd(_) => {}
    }
}

/// The slice of image rows `rows` of a tensor's elements, `row_elems` each; empty where there are fewer.
fn rows_of<T>(elems: &[T], row_elems: usize, rows: Range<usize>) -> &[T] {
    elems.get(rows.start * row_elems..rows.end * row_elems).unwrap_or_default()
}

/// As [`rows_of`], to write.
fn rows_of_mut<T>(elems: &mut [T], row_elems: usize, rows: Range<usize>) -> &mut [T] {
    elems.get_mut(rows.start * row_elems..rows.end * row_elems).unwrap_or_default()
}

/// Copies as many elements as both have.
fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}
