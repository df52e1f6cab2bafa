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
use crate::shape::row_macs;
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
    let mut live_end = record.live_end as usize;
    let mut conv = |i: usize| {
        let record = if leads + i == 0 { *record } else { model.op(model.op_index(graph, nth + leads + i)?)? };
        let Op::Conv(op) = record.op else { return None };
        live_end = live_end.max(record.live_end as usize);
        is_pointwise(ctx, &op).then_some(op)
    };
    let Some(first) = conv(0) else { return 0 };
    let tensors = first.sources.map(|id| model.tensor(id));
    let out = model.tensor(first.out);
    let residual = model.tensor(first.residual);
    let is_alike = |op: &Conv| {
        let other = model.tensor(op.out);
        op.sources == first.sources && op.residual == NONE && [other.h, other.w, other.c] == [out.h, out.w, out.c]
    };
    let alone = first.residual != NONE || first.sources[1] != NONE;
    let all = match (alone, leads) {
        (true, 0) => return 0,
        (true, _) => [Some(first), None, None],
        (false, _) => match [conv(1), conv(2)] {
            [Some(second), Some(third)] if is_alike(&second) && is_alike(&third) => {
                [Some(first), Some(second), Some(third)]
            }
            _ if leads == 0 => return 0,
            _ => [Some(first), None, None],
        },
    };
    let count = all.iter().flatten().count();
    let byte_rows = bytes::rows(ctx, &first, &tensors, &out, &residual);
    let [in_c, out_c, pixels] = [tensors[0].c, out.c, out.h * out.w].map(usize::from);
    let by_columns = columns(ctx.kernels, &first, [in_c, out_c, pixels], false).is_some_and(|unit| unit < out_c);
    let rows = 0..out.h as usize;
    let lead_out = if leads > 0 { model.tensor(record.op.out()) } else { model.tensor(NONE) };
    let macs = count * row_macs(&Op::Conv(first), model) as usize
        + if let Op::Attention(_) = record.op { row_macs(&record.op, model) as usize } else { 0 };
    let cost = Cost { work: rows.len() * macs / 64, set_up: false };
    let as_high = leads == 0 || [lead_out.h, lead_out.w] == [out.h, out.w] && lead_out.dtype == DType::I8;
    if byte_rows == 0 || by_columns || !as_high || !ctx.workers.pay(cost) {
        return 0;
    }

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
    let outs = all.map(|op| op.map_or(model.tensor(NONE), |op| model.tensor(op.out)));
    let [a, b, c, lead_bytes, first_out, second_out, third_out, input, second_input, added, scratch] = pieces(arena, {
        let [a, b, c] = read;
        let [first_out, second_out, third_out] = outs.map(|out| out.range());
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
    let constants = all.map(|op| {
        let constants: &mut [i32] = cast_mut(take_front(&mut scratch, constants_len));
        if let Some(op) = op {
            let per_source = constants.len() / if op.sources[1] == NONE { 1 } else { 2 };
            prepare_conv(ctx, &op, &tensors, &model.tensor(op.out), &[], constants, per_source, ctx.kernels.offset);
        }
        &*constants
    });
    let (input, second_input, added) = (&*input, &*second_input, &*added);
    let row_bytes = |tensor: &Tensor| tensor.row_elems();
    let [first_bytes, second_bytes, third_bytes] = outs.map(|out| out.row_elems());
    let others = [
        (second_out, second_bytes),
        (third_out, third_bytes),
        (lead_bytes, if leads > 0 { row_bytes(&lead_out) } else { 0 }),
    ];
    let done = over_rows_of(
        ctx,
        rows,
        ((first_out, first_bytes), others),
        lens[1],
        cost,
        |rows, first_out, others, scratch| {
            let [second_out, third_out, lead_bytes] = others;
            lead.run(ctx, rows.clone(), &mut *lead_bytes, scratch);
            // These rows as a picture of their own.
            let of_rows = |tensor: Tensor| Tensor { h: rows.len() as u16, ..tensor };
            let tensors = tensors.map(of_rows);
            let elems = [
                if behind { &*lead_bytes } else { rows_of(input, tensors[0].row_elems(), rows.clone()) },
                rows_of(second_input, tensors[1].row_elems(), rows.clone()),
            ];
            let added = rows_of(added, residual.row_elems(), rows.clone());
            for (((op, out), constants), bytes) in
                all.iter().zip(outs).zip(constants).zip([first_out, second_out, third_out])
            {
                let Some(op) = op else { break };
                let out = of_rows(out);
                let finish = Finish::new(ctx, op, [&out, &residual], constants, (op.residual != NONE).then_some(added));
                let codes = op.weights.map(|id| cast(model.weight_rows(id, 0)));
                let channels = [0, out.c as usize];
                bytes::run(ctx, op, &tensors, elems, codes, byte_rows, &finish, 0..rows.len(), channels, bytes);
            }
        },
    );
    if done { leads + count } else { 0 }
}

/// Pointwise, from bytes to bytes, with nothing added but its bias and perhaps a residual.
fn is_pointwise<const OPS: OpSet>(ctx: &Context<'_, OPS>, op: &Conv) -> bool {
    let [input, second, out, residual] =
        [op.sources[0], op.sources[1], op.out, op.residual].map(|id| ctx.model.tensor(id));
    let is_direct = |input: &Tensor| is_direct(op, input, &out);
    let plain = op.modulation == Modulation::None && !op.weights.iter().any(|&id| ctx.model.is_packed(id));
    let linked = links(OPS, opset::CONV_I8) && (links(OPS, opset::CONV_TWO) || op.sources[1] == NONE);
    let bytes = out.dtype == DType::I8 && (op.residual == NONE || residual.dtype == DType::I8);
    plain && linked && bytes && is_direct(&input) && (op.sources[1] == NONE || is_direct(&second))
}
