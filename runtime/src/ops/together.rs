//! Operators that follow each other and need no rows of one another but those that a thread has anyway, on several threads: one job to them.
//!
//! A norm's application, or an attention, and pointwise convolutions behind it, of its output or beside it; or three of those, an
//! attention's queries, keys and values. Each is half a microsecond or two a thread, and a hand-over a third of one. What a part has
//! written is in its cache when it goes on with it.

use super::attention::{attend_rows, prepare as prepare_attention};
use super::conv::{Finish, columns, prepare as prepare_conv};
use super::norm::{self, Apply};
use super::parts::{Cost, over_rows_of};
use super::{Context, bytes, rows_of};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::{Conv, Modulation, OpRecord};
use crate::format::{DType, Graph, NONE, Op, Tensor};
use crate::kernels::scratch::{AttendScratch, ConvScratch, NormScratch, is_direct};
use crate::kernels::{Attention, select};
use crate::opset::{self, OpSet, links};
use core::ops::Range;

/// Convolutions at most.
const CONVS: usize = 3;

/// What comes before them.
enum Lead<'a, const OPS: OpSet> {
    Nothing,
    Norm(Apply<'a, OPS>),
    Attention(Attention<'a>, usize),
}

impl<const OPS: OpSet> Lead<'_, OPS> {
    #[inline(always)]
    fn run(&self, ctx: &Context<'_, OPS>, rows: Range<usize>, out_bytes: &mut [u8], scratch: &mut [u8]) {
        match self {
            Lead::Nothing => {}
            Lead::Norm(apply) => apply.run(rows, out_bytes, scratch),
            Lead::Attention(attention, row_elems) => {
                attend_rows(ctx, attention, rows, *row_elems, out_bytes, scratch);
            }
        }
    }
}

/// Runs `record`, operator `nth` of a graph, with those behind it, where that pays; returns how many it has run, perhaps none.
pub fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    graph: &Graph,
    nth: usize,
    record: &OpRecord,
) -> usize {
    let leads = usize::from(matches!(record.op, Op::NormApply(_) | Op::Attention(_)));
    if !select::TILING.attends() || !ctx.workers.are_some() || leads == 0 && !matches!(record.op, Op::Conv(_)) {
        return 0;
    }
    let model = ctx.model;
    let next = |i: usize| match i + leads {
        0 => Some(*record),
        i => model.op(model.op_index(graph, nth + i)?),
    };
    let conv = |i: usize| match next(i) {
        Some(OpRecord { op: Op::Conv(op), live_end }) if op.kernel == [1, 1] && op.modulation == Modulation::None => {
            Some((op, live_end as usize))
        }
        _ => None,
    };
    let Some((first, first_end)) = conv(0) else { return 0 };
    let (mut ops, mut count, mut live_end) = ([first; CONVS], 1, first_end.max(record.live_end as usize));
    if first.residual == NONE && first.sources[1] == NONE {
        let alike = |op: &Conv| op.sources == first.sources && op.residual == NONE;
        if let Some((second, second_end)) = conv(1).filter(|(op, _)| alike(op))
            && let Some((third, third_end)) = conv(2).filter(|(op, _)| alike(op))
        {
            (ops, count, live_end) = ([first, second, third], CONVS, live_end.max(second_end).max(third_end));
        }
    }
    if leads + count < 2 {
        return 0;
    }
    let some = || ops.iter().take(count);
    let [tensors, [out, residual]] =
        [first.sources, [first.out, first.residual]].map(|ids| ids.map(|id| model.tensor(id)));
    let lead_out = if leads > 0 { model.tensor(record.op.out()) } else { model.tensor(NONE) };
    let size = |tensor: &Tensor| [tensor.h, tensor.w, tensor.c, tensor.dtype as u16];
    let outs = ops.map(|op| model.tensor(op.out));
    let pointwise = outs.iter().all(|other| size(other) == size(&out))
        && some().all(|op| is_pointwise(ctx, op, &tensors, &out, &residual))
        && (leads == 0 || [lead_out.h, lead_out.w] == [out.h, out.w] && lead_out.dtype == DType::I8);
    let byte_rows = bytes::rows(ctx, &first, &tensors, &out, &residual);
    let [in_c, out_c, w, h] = [tensors[0].c + tensors[1].c, out.c, out.w, out.h].map(usize::from);
    let by_columns = columns(ctx.kernels, &first, [in_c, out_c, w * h], false).is_some_and(|unit| unit < out_c);
    let cost = Cost { work: count * in_c * out_c * w * h / 64, set_up: false };
    if !pointwise || byte_rows == 0 || by_columns || !ctx.workers.pay(cost) {
        return 0;
    }
    let rows = 0..h;

    // A norm's constants first, because what they are made of may lie where a convolution writes.
    let lens = match &record.op {
        Op::NormApply(op) => {
            let parts = NormScratch::new(op, &model.tensor(op.sources[0]), &lead_out, select::TILING);
            norm::constants(ctx, arena, op, &lead_out, live_end..live_end + parts.constants);
            [parts.constants, parts.copy]
        }
        Op::Attention(op) => {
            let parts = AttendScratch::new(op, &lead_out);
            [parts.packed, parts.block]
        }
        _ => [0; 2],
    };
    let constants_len = ConvScratch::constants(&first, &out).constants;
    let scratch = live_end..live_end + lens[0] + CONVS * constants_len;
    let in_place = matches!(record.op, Op::NormApply(_)) && lens[1] > 0;
    let read = match &record.op {
        Op::NormApply(op) => {
            let sources = op.sources.map(|id| model.tensor(id));
            [if in_place { 0..0 } else { sources[0].range() }, norm::second_range(op.sources, &sources), 0..0]
        }
        Op::Attention(op) => op.qkv.map(|id| model.tensor(id).range()),
        _ => [const { 0..0 }; 3],
    };
    let behind = leads > 0 && first.sources[0] == record.op.out();
    let [a, b, c, lead_bytes, first_out, second_out, third_out, input, second_input, added, scratch] = pieces(arena, {
        let [a, b, c] = read;
        let of = |i: usize, out: &Tensor| if i < count { out.range() } else { 0..0 };
        let [first_out, second_out, third_out] = [of(0, &outs[0]), of(1, &outs[1]), of(2, &outs[2])];
        let residual = if residual.offset == out.offset { 0..0 } else { residual.range() };
        let input = if behind { 0..0 } else { tensors[0].range() };
        [a, b, c, lead_out.range(), first_out, second_out, third_out, input, tensors[1].range(), residual, scratch]
    });
    // Two of them overlap, or the arena ends.
    if first_out.is_empty() {
        return 0;
    }
    let mut scratch = scratch;
    let of_lead = take_front(&mut scratch, lens[0]);
    let lead = match &record.op {
        Op::NormApply(op) => {
            let constants: &[i32] = cast(of_lead);
            let (multipliers, offsets) = constants.split_at_checked(lead_out.c as usize).unwrap_or_default();
            let copied_rows = NormScratch::new(op, &model.tensor(op.sources[0]), &lead_out, select::TILING).rows;
            Lead::Norm(Apply {
                ctx,
                op,
                sources: op.sources.map(|id| model.tensor(id)),
                out: lead_out,
                copied_rows: if in_place { copied_rows } else { 0 },
                elems: [&*a, if op.sources[0] == op.sources[1] { &*a } else { &*b }],
                constants: [multipliers, offsets],
            })
        }
        Op::Attention(op) => {
            let tensors = op.qkv.map(|id| model.tensor(id));
            let attention = prepare_attention(ctx, op, [tensors[0], tensors[1], tensors[2], lead_out], [&*a, &*b, &*c]);
            let packed: &mut [i32] = cast_mut(of_lead);
            let [_, k, v] = attention.elems;
            (ctx.kernels.attend_pack)(packed, [k, v], [lead_out.c as usize, op.heads as usize]);
            Lead::Attention(Attention { packed, ..attention }, lead_out.row_elems())
        }
        _ => Lead::Nothing,
    };
    let mut constants: [&[i32]; CONVS] = [&[]; CONVS];
    for ((op, out), constants) in some().zip(&outs).zip(&mut constants) {
        let all: &mut [i32] = cast_mut(take_front(&mut scratch, constants_len));
        let per_source = all.len() / if op.sources[1] == NONE { 1 } else { 2 };
        prepare_conv(ctx, op, &tensors, out, &[], all, per_source, ctx.kernels.offset);
        *constants = all;
    }
    let (input, second_input, added) = (&*input, &*second_input, &*added);
    let row_bytes = out.row_elems();
    let others = if count > 1 { row_bytes } else { 0 };
    let others = [(second_out, others), (third_out, others), (lead_bytes, lead_out.row_elems() * leads)];
    let added = (first.residual != NONE).then_some(&*added);
    let finish = |i: usize| Finish::new(ctx, &ops[i], [&outs[i], &residual], constants[i], added);
    let finishes = [finish(0), finish(1), finish(2)];
    let outputs = ((first_out, row_bytes), others);
    let done = over_rows_of(ctx, rows, outputs, lens[1], cost, |rows, first_out, others, scratch| {
        let [second_out, third_out, lead_bytes] = others;
        lead.run(ctx, rows.clone(), &mut *lead_bytes, scratch);
        // These rows as a picture of their own.
        let of_rows = |tensor: &Tensor| Tensor { h: rows.len() as u16, ..*tensor };
        let (tensors, out) = ([of_rows(&tensors[0]), of_rows(&tensors[1])], of_rows(&out));
        let elems = [
            if behind { &*lead_bytes } else { rows_of(input, tensors[0].row_elems(), rows.clone()) },
            rows_of(second_input, tensors[1].row_elems(), rows.clone()),
        ];
        let added = added.map(|added| rows_of(added, residual.row_elems(), rows.clone()));
        for ((op, finish), bytes) in some().zip(&finishes).zip([first_out, second_out, third_out]) {
            let codes = op.weights.map(|id| cast(model.weight_rows(id, 0)));
            let (finish, channels) = (finish.of(&out, added), [0, out_c]);
            bytes::run(ctx, op, &tensors, elems, codes, byte_rows, &finish, 0..rows.len(), channels, bytes);
        }
    });
    if done { leads + count } else { 0 }
}

/// Pointwise, of whole bytes, with nothing added but its bias and perhaps a residual.
#[inline(always)]
fn is_pointwise<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    [first, second]: &[Tensor; 2],
    out: &Tensor,
    residual: &Tensor,
) -> bool {
    let two = op.sources[1] != NONE;
    let whole = !op.weights.iter().any(|&id| ctx.model.is_packed(id));
    let bytes = out.dtype == DType::I8 && (op.residual == NONE || residual.dtype == DType::I8);
    let linked = links(OPS, opset::CONV_I8) && (links(OPS, opset::CONV_TWO) || !two);
    whole && bytes && linked && is_direct(op, first, out) && (!two || is_direct(op, second, out))
}
