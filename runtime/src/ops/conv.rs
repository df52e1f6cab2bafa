//! `Conv`: convolution and linear layers, with bias, embedding, residual and requantization in one pass.
//!
//! `out[y, x, c] = z_out + round(Σ_sources real_k[c]·acc_k[c] + real_r·(residual − z_r))`, where
//! `acc_k[c] = b_k[c] + Σ w·q` is an exact i32. Zero points cost nothing inside the loop: padding holds the input's zero
//! point, and −z·Σw is part of `b`. Several rounded products (two sources, a residual) are summed with
//! [`SUM_FRACTION_BITS`] fraction bits and rounded once; the model's output leaves as f32 straight from the accumulator.
//!
//! Tiling: a few output pixels at a time; their patches are gathered once and used for every output channel. A 1×1
//! convolution reads the input's pixels in place.

use super::{Context, copy, rows_of};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::Conv;
use crate::format::{DType, NONE, Tensor};
use crate::kernels::scalar::round_sum;
use crate::kernels::scratch::{ConvScratch, is_direct, patch_stride};
use crate::kernels::{Channels, Strided, select};
use crate::quant::{SUM_FRACTION_BITS, element_shift, exp2_neg, mul_round, multiplier, round_to_i32, shift_for};
use crate::shape::window_start;
use core::ops::Range;

/// One input: its elements, its weights, its constants.
struct Source<'a> {
    tensor: Tensor,
    zero_point: i32,
    elems: &'a [u8],
    rows: &'a [i8],
    row_stride: usize,
    /// `[out_c]`, at accumulator scale.
    bias: &'a [i32],
    /// `[out_c]`: multipliers, or the bits of f32 scales where the output is f32.
    factor: &'a [i32],
}

pub(super) fn run(ctx: &Context<'_>, arena: &mut [u8], op: &Conv, live_end: usize, rows: Range<usize>) {
    let model = ctx.model;
    let tensors = op.sources.map(|id| model.tensor(id));
    let out = model.tensor(op.out);
    let residual = model.tensor(op.residual);
    let in_place = op.residual != NONE && residual.offset == out.offset;
    let parts = ConvScratch::new(op, &tensors[0], &tensors[1], &out, select::TILING);
    let [first, second, residual_bytes, modulation, out_bytes, mut scratch] = pieces(
        arena,
        [
            tensors[0].range(),
            tensors[1].range(),
            if in_place { 0..0 } else { residual.range() },
            model.tensor(op.modulation.tensor()).range(),
            out.range(),
            live_end..live_end + parts.len_bytes(),
        ],
    );
    let out_c = out.c as usize;
    let constants: &mut [i32] = cast_mut(take_front(&mut scratch, parts.constants));
    let patches = take_front(&mut scratch, parts.patches);
    let accumulators: &mut [i32] = cast_mut(take_front(&mut scratch, parts.accumulators));
    let sums: &mut [i32] = cast_mut(take_front(&mut scratch, parts.sums));
    let per_source = if op.sources[1] == NONE { constants.len() } else { constants.len() / 2 };
    if rows.start == 0 {
        prepare(ctx, op, &tensors, &out, cast(modulation), constants, per_source);
    }

    let shift = constants.get(2 * out_c).copied().unwrap_or(0) as u32;
    let source = |k: usize, elems| -> Option<Source<'_>> {
        let (&tensor, &weights) = (tensors.get(k)?, op.weights.get(k)?);
        let weights = model.weights(weights)?;
        let constants = constants.get(k * per_source..)?;
        Some(Source {
            tensor,
            zero_point: model.quant(&tensor, ctx.row).zero_point as i32,
            elems,
            rows: model.weight_rows(&weights),
            row_stride: weights.row_bytes(),
            bias: constants.get(..out_c)?,
            factor: constants.get(out_c..2 * out_c)?,
        })
    };
    let Some(main) = source(0, &*first) else { return };
    let skip = if op.sources[1] == NONE { None } else { source(1, &*second) };
    // One source: its accumulators are the sums. Two: the second's are added to the first's.
    let (sums, extra) = if skip.is_some() { (sums, accumulators) } else { (accumulators, &mut [] as &mut [i32]) };

    let quant = model.quant(&out, ctx.row);
    let residual_quant = model.quant(&residual, ctx.row);
    let residual_shift = element_shift(residual.dtype);
    let residual_real = residual_quant.scale * op.residual_scale / quant.scale * (1 << SUM_FRACTION_BITS) as f32;
    let add_residual = Residual {
        multiplier: multiplier(residual_real * exp2_neg(residual_shift)),
        zero_point: residual_quant.zero_point as i32,
        shift: residual_shift,
    };
    let out_w = out.w as usize;
    for y in rows {
        let mut x = 0;
        while x < out_w {
            let pixels = select::TILING.pixels.min(out_w - x);
            let elems = y * out.row_elems() + x * out_c..y * out.row_elems() + (x + pixels) * out_c;
            let Some(sums) = sums.get_mut(..pixels * out_c) else { return };
            accumulate(ctx, op, &main, patches, sums, y, x);
            if let DType::F32 = out.dtype {
                let to: &mut [f32] = cast_mut::<f32>(out_bytes).get_mut(elems).unwrap_or_default();
                store_f32(to, sums, &main, false);
                if let Some(skip) = &skip {
                    accumulate(ctx, op, skip, patches, sums, y, x);
                    store_f32(to, sums, skip, true);
                }
            } else {
                (ctx.kernels.scale)(sums, Channels { bias: main.bias, multiplier: main.factor, shift });
                if let (Some(skip), Some(extra)) = (&skip, extra.get_mut(..pixels * out_c)) {
                    accumulate(ctx, op, skip, patches, extra, y, x);
                    (ctx.kernels.scale)(extra, Channels { bias: skip.bias, multiplier: skip.factor, shift });
                    sums.iter_mut().zip(&*extra).for_each(|(sum, &x)| *sum = sum.wrapping_add(x));
                }
                if op.residual != NONE {
                    let from = if in_place { &*out_bytes } else { &*residual_bytes };
                    match residual.dtype {
                        DType::I8 => add_residual.to(sums, cast::<i8>(from).get(elems.clone()).unwrap_or_default()),
                        DType::I16 => add_residual.to(sums, cast::<i16>(from).get(elems.clone()).unwrap_or_default()),
                        DType::F32 => {}
                    }
                }
                if let DType::I8 = out.dtype {
                    let to = cast_mut(out_bytes).get_mut(elems).unwrap_or_default();
                    (ctx.kernels.store_i8)(to, sums, quant.zero_point as i32);
                } else {
                    let to = cast_mut::<i16>(out_bytes).get_mut(elems).unwrap_or_default();
                    to.iter_mut().zip(&*sums).for_each(|(q, &sum)| *q = round_sum(sum).clamp(-32_767, 32_767) as i16);
                }
            }
            x += pixels;
        }
    }
}

/// The step's constants of every channel: per source bias and factor, and behind the first source's the shift.
fn prepare(
    ctx: &Context<'_>,
    op: &Conv,
    tensors: &[Tensor; 2],
    out: &Tensor,
    given: &[f32],
    constants: &mut [i32],
    per_source: usize,
) {
    let model = ctx.model;
    let out_c = out.c as usize;
    let to_f32 = out.dtype == DType::F32;
    let out_scale = model.quant(out, ctx.row).scale;
    let table = model.modulation_table(op.modulation, ctx.row, ctx.class, out_c);
    let biases = model.floats(op.bias, out_c);
    let mut largest = 0.0f32;
    for (k, (tensor, &weights)) in tensors.iter().zip(&op.weights).enumerate() {
        if k == 1 && op.sources[1] == NONE {
            break;
        }
        let (Some(weights), Some(to)) = (model.weights(weights), constants.get_mut(k * per_source..)) else { return };
        let (to_bias, rest) = to.split_at_mut_checked(out_c).unwrap_or_default();
        let quant = model.quant(tensor, ctx.row);
        let params = model.weight_params(&weights).enumerate();
        for ((c, (weight_scale, weight_sum)), (to_bias, to_factor)) in params.zip(to_bias.iter_mut().zip(rest)) {
            let scale = quant.scale * weight_scale;
            let zero = (quant.zero_point as i32).wrapping_mul(weight_sum);
            let bias = if k == 0 {
                let modulation = table.get(c).map_or_else(|| given.get(c).copied().unwrap_or(0.0), |x| x.to_f32());
                round_to_i32((biases.get(c).copied().unwrap_or(0.0) + modulation) / scale)
            } else {
                0
            };
            *to_bias = bias.wrapping_sub(zero);
            let real = if to_f32 { scale } else { scale / out_scale * (1 << SUM_FRACTION_BITS) as f32 };
            *to_factor = real.to_bits() as i32;
            largest = if real > largest { real } else { largest };
        }
    }
    if to_f32 {
        return;
    }
    let shift = shift_for(largest);
    let scale_down = exp2_neg(shift);
    for k in 0..2 {
        let factors = constants.get_mut(k * per_source + out_c..k * per_source + 2 * out_c).unwrap_or_default();
        if k == 0 || op.sources[1] != NONE {
            factors.iter_mut().for_each(|factor| *factor = multiplier(f32::from_bits(*factor as u32) * scale_down));
        }
    }
    if let Some(to) = constants.get_mut(2 * out_c) {
        *to = shift as i32;
    }
}

/// The products of one tile of pixels with every output channel: `sums[p·out_c + c]`, without bias.
fn accumulate(
    ctx: &Context<'_>,
    op: &Conv,
    source: &Source<'_>,
    patches: &mut [u8],
    sums: &mut [i32],
    y: usize,
    x: usize,
) {
    let channels = source.bias.len();
    let pixels = sums.len() / channels.max(1);
    let weights = Strided { elems: source.rows, stride: source.row_stride };
    let input = &source.tensor;
    let len = op.kernel[0] as usize * op.kernel[1] as usize * input.c as usize;
    match input.dtype {
        DType::I8 => {
            let patches =
                gather(op, input, cast::<i8>(source.elems), cast_mut(patches), [y, x], pixels, source.zero_point as i8);
            (ctx.kernels.dot_i8)(sums, channels, patches, weights, len);
        }
        DType::I16 => {
            let patches = gather(op, input, cast::<i16>(source.elems), cast_mut(patches), [y, x], pixels, 0);
            (ctx.kernels.dot_i16)(sums, channels, patches, weights, len);
        }
        DType::F32 => {}
    }
}

/// The patches of `pixels` output pixels from (y, x) on: the input itself for a 1×1 convolution, else a copy, padded
/// with the zero point.
fn gather<'a, T: Copy>(
    op: &Conv,
    input: &Tensor,
    elems: &'a [T],
    patches: &'a mut [T],
    [y, x]: [usize; 2],
    pixels: usize,
    pad: T,
) -> Strided<'a, T> {
    let c = input.c as usize;
    let stride = patch_stride(op, input);
    if is_direct(op) {
        return Strided { elems: elems.get(y * input.row_elems() + x * c..).unwrap_or_default(), stride };
    }
    let [kh, kw] = op.kernel.map(usize::from);
    let up = op.upsample as u32;
    let (h, w) = ((input.h as isize) << up, (input.w as isize) << up);
    for (p, patch) in patches.chunks_exact_mut(stride.max(1)).take(pixels).enumerate() {
        let top = window_start(y, op.stride as usize, op.pad[0] as usize);
        let left = window_start(x + p, op.stride as usize, op.pad[1] as usize);
        for (ky, patch_row) in patch.chunks_exact_mut((kw * c).max(1)).take(kh).enumerate() {
            let iy = top + ky as isize;
            if iy < 0 || iy >= h {
                patch_row.fill(pad);
                continue;
            }
            let row = rows_of(elems, input.row_elems(), (iy >> up) as usize..(iy >> up) as usize + 1);
            if !op.upsample && left >= 0 && left + kw as isize <= w {
                copy(patch_row, row.get(left as usize * c..).unwrap_or_default());
                continue;
            }
            for (kx, pixel) in patch_row.chunks_exact_mut(c.max(1)).enumerate() {
                let ix = left + kx as isize;
                if ix < 0 || ix >= w {
                    pixel.fill(pad);
                } else {
                    copy(pixel, row.get((ix >> up) as usize * c..).unwrap_or_default());
                }
            }
        }
    }
    Strided { elems: patches, stride }
}

/// Constants of the residual.
struct Residual {
    multiplier: i32,
    zero_point: i32,
    shift: u32,
}

impl Residual {
    fn to<T: Copy + Into<i32>>(&self, sums: &mut [i32], elems: &[T]) {
        for (sum, &q) in sums.iter_mut().zip(elems) {
            *sum = sum.wrapping_add(mul_round((q.into() - self.zero_point) << self.shift, self.multiplier));
        }
    }
}

/// `out = (sums + bias)·scale`, or added to what is there.
fn store_f32(out: &mut [f32], sums: &[i32], source: &Source<'_>, add: bool) {
    let channels = source.bias.len().max(1);
    for (out, sums) in out.chunks_exact_mut(channels).zip(sums.chunks_exact(channels)) {
        for (((out, &sum), &bias), &scale) in out.iter_mut().zip(sums).zip(source.bias).zip(source.factor) {
            let value = sum.wrapping_add(bias) as f32 * f32::from_bits(scale as u32);
            *out = if add { *out + value } else { value };
        }
    }
}
