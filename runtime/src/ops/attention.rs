//! `Attention`: softmax(Q·Kᵀ·scale)·V for each head, in integers.
//!
//! Vaswani et al., arXiv:1706.03762, equation 1, with the maximum of the row subtracted. Queries have zero point 0, so
//! the keys' zero point only adds a constant to a row of scores, which softmax does not see. The distance below the
//! maximum, in 1/256 nat, indexes two 64-entry tables: `exp(−(64·i + j)/256) = T₁[i]·T₂[j]`. The weights stay
//! unnormalised (15 bits, fewer for more than 256 positions, so that a sum of products fits i32), and one division a row
//! gives the multiplier of the output.
//!
//! This file takes one query at a time; [`attention_blocks`](super::attention_blocks) takes many, for hosts.

use super::parts::{Cost, over_rows};
use super::{Context, attention_blocks};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::Quant;
use crate::format::op::{Attention, Op};
use crate::kernels::scratch::{AttentionScratch, BlockScratch};
use crate::kernels::{Exponential, Strided, select};
use crate::opset::OpSet;
use crate::quant::{exp2_neg, mul_round, multiplier, shift_for, shl_saturating};
use crate::shape::row_macs;
use core::ops::Range;

/// Whether this core has room for blocks of queries, known when it is compiled.
const BLOCKS: bool = select::TILING.score_bytes() > 0;

/// What is computed from what.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Channels of all heads.
    pub c: usize,
    pub heads: usize,
    /// Channels of one.
    pub head_dim: usize,
    /// Pixels.
    pub positions: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Queries, keys and values.
    pub elems: [&'a [i8]; 3],
    pub exponential: Exponential<'a>,
    /// Of values and output.
    quants: [Quant; 2],
}

/// From a query's sum of weighted values to its output: `mul_round(shl_saturating(sum − zero, shift), multiplier)`.
pub(super) struct Factor {
    pub zero: i32,
    pub shift: u32,
    pub multiplier: i32,
}

impl Terms<'_> {
    /// For a query with these weights together.
    #[inline(always)]
    pub fn factor(&self, total: i32) -> Factor {
        let [values, out] = self.quants;
        let real = values.scale / (out.scale * total as f32);
        let shift = shift_for(real);
        let zero = total.wrapping_mul(values.zero_point as i32);
        Factor { zero, shift, multiplier: multiplier(real * exp2_neg(shift)) }
    }

    /// An output element.
    #[inline(always)]
    pub fn output(&self, value: i32) -> i8 {
        value.saturating_add(self.quants[1].zero_point as i32).clamp(-128, 127) as i8
    }
}

pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &Attention,
    live_end: usize,
    rows: Range<usize>,
) {
    let model = ctx.model;
    let [q, k, v] = op.qkv.map(|id| model.tensor(id));
    let out = model.tensor(op.out);
    let (c, positions) = (out.c as usize, out.h as usize * out.w as usize);
    let head_dim = c / (op.heads as usize).max(1);
    let parts = AttentionScratch::new(op, &out);
    let blocks = BlockScratch::new(op, &out, select::TILING);
    let scratch_len = if BLOCKS { blocks.len_bytes() } else { parts.scores + parts.accumulators };
    let [q_bytes, k_bytes, v_bytes, out_bytes, scratch] =
        pieces(arena, [q.range(), k.range(), v.range(), out.range(), live_end..live_end + scratch_len]);
    let [qs, ks, vs, outs] = [q, k, v, out].map(|tensor| model.quant(&tensor, ctx.row));
    let row_elems = out.row_elems();
    let out_rows = out_bytes.get_mut(rows.start * row_elems..rows.end * row_elems).unwrap_or_default();
    let (coarse, fine) = model.shorts(op.exp_table, 128).split_at_checked(64).unwrap_or_default();
    let index_real = qs.scale * ks.scale * op.scale * 256.0;
    let shift = shift_for(index_real);
    let exponential = Exponential {
        shift,
        multiplier: multiplier(index_real * exp2_neg(shift)),
        coarse: bytemuck::cast_slice(coarse),
        fine: bytemuck::cast_slice(fine),
        right: 15 + exp_shift(positions),
    };
    let terms = Terms {
        c,
        heads: op.heads as usize,
        head_dim,
        positions,
        width: out.w as usize,
        elems: [cast(q_bytes), cast(k_bytes), cast(v_bytes)],
        exponential,
        quants: [vs, outs],
    };

    let work = rows.len() * row_macs(&Op::Attention(*op), model) as usize / 64;
    let cost = Cost { work, set_up: false };
    if BLOCKS {
        return attention_blocks::run(ctx, &terms, &blocks, rows, out_rows, scratch, cost);
    }
    let [q_elems, k_elems, v_elems] = terms.elems;
    over_rows(ctx, rows, (out_rows, row_elems), scratch, cost, |rows, out_bytes, mut scratch| {
        let scores: &mut [i32] = cast_mut(take_front(&mut scratch, parts.scores));
        let scores = scores.get_mut(..positions).unwrap_or_default();
        let acc: &mut [i32] = cast_mut(take_front(&mut scratch, parts.accumulators));
        let acc = acc.get_mut(..head_dim).unwrap_or_default();
        let out_elems: &mut [i8] = cast_mut(out_bytes);
        let first = rows.start * out.w as usize;
        for position in first..rows.end * out.w as usize {
            for head in 0..op.heads as usize {
                let channels = |position: usize| position * c + head * head_dim..position * c + (head + 1) * head_dim;
                let query = q_elems.get(channels(position)).unwrap_or_default();
                let keys = k_elems.get(head * head_dim..).unwrap_or_default();
                (ctx.kernels.dot_i8)(scores, query, Strided { elems: keys, stride: c });

                let total = (ctx.kernels.softmax)(scores, exponential);
                let values = v_elems.get(head * head_dim..).unwrap_or_default();
                (ctx.kernels.mix_i8)(acc, scores, Strided { elems: values, stride: c });

                let factor = terms.factor(total);
                let to = out_elems.get_mut(channels(position - first)).unwrap_or_default();
                for (to, &sum) in to.iter_mut().zip(&*acc) {
                    let shifted = shl_saturating(sum.wrapping_sub(factor.zero), factor.shift);
                    *to = terms.output(mul_round(shifted, factor.multiplier));
                }
            }
        }
    });
}

/// How far the weights are shifted right so that Σ weight·v stays in i32: Σ weight ≤ 2²³.
fn exp_shift(positions: usize) -> u32 {
    usize::BITS - positions.saturating_sub(1).max(255).leading_zeros() - 8
}

#[cfg(test)]
mod tests {
    #[test]
    fn weights_of_any_length_sum_within_23_bits() {
        for (positions, shift) in [(1, 0), (49, 0), (256, 0), (257, 1), (512, 1), (513, 2), (1024, 2), (4096, 4)] {
            assert_eq!(super::exp_shift(positions), shift, "{positions}");
            assert!((positions as u64) << (15 - shift) <= 1 << 23);
        }
    }
}
