//! `Attention`: softmax(Q·Kᵀ·scale)·V for each head, in integers.
//!
//! Vaswani et al., arXiv:1706.03762, equation 1, with the maximum of the row subtracted. Queries have zero point 0, so
//! the keys' zero point only adds a constant to a row of scores, which softmax does not see. The distance below the
//! maximum, in 1/256 nat, indexes two 64-entry tables: `exp(−(64·i + j)/256) = T₁[i]·T₂[j]`. The weights stay
//! unnormalised (15 bits, fewer for more than 256 positions, so that a sum of products fits i32), and one division a row
//! gives the multiplier of the output.
//!
//! One query at a time; [`attention_blocks`](super::attention_blocks) takes many, for hosts, and where a table has all of it as a kernel
//! ([`Kernels::attend`](crate::kernels::Kernels::attend)), this file prepares that.

use super::parts::{Cost, over_rows};
use super::{Context, attention_blocks};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::{self, Op};
use crate::kernels::scalar::attend;
use crate::kernels::scratch::{AttendScratch, AttentionScratch, BlockScratch};
use crate::kernels::{Attention, Exponential, select};
use crate::opset::OpSet;
use crate::quant::{exp2_neg, multiplier, shift_for};
use crate::shape::row_macs;
use core::ops::Range;

/// Whether this core has room for blocks of queries, known when it is compiled.
const BLOCKS: bool = select::TILING.score_bytes() > 0;

pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &op::Attention,
    live_end: usize,
    rows: Range<usize>,
) {
    let model = ctx.model;
    let [q, k, v] = op.qkv.map(|id| model.tensor(id));
    let out = model.tensor(op.out);
    let (c, positions) = (out.c as usize, out.h as usize * out.w as usize);
    let parts = AttentionScratch::new(op, &out);
    let blocks = BlockScratch::new(op, &out, select::TILING);
    let lanes = AttendScratch::new(op, &out);
    let scratch_len = match () {
        () if select::TILING.attends() => lanes.packed + lanes.block,
        () if BLOCKS => blocks.len_bytes(),
        () => parts.scores + parts.accumulators,
    };
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
    let mut attention = Attention {
        c,
        heads: op.heads as usize,
        positions,
        elems: [cast(q_bytes), cast(k_bytes), cast(v_bytes)],
        packed: &[],
        exponential,
        quants: [vs, outs],
    };

    let work = rows.len() * row_macs(&Op::Attention(*op), model) as usize / 64;
    let cost = Cost { work, set_up: false };
    if BLOCKS {
        return attention_blocks::run(ctx, &attention, &blocks, rows, out_rows, scratch, cost);
    }
    let mut scratch = scratch;
    if select::TILING.attends() {
        let packed: &mut [i32] = cast_mut(take_front(&mut scratch, lanes.packed));
        let [_, k, v] = attention.elems;
        if rows.start == 0 {
            (ctx.kernels.attend_pack)(packed, [k, v], [c, op.heads as usize]);
        }
        attention.packed = packed;
    }
    over_rows(ctx, rows, (out_rows, row_elems), scratch, cost, |rows, out_bytes, scratch| {
        if select::TILING.attends() {
            let [q, k, v] = attention.elems;
            let q = q.get(rows.start * row_elems..rows.end * row_elems).unwrap_or_default();
            let some = Attention { elems: [q, k, v], ..attention };
            (ctx.kernels.attend)(cast_mut(out_bytes), cast_mut(scratch), some);
        } else {
            attend(cast_mut(out_bytes), cast_mut(scratch), &attention, rows.start * out.w as usize, ctx.kernels);
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
