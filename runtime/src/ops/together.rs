//! Three pointwise convolutions of one input, an attention's queries, keys and values, on several threads: one operator to them.
//!
//! Each is half a microsecond a thread, and handing it over a third of that: a step of a net of 250 M multiply-adds takes 0.992 of the time.

use super::conv::{Finish, columns, prepare};
use super::parts::{Cost, over_rows_of_three};
use super::{Context, bytes};
use crate::arena::{cast, cast_mut, pieces};
use crate::format::op::{Conv, Modulation, OpRecord};
use crate::format::{DType, Graph, NONE, Op};
use crate::kernels::scratch::{ConvScratch, is_direct};
use crate::opset::OpSet;
use crate::shape::row_macs;

/// Operators that run together.
pub const COUNT: usize = 3;

/// Runs `record`, operator `nth` of a graph, with the two behind it, where that pays; else does nothing.
pub fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    graph: &Graph,
    nth: usize,
    record: &OpRecord,
) -> bool {
    if !ctx.workers.are_some() || ctx.kernels.byte_kernels.is_none() {
        return false;
    }
    let model = ctx.model;
    let conv = |record: &OpRecord| match record.op {
        Op::Conv(op) if is_one_of_three(ctx, &op) => Some((op, record.live_end as usize)),
        _ => None,
    };
    let next = |n: usize| conv(&model.op(model.op_index(graph, nth + n)?)?);
    let Some((first, live_end)) = conv(record) else { return false };
    let (Some((second, second_end)), Some((third, third_end))) = (next(1), next(2)) else { return false };
    let ops = [first, second, third];
    let tensors = [model.tensor(first.sources[0]), model.tensor(NONE)];
    let outs = ops.map(|op| model.tensor(op.out));
    let [input, out] = [tensors[0], outs[0]];
    let alike = |op: &Conv| op.sources == first.sources;
    if !ops.iter().all(alike) || outs.iter().any(|other| [other.h, other.w, other.c] != [out.h, out.w, out.c]) {
        return false;
    }
    let byte_rows = bytes::rows(ctx, &first, &tensors, &out, &tensors[1]);
    let [in_c, out_c, pixels] = [input.c as usize, out.c as usize, out.h as usize * out.w as usize];
    // Where weights are more than the picture, each is better cut by its output channels.
    let by_rows = columns(ctx.kernels, &first, [in_c, out_c, pixels], false).is_none_or(|unit| unit >= out_c);
    let len = ConvScratch::constants(&first, &out).constants;
    let scratch = live_end.max(second_end).max(third_end);
    let at = |i: usize| scratch + i * len..scratch + (i + 1) * len;
    let [a, b, c] = outs.map(|out| out.range());
    // Nothing at all where two of them overlap, or the arena ends.
    let [elems, a, b, c, constants @ ..] = pieces(arena, [input.range(), a, b, c, at(0), at(1), at(2)]);
    if byte_rows == 0 || !by_rows || elems.is_empty() {
        return false;
    }
    let mut all = constants.map(cast_mut::<i32>);
    for ((op, out), constants) in ops.iter().zip(&outs).zip(&mut all) {
        let per_source = constants.len();
        prepare(ctx, op, &tensors, out, &[], constants, per_source, ctx.kernels.offset);
    }
    let (elems, all) = (&*elems, all.map(|constants| &*constants));
    let rows = 0..out.h as usize;
    let cost = Cost { work: COUNT * rows.len() * row_macs(&Op::Conv(first), model) as usize / 64, set_up: true };
    over_rows_of_three(ctx, rows, ([a, b, c], out.row_elems()), cost, |rows, pieces| {
        for (((op, out), constants), piece) in ops.iter().zip(&outs).zip(all).zip(pieces) {
            let codes = [cast(model.weight_rows(op.weights[0], 0)), &[]];
            let finish = Finish::plain(ctx, out, constants);
            let channels = [0, out_c];
            bytes::run(ctx, op, &tensors, [elems, &[]], codes, byte_rows, &finish, rows.clone(), channels, piece);
        }
    })
}

/// Pointwise, from bytes to bytes, with nothing added but its bias.
fn is_one_of_three<const OPS: OpSet>(ctx: &Context<'_, OPS>, op: &Conv) -> bool {
    let [input, out] = [op.sources[0], op.out].map(|id| ctx.model.tensor(id));
    let alone = op.sources[1] == NONE && op.residual == NONE && op.modulation == Modulation::None;
    alone && is_direct(op, &input, &out) && out.dtype == DType::I8 && !ctx.model.is_packed(op.weights[0])
}
