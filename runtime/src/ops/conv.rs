//! `Conv`: convolution and linear layers, with bias, embedding, residual and requantization in one pass.
//!
//! `out[y, x, c] = z_out + round(Σ_sources real_k[c]·acc_k[c] + real_r·(residual − z_r))`, where
//! `acc_k[c] = b_k[c] + Σ w·q` is an exact i32. Zero points cost nothing inside the loop: padding holds the input's zero
//! point, and −z·Σw is part of `b`. Several rounded products (two sources, a residual) are summed with
//! [`SUM_FRACTION_BITS`] fraction bits and rounded once; the model's output leaves as f32 straight from the accumulator.
//!
//! Tiling: a few output pixels of a row at a time; the input rows below them are loaded once, padded, and used for every
//! output channel ([`Window`]). A 1×1 convolution reads the input's pixels in place where its kernel takes 8 bits.
//!
//! Int4 weights are unpacked to int8 first, for as many output channels as scratch has room for ([`ConvScratch`]); all
//! pixels run over them before the next ones are unpacked, so that every weight is unpacked once a call.

use super::Context;
use super::parts::over_rows;
use super::upsampled::Taps;
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::Conv;
use crate::format::{DType, Encoding, NONE, Op, Tensor, Weights};
use crate::kernels::scalar::round_sum;
use crate::kernels::scratch::{ConvScratch, Widening, WindowShape, is_direct};
use crate::kernels::{Channels, Kernels, Window, select};
use crate::opset::{self, OpSet, links};
use crate::quant::{SUM_FRACTION_BITS, element_shift, exp2_neg, multiplier, round_to_i32, shift_for};
use crate::shape::{row_macs, window_start};
use core::ops::Range;

pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &Conv,
    live_end: usize,
    rows: Range<usize>,
) {
    let model = ctx.model;
    let tensors = op.sources.map(|id| model.tensor(id));
    let out = model.tensor(op.out);
    let residual = model.tensor(op.residual);
    let has_residual = links(OPS, opset::RESIDUAL) && op.residual != NONE;
    let in_place = has_residual && residual.offset == out.offset;
    let packed = op.weights.map(|id| links(OPS, opset::WEIGHTS_I4) && model.is_packed(id));
    let parts = ConvScratch::new(op, &tensors[0], &tensors[1], &out, packed, select::TILING);
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
    let two = links(OPS, opset::CONV_TWO) && op.sources[1] != NONE;
    let count = if two { 2 } else { 1 };
    let per_source = constants.len() / count;
    if rows.start == 0 {
        prepare(ctx, op, &tensors, &out, cast(modulation), constants, per_source);
    }

    let shift = constants.get(2 * out_c).copied().unwrap_or(0) as u32;
    let quant = model.quant(&out, ctx.row);
    let residual_quant = model.quant(&residual, ctx.row);
    let residual_real = residual_quant.scale * op.residual_scale / quant.scale * (1 << SUM_FRACTION_BITS) as f32;
    let residual_multiplier = multiplier(residual_real * exp2_neg(element_shift(residual.dtype)));
    let residual_zero = residual_quant.zero_point as i32;
    let out_w = out.w as usize;
    let by_taps = TAPS_FIT
        && links(OPS, opset::CONV_UPSAMPLED)
        && parts.taps > 0
        && tensors[0].c as usize >= ctx.kernels.taps_from;
    let in_passes = links(OPS, opset::WEIGHTS_I4) || by_taps;
    let (constants, first, second, residual_bytes) = (&*constants, &*first, &*second, &*residual_bytes);
    let row_bytes = out.row_elems() * out.dtype.bytes();
    let out_rows = out_bytes.get_mut(rows.start * row_bytes..rows.end * row_bytes).unwrap_or_default();
    let cost = rows.len() * row_macs(&Op::Conv(*op), model) as usize / 64;
    over_rows(ctx, rows, (out_rows, row_bytes), scratch, cost, |rows, out_bytes, mut scratch| {
        let window = take_front(&mut scratch, parts.window);
        let accumulators: &mut [i32] = cast_mut(take_front(&mut scratch, parts.accumulators));
        let tile_len = accumulators.len() / count;
        let (sums, second_sums) = accumulators.split_at_mut_checked(tile_len).unwrap_or_default();
        let tap_scratch = take_front(&mut scratch, parts.taps);
        // Some output channels of the pixels from (y, x) on; `codes` are their weights where those are unpacked.
        let mut tile = |[y, x]: [usize; 2],
                        channel: usize,
                        some_c: usize,
                        codes: [&[i8]; 2],
                        taps: &mut Option<Taps<'_>>| {
            let pixels = select::TILING.pixels.min(out_w - x);
            let Some(sums) = sums.get_mut(..pixels * some_c) else { return };
            // In the output and the residual they are one piece, or one for each pixel.
            let whole = !in_passes || some_c == out_c;
            let (pieces, piece_len) = if whole { (1, pixels * out_c) } else { (pixels, some_c) };
            let piece = |i: usize| {
                let at = (y - rows.start) * out.row_elems() + (x + i) * out_c + channel;
                (at..at + piece_len, i * piece_len..(i + 1) * piece_len)
            };
            for k in 0..count {
                let constants = constants.get(k * per_source..).unwrap_or_default();
                let channels = Channels {
                    bias: constants.get(channel..channel + some_c).unwrap_or_default(),
                    multiplier: constants.get(out_c + channel..out_c + channel + some_c).unwrap_or_default(),
                    shift,
                };
                let (tensor, id, elems_of, codes) = if k == 0 {
                    (&tensors[0], op.weights[0], first, codes[0])
                } else {
                    (&tensors[1], op.weights[1], second, codes[1])
                };
                let codes = if codes.is_empty() { cast(model.weight_rows(id, channel)) } else { codes };
                let acc = if k == 0 { &mut *sums } else { second_sums.get_mut(..pixels * some_c).unwrap_or_default() };
                match taps {
                    Some(taps) => taps.row(ctx, cast(elems_of), codes, y, acc),
                    None => accumulate(ctx, op, tensor, elems_of, codes, window, acc, some_c, [y, x]),
                }
                if let DType::F32 = out.dtype {
                    for (to, from) in (0..pieces).map(piece) {
                        let to = cast_mut::<f32>(out_bytes).get_mut(to).unwrap_or_default();
                        store_f32(to, acc.get(from).unwrap_or_default(), channels, k > 0);
                    }
                } else {
                    (ctx.kernels.scale)(acc, channels);
                }
            }
            if two {
                sums.iter_mut().zip(&*second_sums).for_each(|(sum, &x)| *sum = sum.wrapping_add(x));
            }
            for (elems, from) in (0..pieces).map(piece) {
                let sums = sums.get_mut(from).unwrap_or_default();
                if has_residual {
                    // All of the tensor, or these rows of the output.
                    let (from, before) =
                        if in_place { (&*out_bytes, 0) } else { (residual_bytes, rows.start * out.row_elems()) };
                    let at = before + elems.start..before + elems.end;
                    if links(OPS, opset::RESIDUAL_I16) && residual.dtype == DType::I16 {
                        let from = cast(from).get(at).unwrap_or_default();
                        (ctx.kernels.add_i16)(sums, from, residual_zero, residual_multiplier);
                    } else {
                        let from = cast(from).get(at).unwrap_or_default();
                        (ctx.kernels.add_i8)(sums, from, residual_zero, residual_multiplier);
                    }
                }
                if out.dtype == DType::I8 {
                    let to = cast_mut(out_bytes).get_mut(elems).unwrap_or_default();
                    (ctx.kernels.store_i8)(to, sums, quant.zero_point as i32);
                } else if links(OPS, opset::OUT_I16) && out.dtype == DType::I16 {
                    let to = cast_mut::<i16>(out_bytes).get_mut(elems).unwrap_or_default();
                    to.iter_mut().zip(&*sums).for_each(|(q, &sum)| *q = round_sum(sum).clamp(-32_767, 32_767) as i16);
                }
            }
        };
        // All channels, or as many as there is room to unpack the weights of, or for the products with their taps.
        let mut channel = 0;
        while channel < out_c {
            let (mut some_c, mut codes) = (out_c, [&[][..]; 2]);
            if in_passes {
                some_c = if by_taps { parts.tap_channels } else { parts.channels }.min(out_c - channel);
            }
            if links(OPS, opset::WEIGHTS_I4) {
                let (first, second) = scratch.split_at_mut_checked(parts.weights[0]).unwrap_or_default();
                codes = [unpack(ctx, op.weights[0], channel, first), unpack(ctx, op.weights[1], channel, second)];
            }
            let mut taps = None;
            if by_taps {
                if codes[0].is_empty() {
                    codes[0] = cast(model.weight_rows(op.weights[0], channel));
                }
                taps = Some(Taps::new(ctx, &tensors[0], some_c, codes[0], &mut *tap_scratch));
            }
            for y in rows.clone() {
                let mut x = 0;
                while x < out_w {
                    tile([y, x], channel, some_c, codes, &mut taps);
                    x += select::TILING.pixels;
                }
            }
            channel += some_c;
        }
    });
}

/// Whether this core has room for the products of taps, known when it is compiled.
const TAPS_FIT: bool = select::TILING.tap_bytes() > 0;

/// Int4 weights from output channel `channel` on, unpacked, as many as there is room for; nothing where they are int8.
fn unpack<'c, const OPS: OpSet>(ctx: &Context<'_, OPS>, id: u16, channel: usize, to: &'c mut [u8]) -> &'c [i8] {
    let Some(weights) = ctx.model.weights(id) else { return &[] };
    let Encoding::I4 { group_len } = weights.encoding else { return &[] };
    let codes: &mut [i8] = cast_mut(to);
    let four_rows = codes.chunks_exact_mut((Weights::BLOCK_ROWS * weights.row_codes()).max(1));
    let packed = ctx.model.weight_rows(id, channel).chunks_exact(weights.four_rows_bytes().max(1));
    for (codes, packed) in four_rows.zip(packed) {
        let (nibbles, scales) = packed.split_at_checked(codes.len() / 2).unwrap_or_default();
        (ctx.kernels.unpack_i4)(codes, nibbles, cast(scales), group_len as usize);
    }
    codes
}

/// The most that a bias is lowered by to round down: a channel whose factor asks for more is hardly more than its bias.
const FLOOR_MAX: f32 = (1 << 24) as f32;

/// The step's constants of every channel: per source bias and factor, and behind the first source's the shift.
fn prepare<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
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
        let offset = if tensor.dtype == DType::I8 && !is_wide(ctx.kernels) { ctx.kernels.offset } else { 0 };
        let params = model.weight_params(&weights).enumerate();
        for ((c, (weight_scale, weight_sum)), (to_bias, to_factor)) in params.zip(to_bias.iter_mut().zip(rest)) {
            let scale = quant.scale * weight_scale;
            let zero = (quant.zero_point as i32 + offset).wrapping_mul(weight_sum);
            let real = if to_f32 { scale } else { scale / out_scale * (1 << SUM_FRACTION_BITS) as f32 };
            let bias = if k == 0 {
                let modulation = table.get(c).map_or_else(|| given.get(c).copied().unwrap_or(0.0), |x| x.to_f32());
                let bias = (biases.get(c).copied().unwrap_or(0.0) + modulation) / scale;
                // A sum is rounded twice, first to its fraction bits. What then lies in the middle, one in sixteen, goes up:
                // 1/32 of a step on average in every convolution, unless the first rounding goes down.
                round_to_i32(if to_f32 { bias } else { bias - (0.5 / real).min(FLOOR_MAX) })
            } else {
                0
            };
            *to_bias = bias.wrapping_sub(zero);
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

/// Whether windows over 8-bit inputs hold 16-bit elements.
pub(super) fn is_wide(kernels: &Kernels) -> bool {
    match select::TILING.widening {
        Widening::Never => false,
        Widening::Always => true,
        Widening::ByTable => kernels.wide,
    }
}

/// The products of one tile of pixels with some output channels: `sums[p·channels + c]`, without bias.
#[allow(clippy::too_many_arguments)] // all of them change from call to call
fn accumulate<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    input: &Tensor,
    elems: &[u8],
    weights: &[i8],
    window: &mut [u8],
    sums: &mut [i32],
    channels: usize,
    [y, x]: [usize; 2],
) {
    let tile = Tile { op, input, y, x, pixels: sums.len() / channels.max(1) };
    let kernels = ctx.kernels;
    let zero = ctx.model.quant(input, ctx.row).zero_point;
    match tile.input.dtype {
        DType::I8 if links(OPS, opset::CONV_I8) && !is_wide(kernels) => {
            let elems = cast(elems);
            let window = if is_direct(op, tile.input) {
                tile.in_place(elems)
            } else {
                tile.load::<OPS, _, _>(elems, cast_mut(window), zero as i8, false, kernels.copy)
            };
            (kernels.conv_i8)(sums, channels, window, weights);
        }
        DType::I8 if links(OPS, opset::CONV_I8) => {
            let elems: &[i8] = cast(elems);
            let window = tile.load::<OPS, _, _>(elems, cast_mut(window), zero, kernels.exchanged, kernels.widen);
            (kernels.conv_i16)(sums, channels, window, weights);
        }
        DType::I16 if links(OPS, opset::CONV_I16) => {
            let elems: &[i16] = cast(elems);
            let window = tile.load::<OPS, _, _>(elems, cast_mut(window), 0, kernels.exchanged, kernels.load);
            (kernels.conv_i16)(sums, channels, window, weights);
        }
        DType::I8 | DType::I16 | DType::F32 => {}
    }
}

/// Some output pixels of row y, from x on.
struct Tile<'a> {
    op: &'a Conv,
    input: &'a Tensor,
    y: usize,
    x: usize,
    pixels: usize,
}

impl Tile<'_> {
    /// The window of a 1×1 convolution: the pixels themselves.
    fn in_place<'a>(&self, elems: &'a [i8]) -> Window<'a, i8> {
        let c = self.input.c as usize;
        let elems = elems.get(self.y * self.input.row_elems() + self.x * c..).unwrap_or_default();
        Window { elems, runs: 1, run_len: c, run_stride: c, pixel_stride: c }
    }

    /// Loads the window into scratch, padded with the zero point; `load` takes whole groups of four.
    fn load<'a, const OPS: OpSet, S: Copy, D: Copy + From<S>>(
        &self,
        elems: &[S],
        to: &'a mut [D],
        pad: D,
        exchanged: bool,
        load: impl Fn(&mut [D], &[S]),
    ) -> Window<'a, D> {
        let shape = WindowShape::new(self.op, self.input, select::TILING);
        let WindowShape { runs, run_len, run_stride, pixel_stride, staged } = shape;
        let [c, stride] = [self.input.c as usize, self.op.stride as usize];
        let [kh, kw] = self.op.kernel.map(usize::from);
        let columns = (self.pixels - 1) * stride + kw;
        let row_len = columns * c;
        if !links(OPS, opset::CONV_ODD) || c.is_multiple_of(4) {
            for (ky, run) in to.chunks_exact_mut(run_stride.max(1)).take(runs).enumerate() {
                self.load_row::<OPS, _, _>(elems, run, [ky, columns], pad, &load);
            }
            return Window { elems: to, runs, run_len, run_stride, pixel_stride };
        }
        // Rows as they lie, of which each patch copies its own, each group of four as the kernel wants it.
        let (rows, to) = to.split_at_mut_checked(staged).unwrap_or_default();
        let plain = |to: &mut [D], from: &[S]| to.iter_mut().zip(from).for_each(|(to, &from)| *to = from.into());
        for (ky, row) in rows.chunks_exact_mut(row_len.max(1)).take(kh).enumerate() {
            self.load_row::<OPS, _, _>(elems, row, [ky, columns], pad, plain);
        }
        for (p, patch) in to.chunks_exact_mut(run_len.max(1)).take(self.pixels).enumerate() {
            gather(patch, rows.get(p * stride * c..).unwrap_or_default(), row_len, (kw * c).max(1));
            if exchanged {
                for [_, second, third, _] in patch.as_chunks_mut::<4>().0 {
                    core::mem::swap(second, third);
                }
            }
        }
        Window { elems: to, runs, run_len, run_stride, pixel_stride }
    }

    /// Loads the `columns` that kernel row `ky` reads of the input, padded.
    fn load_row<const OPS: OpSet, S: Copy, D: Copy>(
        &self,
        elems: &[S],
        to: &mut [D],
        [ky, columns]: [usize; 2],
        pad: D,
        load: impl Fn(&mut [D], &[S]),
    ) {
        if !self.has_row::<OPS>(ky) {
            to.fill(pad);
            return;
        }
        let c = self.input.c as usize;
        let up = links(OPS, opset::CONV_UPSAMPLED) && self.op.upsample;
        let inside = if up { 0..0 } else { self.inside(columns) };
        if let Some(from) = self.pixel::<OPS, _>(elems, ky, inside.start).filter(|_| !inside.is_empty()) {
            load(to.get_mut(inside.start * c..inside.end * c).unwrap_or_default(), from);
        }
        // Upsampled, or padding: pixel by pixel.
        let mut column = if inside.start == 0 { inside.end } else { 0 };
        while column < columns {
            let to = to.get_mut(column * c..(column + 1) * c).unwrap_or_default();
            match self.pixel::<OPS, _>(elems, ky, column) {
                Some(from) => load(to, from.get(..c).unwrap_or_default()),
                None => to.fill(pad),
            }
            column += 1;
            if column == inside.start {
                column = inside.end;
            }
        }
    }

    /// The input's elements from a pixel of the window on; `None` where that is padding.
    fn pixel<'e, const OPS: OpSet, S>(&self, elems: &'e [S], ky: usize, column: usize) -> Option<&'e [S]> {
        let up = (links(OPS, opset::CONV_UPSAMPLED) && self.op.upsample) as u32;
        let iy = window_start(self.y, self.op.stride as usize, self.op.pad[0] as usize) + ky as isize;
        let ix = window_start(self.x, self.op.stride as usize, self.op.pad[1] as usize) + column as isize;
        let (h, w) = ((self.input.h as isize) << up, (self.input.w as isize) << up);
        if iy < 0 || iy >= h || ix < 0 || ix >= w {
            return None;
        }
        let [iy, ix] = [iy as usize >> up, ix as usize >> up];
        elems.get(iy * self.input.row_elems() + ix * self.input.c as usize..)
    }

    /// Whether kernel row `ky` lies in the input, not in the padding.
    fn has_row<const OPS: OpSet>(&self, ky: usize) -> bool {
        let up = (links(OPS, opset::CONV_UPSAMPLED) && self.op.upsample) as u32;
        let iy = window_start(self.y, self.op.stride as usize, self.op.pad[0] as usize) + ky as isize;
        iy >= 0 && iy < (self.input.h as isize) << up
    }

    /// The window's columns that are no padding.
    fn inside(&self, columns: usize) -> Range<usize> {
        let left = window_start(self.x, self.op.stride as usize, self.op.pad[1] as usize);
        let column = |ix: isize| (ix - left).max(0).min(columns as isize) as usize;
        column(0)..column(self.input.w as isize)
    }
}

/// A patch: the first `run_len` elements of each row. Not by `chunks_exact`, which divides: that takes a Cortex-M0+ longer
/// than the copy; and apart, because within the tile's loop it has no registers left.
#[inline(never)]
fn gather<T: Copy>(patch: &mut [T], mut rows: &[T], row_len: usize, run_len: usize) {
    let mut rest = patch;
    while let Some((run, after)) = rest.split_at_mut_checked(run_len) {
        let Some(row) = rows.get(..run_len) else { return };
        run.iter_mut().zip(row).for_each(|(to, &from)| *to = from);
        (rest, rows) = (after, rows.get(row_len..).unwrap_or_default());
    }
}

/// `out = (sums + bias)·scale`, or added to what is there; the multipliers are the bits of f32 scales.
fn store_f32(out: &mut [f32], sums: &[i32], channels: Channels<'_>, add: bool) {
    let out_c = channels.bias.len().max(1);
    for (p, out) in out.chunks_exact_mut(out_c).enumerate() {
        let sums = sums.get(p * out_c..).unwrap_or_default();
        for (((out, &sum), &bias), &scale) in out.iter_mut().zip(sums).zip(channels.bias).zip(channels.multiplier) {
            let value = sum.wrapping_add(bias) as f32 * f32::from_bits(scale as u32);
            *out = if add { *out + value } else { value };
        }
    }
}
