//! `NormStats` and `NormApply`: group norm in two operators, because the second needs the whole of the first.
//!
//! Wu and He, *Group Normalization*, arXiv:1803.08494, equations 1, 2 and 7. Statistics are exact integers, N, Σq and
//! N·Σq² − (Σq)² (u64), for each group and source: a group may straddle the border of a skip concatenation whose halves
//! have unlike scales. The parts merge in written-order f32 by Chan, Golub and LeVeque, *Updating Formulae and a Pairwise
//! Algorithm for Computing Sample Variances* (1979), equation 2.1. Application is one multiply-add an element, fused
//! with the requantization to a table's index.
//!
//! The offset is centred on the mean *after* the multiplier was held within its range, so that a group without any
//! variance (σ = √eps) gives β and not a saturated difference.

use super::parts::{Cost, over_rows};
use super::{Context, rows_of, rows_of_mut};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::{Modulation, NormApply, NormStats};
use crate::format::{DType, NONE, Tensor};
use crate::kernels::constants::{GroupSource, NormSource, Part};
use crate::kernels::scalar;
use crate::kernels::scratch::{GROUP_SUM_BYTES, NormScratch, align};
use crate::kernels::{NormConstants, select};
use crate::opset::{self, OpSet, links};
use crate::quant::multiplier;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

/// Parts of the rows that are summed apart.
const PARTS: usize = select::TILING.norm_parts();

/// Where the second source lies; empty where it is the first once more (a tensor joined with itself, which a U-Net
/// without a middle does).
fn second_range(ids: [u16; 2], tensors: &[Tensor; 2]) -> Range<usize> {
    if ids[0] == ids[1] { 0..0 } else { tensors[1].range() }
}

/// The channels of a source that belong to group `group`, counted in the source.
fn part_of(group: usize, group_c: usize, source_first: usize, source_c: usize) -> Range<usize> {
    // `max` and `min`, because `clamp` would bring a panic for ends in the wrong order.
    let inside = |channel: usize| channel.max(source_first).min(source_first + source_c);
    let (first, end) = (inside(group * group_c), inside((group + 1) * group_c));
    first - source_first..end - source_first
}

pub(super) fn stats<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &NormStats,
    live_end: usize,
    rows: Range<usize>,
) {
    let sources = [ctx.model.tensor(op.sources[0]), ctx.model.tensor(op.sources[1])];
    let out = ctx.model.tensor(op.out);
    let groups = (op.groups as usize).max(1);
    let group_c = (sources[0].c as usize + sources[1].c as usize) / groups;
    let part_bytes = align(2 * groups * GROUP_SUM_BYTES);
    let scratch = live_end..live_end + PARTS * part_bytes;
    let [first, second, out_bytes, scratch] =
        pieces(arena, [sources[0].range(), second_range(op.sources, &sources), out.range(), scratch]);
    let second = if op.sources[0] == op.sources[1] { &*first } else { &*second };
    // Σq and Σq² of every group's channels in the first source, then in the second; those of some rows in each part.
    let sums_len = groups * op.sources.iter().filter(|&&id| id != NONE).count();
    if rows.start == 0 {
        let len = if PARTS > 1 { part_bytes } else { scratch.len() };
        scratch.get_mut(..len).unwrap_or_default().fill(0);
    }
    let (first, last) = (&*first, rows.end == sources[0].h as usize);
    // A host's vectors add several elements in the time that others take for one.
    let work = rows.len() * (sources[0].row_elems() + sources[1].row_elems()) / 16;
    let cost = Cost { work, set_up: false };
    // Which parts have sums of their own.
    let begun = [const { AtomicBool::new(false) }; PARTS];
    let begin = |part: usize| rows.start + rows.len() * part / PARTS;
    over_rows(ctx, 0..PARTS, (&mut *scratch, part_bytes), &mut [], cost, |parts, sums, _| {
        let rows = begin(parts.start)..begin(parts.end);
        if PARTS > 1 && parts.start > 0 {
            sums.get_mut(..part_bytes).unwrap_or_default().fill(0);
            begun.get(parts.start).into_iter().for_each(|begun| begun.store(true, Ordering::Relaxed));
        }
        // All that is summed at once is in the first of its parts.
        let mut sums = cast_mut::<u64>(sums).as_chunks_mut().0;
        let mut sum = 0;
        while sum < sums_len {
            let of_first = sum < groups;
            let (tensor, bytes) = if of_first { (&sources[0], first) } else { (&sources[1], second) };
            let (c, source_first) = (tensor.c as usize, if of_first { 0 } else { sources[0].c as usize });
            let part = part_of(if of_first { sum } else { sum - groups }, group_c, source_first, c);
            // Groups that lie in a source as a whole are one pass over its pixels.
            let whole = if part.len() == group_c { (c - part.start) / group_c.max(1) } else { 1 };
            let Some(totals) = sums.split_off_mut(..whole.min(sums_len - sum).max(1)) else { return };
            sum += totals.len();
            if part.is_empty() {
                continue;
            }
            if links(OPS, opset::NORM_I16) && tensor.dtype == DType::I16 {
                let elems = rows_of(cast(bytes), tensor.row_elems(), rows.clone());
                (ctx.kernels.sums_i16)(totals, elems, c, part.start, part.len());
            } else {
                let elems = rows_of(cast(bytes), tensor.row_elems(), rows.clone());
                (ctx.kernels.sums_i8)(totals, elems, c, part.start, part.len());
            }
        }
    });
    if PARTS > 1 {
        let (sums, others) = scratch.split_at_mut_checked(part_bytes).unwrap_or_default();
        let others = others.chunks_exact(sums.len().max(1)).zip(begun.iter().skip(1));
        for (other, _) in others.filter(|(_, begun)| begun.load(Ordering::Relaxed)) {
            let sums = cast_mut::<u64>(sums).iter_mut().zip(cast::<u64>(other));
            sums.for_each(|(sum, &more)| *sum = sum.wrapping_add(more));
        }
    }
    if !last {
        return;
    }
    let scratch = cast_mut::<u64>(scratch);
    let (firsts, seconds) = scratch.as_chunks().0.split_at_checked(groups).unwrap_or_default();
    let one = |group: usize, out: &mut [f32; 2], sums: [&[u64; 2]; 2]| {
        let mut whole: Option<Part> = None;
        let mut source_first = 0;
        for (tensor, &[sum, squares]) in sources.iter().zip(sums) {
            let part = part_of(group, group_c, source_first, tensor.c as usize);
            source_first += tensor.c as usize;
            if !part.is_empty() {
                let n = (tensor.h as usize * tensor.w as usize * part.len()) as u64;
                let quant = ctx.model.quant(tensor, ctx.row);
                let part = Part::new(n, sum as i64, squares, quant.scale, quant.zero_point as f32);
                whole = Some(whole.map_or(part, |whole| whole.merge(part)));
            }
        }
        if let Some(whole) = whole {
            *out = whole.stats(op.eps);
        }
    };
    let out = cast_mut(out_bytes).as_chunks_mut().0;
    let mut groups = out.iter_mut().zip(firsts.iter().zip(seconds)).enumerate();
    if !select::TILING.is_host() || group_c == 0 {
        return groups.for_each(|(group, (out, (first, second)))| one(group, out, [first, second]));
    }
    // Those that lie in one source, side by side, and perhaps one that does not.
    let (first_c, len) = (sources[0].c as usize, firsts.len());
    let (end, begin) = ((first_c / group_c).min(len), first_c.div_ceil(group_c).min(len));
    if let Some((group, (out, (first, second)))) = groups.nth(end).filter(|_| end < begin) {
        one(group, out, [first, second]);
    }
    for ((tensor, sums), some) in sources.iter().zip([firsts, seconds]).zip([0..end, begin..len]) {
        let (Some(out), Some(sums)) = (out.get_mut(some.clone()), sums.get(some)) else { continue };
        if !out.is_empty() {
            let quant = ctx.model.quant(tensor, ctx.row);
            let n = (tensor.h as usize * tensor.w as usize * group_c) as u64;
            let source = GroupSource { n, scale: quant.scale, zero_point: quant.zero_point as f32, eps: op.eps };
            (ctx.kernels.group_stats)(out, sums, source);
        }
    }
}

pub(super) fn apply<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &NormApply,
    live_end: usize,
    rows: Range<usize>,
) {
    let model = ctx.model;
    let sources = [model.tensor(op.sources[0]), model.tensor(op.sources[1])];
    let out = model.tensor(op.out);
    let c = out.c as usize;
    let parts = NormScratch::new(op, &sources[0], &out, select::TILING);
    let in_place = links(OPS, opset::NORM_IN_PLACE) && parts.copy != 0;
    let [first, second, stats, modulation, out_bytes, mut scratch] = pieces(
        arena,
        [
            if in_place { 0..0 } else { sources[0].range() },
            second_range(op.sources, &sources),
            model.tensor(op.stats).range(),
            model.tensor(op.modulation.tensor()).range(),
            out.range(),
            live_end..live_end + parts.len_bytes(),
        ],
    );
    let second = if op.sources[0] == op.sources[1] { &*first } else { &*second };
    let constants: &mut [i32] = cast_mut(take_front(&mut scratch, parts.constants));
    let (multipliers, rest) = constants.split_at_mut_checked(c).unwrap_or_default();
    let (offsets, _) = rest.split_at_mut_checked(c).unwrap_or_default();
    let quant = model.quant(&out, ctx.row);
    let table = op.table.map_or(&[] as &[i16], |table| model.table(&table));
    let out_multiplier = op.table.map_or(0, |table| multiplier(table.out_step / quant.scale));
    let results: &mut [i8] = cast_mut(take_front(&mut scratch, parts.table));
    if rows.start == 0 {
        // First, because the statistics are not there yet, and nothing else can be done before.
        for make in ctx.kernels.norm_table.iter().filter(|_| op.table.is_some()) {
            make(results, table, out_multiplier, quant.zero_point as i32);
        }
        let in_step = op.table.map_or(quant.scale, |table| table.in_step);
        prepare(ctx, op, &sources, [cast(stats), cast(modulation)], in_step, multipliers, offsets);
    }
    let (first, multipliers, offsets, results) = (&*first, &*multipliers, &*offsets, &*results);
    let out_rows = out_bytes.get_mut(rows.start * out.row_elems()..rows.end * out.row_elems()).unwrap_or_default();
    // 4 KB take half a microsecond: on two threads longer.
    let cost = Cost { work: out_rows.len() / 4, set_up: false };
    over_rows(ctx, rows, (out_rows, out.row_elems()), scratch, cost, |rows, out_bytes, scratch| {
        let copy_of_rows: &mut [i8] = cast_mut(scratch);
        let mut source_first = 0;
        for (tensor, bytes) in sources.iter().zip([first, second]) {
            let source_c = tensor.c as usize;
            let channels = source_first..source_first + source_c;
            let k = NormConstants {
                multiplier: multipliers.get(channels.clone()).unwrap_or_default(),
                offset: offsets.get(channels).unwrap_or_default(),
                zero_point: model.quant(tensor, ctx.row).zero_point as i32,
                table,
                results: [results; _],
                out_multiplier,
                out_zero_point: quant.zero_point as i32,
            };
            // All rows at once; in place some at a time, from a copy.
            let mut y = rows.start;
            while y < rows.end {
                let some = y..if in_place { rows.end.min(y + parts.rows) } else { rows.end };
                y = some.end;
                let to = rows_of_mut(
                    cast_mut(&mut *out_bytes),
                    out.row_elems(),
                    some.start - rows.start..some.end - rows.start,
                );
                if in_place {
                    super::copy(copy_of_rows, to);
                }
                let to_len = to.len();
                let to = to.get_mut(source_first..).unwrap_or_default();
                if links(OPS, opset::NORM_I16) && tensor.dtype == DType::I16 {
                    (ctx.kernels.norm_i16)(to, c, rows_of(cast(bytes), tensor.row_elems(), some), source_c, k);
                } else {
                    let from = if in_place {
                        copy_of_rows.get(..to_len).unwrap_or_default()
                    } else {
                        rows_of(cast(bytes), tensor.row_elems(), some)
                    };
                    (ctx.kernels.norm_i8)(to, c, from, source_c, k);
                }
            }
            source_first += source_c;
            if !links(OPS, opset::NORM_TWO) || op.sources[1] == NONE {
                break;
            }
        }
    });
}

/// The step's multiplier and offset of every channel.
fn prepare<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &NormApply,
    sources: &[Tensor; 2],
    [stats, given]: [&[f32]; 2],
    in_step: f32,
    multipliers: &mut [i32],
    offsets: &mut [i32],
) {
    let (model, c) = (ctx.model, multipliers.len());
    let (gammas, betas) = model.floats(op.affine, 2 * c).split_at_checked(c).unwrap_or_default();
    let table = model.modulation_table(op.modulation, ctx.row, ctx.class, 2 * c);
    let modulation = |i: usize| table.get(i).map_or_else(|| given.get(i).copied().unwrap_or(0.0), |x| x.to_f32());
    let group_c = (c / (op.groups as usize).max(1)).max(1);
    // A group's statistics wait where its channels' constants come, so that those are one loop without branches.
    let spread = if select::TILING.is_host() { ctx.kernels.spread } else { scalar::spread };
    spread([&mut *multipliers, &mut *offsets], stats.as_chunks().0, group_c);
    let mut first = 0;
    for tensor in sources {
        let source_c = tensor.c as usize;
        let channels = first..first + source_c;
        let multipliers = multipliers.get_mut(channels.clone()).unwrap_or_default();
        let offsets = offsets.get_mut(channels.clone()).unwrap_or_default();
        let dtype = if links(OPS, opset::NORM_I16) { tensor.dtype } else { DType::I8 };
        let source = NormSource { scale: model.quant(tensor, ctx.row).scale, dtype, in_step };
        if select::TILING.is_host() && op.modulation == Modulation::None {
            let affine = [gammas, betas].map(|x| x.get(channels.clone()).unwrap_or_default());
            (ctx.kernels.norm_constants)(source, [multipliers, offsets], affine);
        } else {
            let affine = gammas.iter().zip(betas).skip(first);
            for (((m, offset), (&gamma, &beta)), channel) in
                multipliers.iter_mut().zip(offsets).zip(affine).zip(first..)
            {
                let (mut weight, mut bias) = (gamma, beta);
                if links(OPS, opset::NORM_MODULATED) {
                    let factor = 1.0 + modulation(channel);
                    (weight, bias) = (gamma * factor, beta * factor + modulation(c + channel));
                }
                let stats = [*m, *offset].map(|x| f32::from_bits(x as u32));
                [*m, *offset] = source.channel(stats, [weight, bias]);
            }
        }
        first += source_c;
    }
}
