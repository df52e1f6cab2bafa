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

use super::{Context, rows_of, rows_of_mut};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::{NormApply, NormStats};
use crate::format::{DType, NONE, Tensor};
use crate::kernels::NormConstants;
use crate::kernels::scratch::{GROUP_SUM_BYTES, NormScratch, align};
use crate::quant::{NORM_FRACTION_BITS, element_shift, exp2_neg, multiplier, round_to_i32};
use core::ops::Range;

/// The part of a group that lies in one source.
#[derive(Clone, Copy)]
struct Part {
    n: f32,
    mean: f32,
    /// Sum of squared deviations.
    m2: f32,
}

impl Part {
    /// From exact integers; mean and deviations in real units.
    fn new(n: u64, sum: i64, squares: u64, scale: f32, zero_point: f32) -> Part {
        let count = n as f32;
        let deviation = n.wrapping_mul(squares).wrapping_sub(sum.wrapping_mul(sum) as u64);
        Part {
            n: count,
            mean: scale * (sum as f32 / count - zero_point),
            m2: scale * scale * (deviation as f32 / count),
        }
    }

    /// Chan et al., equation 2.1.
    fn merge(self, other: Part) -> Part {
        let n = self.n + other.n;
        let delta = other.mean - self.mean;
        Part {
            n,
            mean: self.mean + delta * (other.n / n),
            m2: self.m2 + other.m2 + delta * delta * (self.n * (other.n / n)),
        }
    }
}

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

pub(super) fn stats(ctx: &Context<'_>, arena: &mut [u8], op: &NormStats, live_end: usize, rows: Range<usize>) {
    let sources = op.sources.map(|id| ctx.model.tensor(id));
    let out = ctx.model.tensor(op.out);
    let groups = (op.groups as usize).max(1);
    let group_c = (sources[0].c as usize + sources[1].c as usize) / groups;
    let scratch = live_end..live_end + align(groups * GROUP_SUM_BYTES);
    let [first, second, out_bytes, scratch] =
        pieces(arena, [sources[0].range(), second_range(op.sources, &sources), out.range(), scratch]);
    let second = if op.sources[0] == op.sources[1] { &*first } else { &*second };
    // Per group: Σq and Σq² of the first source, then of the second.
    let sums: &mut [u64] = cast_mut(scratch);
    if rows.start == 0 {
        sums.fill(0);
    }
    let last = rows.end == sources[0].h as usize;
    let mut source_first = 0;
    for (k, (tensor, bytes)) in sources.iter().zip([&*first, second]).enumerate() {
        let c = tensor.c as usize;
        for (group, sums) in sums.chunks_exact_mut(4).take(groups).enumerate() {
            let part = part_of(group, group_c, source_first, c);
            if part.is_empty() {
                continue;
            }
            let sums_of = match tensor.dtype {
                DType::I8 => (ctx.kernels.sums_i8)(
                    rows_of(cast(bytes), tensor.row_elems(), rows.clone()),
                    c,
                    part.start,
                    part.len(),
                ),
                DType::I16 => (ctx.kernels.sums_i16)(
                    rows_of(cast(bytes), tensor.row_elems(), rows.clone()),
                    c,
                    part.start,
                    part.len(),
                ),
                DType::F32 => (0, 0),
            };
            if let Some([sum, squares]) = sums.get_mut(2 * k..2 * k + 2) {
                *sum = sum.wrapping_add(sums_of.0 as u64);
                *squares = squares.wrapping_add(sums_of.1);
            }
        }
        source_first += c;
    }
    if !last {
        return;
    }
    let quants = sources.map(|tensor| ctx.model.quant(&tensor, ctx.row));
    let out: &mut [f32] = cast_mut(out_bytes);
    for (group, (sums, out)) in sums.chunks_exact(4).zip(out.chunks_exact_mut(2)).enumerate() {
        let mut whole: Option<Part> = None;
        let mut source_first = 0;
        for ((tensor, quant), sums) in sources.iter().zip(&quants).zip(sums.chunks_exact(2)) {
            let channels = part_of(group, group_c, source_first, tensor.c as usize);
            source_first += tensor.c as usize;
            let (&[sum, squares], false) = (sums, channels.is_empty()) else { continue };
            let n = tensor.h as u64 * tensor.w as u64 * channels.len() as u64;
            let part = Part::new(n, sum as i64, squares, quant.scale, quant.zero_point as f32);
            whole = Some(whole.map_or(part, |whole| whole.merge(part)));
        }
        if let (Some(whole), [mean, rstd]) = (whole, out) {
            *mean = whole.mean;
            *rstd = 1.0 / libm::sqrtf(whole.m2 / whole.n + op.eps);
        }
    }
}

pub(super) fn apply(ctx: &Context<'_>, arena: &mut [u8], op: &NormApply, live_end: usize, rows: Range<usize>) {
    let model = ctx.model;
    let sources = op.sources.map(|id| model.tensor(id));
    let out = model.tensor(op.out);
    let c = out.c as usize;
    let parts = NormScratch::new(op, &sources[0], &out);
    let in_place = parts.row != 0;
    let first = if in_place { 0..0 } else { sources[0].range() };
    let modulation = model.tensor(op.modulation.tensor());
    let [first, second, stats, modulation, out_bytes, mut scratch] = pieces(
        arena,
        [
            first,
            second_range(op.sources, &sources),
            model.tensor(op.stats).range(),
            modulation.range(),
            out.range(),
            live_end..live_end + parts.constants + parts.row,
        ],
    );
    let constants: &mut [i32] = cast_mut(take_front(&mut scratch, parts.constants));
    let (multipliers, rest) = constants.split_at_mut_checked(c).unwrap_or_default();
    let (offsets, _) = rest.split_at_mut_checked(c).unwrap_or_default();
    let quant = model.quant(&out, ctx.row);
    let in_step = op.table.map_or(quant.scale, |table| table.in_step);
    if rows.start == 0 {
        let mut source_first = 0;
        let affine = model.floats(op.affine, 2 * c);
        let (gamma, beta) = affine.split_at_checked(c).unwrap_or_default();
        let stats: &[f32] = cast(stats);
        let given: &[f32] = cast(modulation);
        let table = model.modulation_table(op.modulation, ctx.row, ctx.class, 2 * c);
        let modulation = |i: usize| table.get(i).map_or_else(|| given.get(i).copied().unwrap_or(0.0), |x| x.to_f32());
        let group_c = (c / (op.groups as usize).max(1)).max(1);
        for tensor in &sources {
            let scale = model.quant(tensor, ctx.row).scale;
            let (shift, limit) = (element_shift(tensor.dtype), if tensor.dtype == DType::I8 { 127.9 } else { 0.4999 });
            for channel in source_first..source_first + tensor.c as usize {
                let &[mean, rstd] =
                    stats.get(2 * (channel / group_c)..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0.0; 2]);
                let (Some(&gamma), Some(&beta)) = (gamma.get(channel), beta.get(channel)) else { continue };
                let (factor, shift_by) = (1.0 + modulation(channel), modulation(c + channel));
                let slope = (scale * rstd * (gamma * factor) / in_step).clamp(-limit, limit);
                let centre = (beta * factor + shift_by) / in_step - mean / scale * slope;
                // slope·2^(8 + 31 − shift)/2³¹ of an element that was shifted left by `shift`.
                let m = multiplier(slope * (1 << NORM_FRACTION_BITS) as f32 * exp2_neg(shift));
                let offset = round_to_i32(centre * (1 << NORM_FRACTION_BITS) as f32).clamp(-(1 << 29), 1 << 29)
                    + (1 << (NORM_FRACTION_BITS - 1));
                if let (Some(to_m), Some(to_offset)) = (multipliers.get_mut(channel), offsets.get_mut(channel)) {
                    (*to_m, *to_offset) = (m, offset);
                }
            }
            source_first += tensor.c as usize;
        }
    }
    let row_copy: &mut [i8] = cast_mut(take_front(&mut scratch, parts.row));
    let out_elems: &mut [i8] = cast_mut(out_bytes);
    for y in rows {
        let out_row = rows_of_mut(out_elems, out.row_elems(), y..y + 1);
        if in_place {
            super::copy(row_copy, out_row);
        }
        let mut source_first = 0;
        let second = if op.sources[0] == op.sources[1] { &*first } else { &*second };
        for (tensor, bytes) in sources.iter().zip([&*first, second]) {
            let source_c = tensor.c as usize;
            let k = NormConstants {
                multiplier: multipliers.get(source_first..source_first + source_c).unwrap_or_default(),
                offset: offsets.get(source_first..source_first + source_c).unwrap_or_default(),
                zero_point: model.quant(tensor, ctx.row).zero_point as i32,
                table: op.table.map_or(&[], |table| model.table(&table)),
                out_multiplier: op.table.map_or(0, |table| multiplier(table.out_step / quant.scale)),
                out_zero_point: quant.zero_point as i32,
            };
            let to = out_row.get_mut(source_first..).unwrap_or_default();
            let row = |tensor: &Tensor| y * tensor.row_elems()..(y + 1) * tensor.row_elems();
            match tensor.dtype {
                DType::I8 if in_place => {
                    (ctx.kernels.norm_i8)(to, c, row_copy.get(..out.row_elems()).unwrap_or_default(), source_c, k)
                }
                DType::I8 => {
                    (ctx.kernels.norm_i8)(to, c, cast(bytes).get(row(tensor)).unwrap_or_default(), source_c, k)
                }
                DType::I16 => {
                    (ctx.kernels.norm_i16)(to, c, cast(bytes).get(row(tensor)).unwrap_or_default(), source_c, k)
                }
                DType::F32 => {}
            }
            source_first += source_c;
            if op.sources[1] == NONE {
                break;
            }
        }
    }
}
