//! `EmbedLookup` and `EmbedAdd`: the activated time and class embedding of this step.
//!
//! Neither a sinusoid nor the time MLP runs here: the converter has run them, for each step (and class).

use super::Context;
use crate::arena::{cast, cast_mut, pieces};
use crate::format::op::{EmbedAdd, EmbedLookup, Table};
use crate::opset::OpSet;
use crate::quant::round_to_i32;

/// Copies the vector of (row, class) from the payload.
pub(super) fn lookup<const OPS: OpSet>(ctx: &Context<'_, OPS>, arena: &mut [u8], op: &EmbedLookup) {
    let out = ctx.model.tensor(op.out);
    let index = ctx.row * (ctx.model.classes() as usize).max(1) + ctx.class;
    let offset = op.table.saturating_add((index * out.len_bytes()) as u32);
    let [to] = pieces(arena, [out.range()]);
    super::copy(cast_mut(to), ctx.model.shorts(offset, out.elems()));
}

/// `table[round((step + vector)/in_step)]`, element by element.
pub(super) fn add<const OPS: OpSet>(ctx: &Context<'_, OPS>, arena: &mut [u8], op: &EmbedAdd) {
    const HALF: i32 = Table::LEN as i32 / 2;
    let (vector, out) = (ctx.model.tensor(op.vector), ctx.model.tensor(op.out));
    let dim = out.elems();
    let steps = ctx.model.floats(op.steps.saturating_add((ctx.row * dim * 4) as u32), dim);
    let table = ctx.model.table(&op.table);
    let [vector, to] = pieces(arena, [vector.range(), out.range()]);
    let to: &mut [i16] = cast_mut(to);
    for ((q, &step), &given) in to.iter_mut().zip(steps).zip(cast::<f32>(vector)) {
        let index = round_to_i32((step + given) / op.table.in_step).clamp(-HALF, HALF - 1);
        *q = table.get((index + HALF) as usize).copied().unwrap_or(0);
    }
}
