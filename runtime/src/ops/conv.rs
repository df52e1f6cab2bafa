//! `Conv`: convolution and linear layers, with bias, embedding, residual and requantization in one pass.
//!
//! `out[y, x, c] = z_out + round(Σ_sources real_k[c]·acc_k[c] + real_r·(residual − z_r))`, where
//! `acc_k[c] = b_k[c] + Σ w·q` is an exact i32. Zero points cost nothing inside the loop: padding holds the input's zero
//! point, and −z·Σw is part of `b`. Several rounded products (two sources, a residual) are summed with
//! [`SUM_FRACTION_BITS`] fraction bits and rounded once; the model's output leaves as f32 straight from the accumulator.
//!
//! Tiling: a few output pixels of a row at a time; the input rows below them are loaded once, padded, and used for every
//! output channel ([`Window`](crate::kernels::Window)). A 1×1 convolution reads the input's pixels in place where its kernel takes 8 bits.
//!
//! Int4 weights are unpacked to int8 first, for as many output channels as scratch has room for ([`ConvScratch`]); all
//! pixels run over them before the next ones are unpacked, so that every weight is unpacked once a call.

use super::parts::{Cost, over_columns, over_rows};
use super::upsampled::Taps;
use super::window::Tile;
use super::winograd;
use super::{Context, bytes};
use crate::arena::{cast, cast_mut, pieces, take_front};
use crate::format::op::Conv;
use crate::format::{DType, Encoding, NONE, Op, Tensor, Weights};
use crate::kernels::constants::{self, ConvOutput, ConvSource};
use crate::kernels::scalar::round_sum;
use crate::kernels::scratch::{ConvScratch, is_direct};
use crate::kernels::tiling::Widening;
use crate::kernels::{Channels, Frame, Kernels, Requantization, Residual, select};
use crate::opset::{self, OpSet, links};
use crate::quant::{SUM_FRACTION_BITS, element_shift, exp2_neg, multiplier};
use crate::shape::row_macs;
use core::ops::Range;
use half::slice::HalfFloatSliceExt;

pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    arena: &mut [u8],
    op: &Conv,
    live_end: usize,
    rows: Range<usize>,
) {
    let model = ctx.model;
    let tensors = [model.tensor(op.sources[0]), model.tensor(op.sources[1])];
    let out = model.tensor(op.out);
    let residual = model.tensor(op.residual);
    let has_residual = links(OPS, opset::RESIDUAL) && op.residual != NONE;
    let in_place = has_residual && residual.offset == out.offset;
    let packed = op.weights.map(|id| links(OPS, opset::WEIGHTS_I4) && model.is_packed(id));
    let in_c = tensors[0].c as usize;
    let byte_rows = bytes::rows(ctx, op, &tensors, &out, &residual);
    let winograd_pays = in_c >= ctx.kernels.winograd_from
        && (!select::TILING.is_host()
            || out.h as usize * out.w as usize >= ctx.kernels.winograd_pixels
                && (byte_rows == 0
                    || !op.upsample
                        && ctx.kernels.byte_kernels.is_none_or(|bytes| out.c as usize > bytes.limits.channels)));
    // Nothing but constants is needed.
    let at_once = byte_rows > 0 && !winograd_pays && packed == [false; 2];
    let parts = match at_once {
        true => ConvScratch::constants(op, &out),
        false => ConvScratch::new(op, &tensors[0], &tensors[1], &out, packed, select::TILING),
    };
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
    let constants: &mut [i32] = cast_mut(take_front(&mut scratch, parts.constants));
    let two = links(OPS, opset::CONV_TWO) && op.sources[1] != NONE;
    let pairs = links(OPS, opset::WINOGRAD) && op.winograd;
    let by_winograd = WINOGRAD_FITS
        && winograd_pays
        && (pairs || select::TILING.winograd_always() && parts.winograd.channels > 0)
        && (!select::TILING.is_host() || parts.taps == 0 || in_c < ctx.kernels.winograd_up_to);
    let by_taps = TAPS_FIT
        && links(OPS, opset::CONV_UPSAMPLED)
        && parts.taps > 0
        && !by_winograd
        && byte_rows == 0
        && in_c >= ctx.kernels.taps_from;
    if rows.start == 0 {
        let per_source = constants.len() / if two { 2 } else { 1 };
        // What `conv_i8` adds to each element.
        let offset = if is_wide(ctx.kernels) || by_winograd { 0 } else { ctx.kernels.offset };
        prepare(ctx, op, &tensors, &out, cast(modulation), constants, per_source, offset);
    }

    let residual_quant = model.quant(&residual, ctx.row);
    let quant = model.quant(&out, ctx.row);
    let residual_real = residual_quant.scale * op.residual_scale / quant.scale * (1 << SUM_FRACTION_BITS) as f32;
    let finish = Finish {
        ctx,
        constants: &*constants,
        two,
        out: &out,
        first_channel: 0,
        all_channels: out.c as usize,
        zero_point: quant.zero_point as i32,
        residual: has_residual.then_some(&*residual_bytes),
        residual_in_place: in_place,
        residual_i16: residual.dtype == DType::I16,
        residual_zero: residual_quant.zero_point as i32,
        residual_multiplier: multiplier(residual_real * exp2_neg(element_shift(residual.dtype))),
    };
    let (first, second) = (&*first, &*second);
    let image = if pairs { 2 * rows.start..(2 * rows.end).min(out.h as usize) } else { rows.clone() };
    let row_bytes = out.row_elems() * out.dtype.bytes();
    let out_rows = out_bytes.get_mut(image.start * row_bytes..image.end * row_bytes).unwrap_or_default();
    if at_once && !ctx.workers.are_some() {
        let codes = op.weights.map(|id| cast(model.weight_rows(id, 0)));
        let channels = [0, out.c as usize];
        return bytes::run(ctx, op, &tensors, [first, second], codes, byte_rows, &finish, image, channels, out_rows);
    }
    // Parts are whole rows of tiles.
    let unit = if select::TILING.is_host() && by_winograd { winograd::tile_size(ctx, op).max(1) } else { 1 };
    let work = if ctx.workers.are_some() { rows.len() * row_macs(&Op::Conv(*op), model) as usize / 64 } else { 0 };
    let cost = Cost { work, set_up: by_winograd || byte_rows > 0 || packed.contains(&true) };
    let some = |finish: &Finish<'_, OPS>, rows: Range<usize>, out_bytes: &mut [u8], scratch: &mut [u8]| {
        if by_winograd {
            winograd::run(ctx, op, &tensors[0], cast(first), &parts.winograd, finish, rows, out_bytes, scratch);
        } else {
            direct(ctx, op, &tensors, [first, second], &parts, (by_taps, byte_rows), finish, rows, out_bytes, scratch);
        }
    };
    let of_bytes = select::TILING.is_host() && out.dtype == DType::I8 && !(has_residual && finish.residual_i16);
    let sizes = [in_c, out.c as usize, image.len() * out.w as usize];
    if of_bytes && let Some(unit) = columns(ctx.kernels, op, sizes, by_winograd) {
        let found = finish.residual.map(|residual| match in_place {
            true => &[],
            false => residual.get(image.start * row_bytes..image.end * row_bytes).unwrap_or_default(),
        });
        if over_columns(
            ctx,
            (&mut *out_rows, row_bytes / out.w.max(1) as usize, unit),
            found,
            scratch.len(),
            cost,
            |columns, piece, scratch| {
                let out = Tensor { c: columns.len() as u16, ..out };
                let finish = Finish { out: &out, first_channel: columns.start, residual_in_place: true, ..finish };
                some(&finish, image.clone(), piece, scratch);
            },
        ) {
            return;
        }
    }
    let units = 0..image.len().div_ceil(unit);
    over_rows(ctx, units, (out_rows, unit * row_bytes), scratch, cost, |units, out_bytes, scratch| {
        let rows = image.start + units.start * unit..(image.start + units.end * unit).min(image.end);
        some(&finish, rows, out_bytes, scratch);
    });
}

/// Bytes of a pixel that parts have a multiple of where they are output channels; nothing where they are rows, each of which reads all
/// weights, while channels' parts read all of the input, and copy their output. Weights count for more where they are transformed, to 36 numbers
/// of nine, the input where it is widened.
pub(super) fn columns(
    kernels: &Kernels,
    op: &Conv,
    [in_c, out_c, pixels]: [usize; 3],
    by_winograd: bool,
) -> Option<usize> {
    match (by_winograd, is_wide(kernels)) {
        // With 128 channels to 64 at 16×16 0.92 of the time (`avx2`; `avx512vnni`, which transforms weights faster, 1.1); 1.12 with a residual,
        // half of which lies in the other core's cache.
        (true, wide) if op.residual == NONE && !op.upsample => {
            let inputs = if wide { 3 } else { 1 };
            (pixels <= inputs * in_c.max(out_c)).then_some(16)
        }
        (true, _) => (pixels <= out_c).then_some(16),
        // Not less than a line of the cache, which two threads would write in turns.
        (false, true) => (4 * pixels <= out_c).then_some(64),
        (false, false) => (pixels <= 4 * out_c).then_some(64),
    }
}

/// Some rows, each product computed as it stands in the formula, or once a tap.
#[allow(clippy::too_many_arguments)] // an operator's parts
#[inline(always)]
fn direct<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    tensors: &[Tensor; 2],
    elems: [&[u8]; 2],
    parts: &ConvScratch,
    (by_taps, byte_rows): (bool, usize),
    finish: &Finish<'_, OPS>,
    rows: Range<usize>,
    out_bytes: &mut [u8],
    mut scratch: &mut [u8],
) {
    let model = ctx.model;
    let [out_w, out_c] = [finish.out.w as usize, finish.out.c as usize];
    let in_passes = links(OPS, opset::WEIGHTS_I4) || by_taps;
    let window = take_front(&mut scratch, parts.window);
    let accumulators: &mut [i32] = cast_mut(take_front(&mut scratch, parts.accumulators));
    let tile_len = accumulators.len() / if finish.two { 2 } else { 1 };
    let (sums, second_sums) = accumulators.split_at_mut_checked(tile_len).unwrap_or_default();
    let tap_scratch = take_front(&mut scratch, parts.taps);
    // All channels, or as many as there is room to unpack the weights of, or for the products with their taps.
    let mut channel = 0;
    while channel < out_c {
        let (mut some_c, mut codes) = (out_c, [&[][..]; 2]);
        if in_passes {
            some_c = if by_taps { parts.tap_channels } else { parts.channels }.min(out_c - channel);
        }
        let first = finish.first_channel() + channel;
        if links(OPS, opset::WEIGHTS_I4) && !(select::TILING.is_host() && parts.weights == [0; 2]) {
            let (of_first, of_second) = scratch.split_at_mut_checked(parts.weights[0]).unwrap_or_default();
            codes = [(op.weights[0], of_first), (op.weights[1], of_second)]
                .map(|(id, to)| unpack(ctx, id, first, some_c, to));
        }
        for (codes, &id) in codes.iter_mut().zip(&op.weights) {
            if codes.is_empty() {
                *codes = cast(model.weight_rows(id, first));
            }
        }
        if byte_rows > 0 {
            bytes::run(ctx, op, tensors, elems, codes, byte_rows, finish, rows.clone(), [channel, some_c], out_bytes);
            channel += some_c;
            continue;
        }
        let rows_at_once = if by_taps { 1 } else { select::TILING.rows(op, finish.out) };
        let mut taps = by_taps.then(|| Taps::new(ctx, &tensors[0], some_c, codes[0], &mut *tap_scratch));
        let mut y = rows.start;
        while y < rows.end {
            let some_rows = rows_at_once.min(rows.end - y);
            let mut x = 0;
            while x < out_w {
                let pixels = if some_rows > 1 { out_w } else { select::TILING.pixels.min(out_w - x) };
                let sums = sums.get_mut(..some_rows * pixels * some_c).unwrap_or_default();
                let second_sums = second_sums.get_mut(..some_rows * pixels * some_c).unwrap_or_default();
                for k in 0..if finish.two { 2 } else { 1 } {
                    let (input, elems, codes, sums) = match k {
                        0 => (&tensors[0], elems[0], codes[0], &mut *sums),
                        _ => (&tensors[1], elems[1], codes[1], &mut *second_sums),
                    };
                    let tile = Tile { op, input, y, x, rows: some_rows, pixels };
                    match &mut taps {
                        Some(taps) => taps.row(ctx, cast(elems), codes, y, sums),
                        None => accumulate(ctx, &tile, finish.out, elems, codes, window, sums, some_c),
                    }
                }
                finish.store(out_bytes, rows.start, Place { y, x, channel, some_c }, [sums, second_sums]);
                x += select::TILING.pixels;
            }
            y += some_rows;
        }
        channel += some_c;
    }
}

/// Where sums belong: pixels from (y, x) on, `some_c` output channels of each.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub y: usize,
    pub x: usize,
    pub channel: usize,
    pub some_c: usize,
}

/// What becomes of sums.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a, const OPS: OpSet> {
    ctx: &'a Context<'a, OPS>,
    constants: &'a [i32],
    /// There are two sources.
    pub two: bool,
    /// The output, or some of its channels.
    pub out: &'a Tensor,
    /// The first of these among all, on a host.
    first_channel: usize,
    all_channels: usize,
    zero_point: i32,
    /// All of the tensor; nothing where it is the output.
    residual: Option<&'a [u8]>,
    residual_in_place: bool,
    residual_i16: bool,
    residual_zero: i32,
    residual_multiplier: i32,
}

impl<'a, const OPS: OpSet> Finish<'a, OPS> {
    /// Of one source, with nothing added.
    #[cfg(feature = "std")]
    pub fn plain(ctx: &'a Context<'a, OPS>, out: &'a Tensor, constants: &'a [i32]) -> Self {
        Finish {
            ctx,
            constants,
            two: false,
            out,
            first_channel: 0,
            all_channels: out.c as usize,
            zero_point: ctx.model.quant(out, ctx.row).zero_point as i32,
            residual: None,
            residual_in_place: false,
            residual_i16: false,
            residual_zero: 0,
            residual_multiplier: 0,
        }
    }
}

impl<const OPS: OpSet> Finish<'_, OPS> {
    pub fn first_channel(&self) -> usize {
        if select::TILING.is_host() { self.first_channel } else { 0 }
    }

    /// Constants of some channels of a source.
    #[inline(always)]
    pub fn channels(&self, source: usize, some: Range<usize>) -> Channels<'_> {
        let (mut out_c, mut some) = (self.out.c as usize, some);
        if select::TILING.is_host() {
            out_c = self.all_channels;
            some = self.first_channel + some.start..self.first_channel + some.end;
        }
        let per_source = self.constants.len() / if self.two { 2 } else { 1 };
        let constants = self.constants.get(source * per_source..).unwrap_or_default();
        Channels {
            bias: constants.get(some.clone()).unwrap_or_default(),
            multiplier: constants.get(out_c + some.start..out_c + some.end).unwrap_or_default(),
            shift: self.constants.get(2 * out_c).copied().unwrap_or(0) as u32,
        }
    }

    /// Where bytes belong, from the first on, and what becomes of their sums: on hosts, where all of it is of 8 bits.
    #[inline(always)]
    pub fn bytes<'o>(
        &'o self,
        out_bytes: &'o mut [u8],
        first_row: usize,
        place: Place,
    ) -> Option<(&'o mut [i8], Requantization<'o>)> {
        let Place { y, x, channel, some_c } = place;
        let of_elems = !(links(OPS, opset::RESIDUAL_I16) && self.residual_i16);
        if !select::TILING.is_host() || self.out.dtype != DType::I8 || !of_elems {
            return None;
        }
        let some = channel..channel + some_c;
        let first = self.channels(0, some.clone());
        let channels = [first, if self.two { self.channels(1, some) } else { first }];
        let first_elem = (y - first_row) * self.out.row_elems() + x * self.out.c as usize + channel;
        // From the same element on as the output.
        let residual = self.residual.map(|residual| Residual {
            elems: (!self.residual_in_place)
                .then(|| cast(residual).get(first_row * self.out.row_elems() + first_elem..).unwrap_or_default()),
            zero_point: self.residual_zero,
            multiplier: self.residual_multiplier,
        });
        let to = cast_mut(out_bytes).get_mut(first_elem..).unwrap_or_default();
        Some((to, Requantization { channels, residual, zero_point: self.zero_point }))
    }

    /// From the sums of each source to output elements; `out_bytes` begins with row `first_row`.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    pub fn store(&self, out_bytes: &mut [u8], first_row: usize, place: Place, sums: [&mut [i32]; 2]) {
        if let Some((to, constants)) = self.bytes(&mut *out_bytes, first_row, place) {
            let sums = if self.two { sums } else { [&mut *sums[0], &mut []] };
            return (self.ctx.kernels.requantize)(to, self.out.c as usize, sums, constants);
        }
        self.store_by_pieces(out_bytes, first_row, place, sums);
    }

    /// As `store`, where `requantize` does not: a host's rare case, out of the way of its other code.
    #[cfg_attr(not(target_os = "none"), inline(never))]
    fn store_by_pieces(&self, out_bytes: &mut [u8], first_row: usize, place: Place, sums: [&mut [i32]; 2]) {
        let (out, kernels) = (self.out, self.ctx.kernels);
        let Place { y, x, channel, some_c } = place;
        let out_c = out.c as usize;
        // In the output and the residual they are one piece, or one for each pixel, `out_c` apart.
        let by_winograd = WINOGRAD_FITS && (links(OPS, opset::WINOGRAD) || select::TILING.winograd_always());
        let in_passes = TAPS_FIT || by_winograd || links(OPS, opset::WEIGHTS_I4);
        let piece_len = if !in_passes || some_c == out_c { sums[0].len() } else { some_c }.max(1);
        let first_elem = (y - first_row) * out.row_elems() + x * out_c + channel;
        let [first, second] = sums;
        for (k, acc) in [&mut *first, &mut *second].into_iter().enumerate() {
            if k == 1 && !self.two {
                break;
            }
            let channels = self.channels(k, channel..channel + some_c);
            if let DType::F32 = out.dtype {
                for (i, acc) in acc.chunks_exact(piece_len).enumerate() {
                    let at = first_elem + i * out_c;
                    let to = cast_mut::<f32>(out_bytes).get_mut(at..at + acc.len()).unwrap_or_default();
                    store_f32(to, acc, channels, k > 0);
                }
            } else {
                (kernels.scale)(acc, channels);
            }
        }
        if self.two {
            first.iter_mut().zip(&*second).for_each(|(sum, &x)| *sum = sum.wrapping_add(x));
        }
        let (mut rest, mut at) = (first, first_elem);
        while let Some((sums, after)) = rest.split_at_mut_checked(piece_len) {
            let elems = at..at + piece_len;
            (rest, at) = (after, at + out_c);
            if let (true, Some(residual)) = (links(OPS, opset::RESIDUAL), self.residual) {
                // All of the tensor, or these rows of the output.
                let (from, before) =
                    if self.residual_in_place { (&*out_bytes, 0) } else { (residual, first_row * out.row_elems()) };
                let at = before + elems.start..before + elems.end;
                let (zero, multiplier) = (self.residual_zero, self.residual_multiplier);
                if links(OPS, opset::RESIDUAL_I16) && self.residual_i16 {
                    (kernels.add_i16)(sums, cast(from).get(at).unwrap_or_default(), zero, multiplier);
                } else {
                    (kernels.add_i8)(sums, cast(from).get(at).unwrap_or_default(), zero, multiplier);
                }
            }
            if out.dtype == DType::I8 {
                let to = cast_mut(out_bytes).get_mut(elems).unwrap_or_default();
                (kernels.store_i8)(to, sums, self.zero_point);
            } else if links(OPS, opset::OUT_I16) && out.dtype == DType::I16 {
                let to = cast_mut::<i16>(out_bytes).get_mut(elems).unwrap_or_default();
                to.iter_mut().zip(&*sums).for_each(|(q, &sum)| *q = round_sum(sum).clamp(-32_767, 32_767) as i16);
            }
        }
    }
}

/// Whether this core has room for the products of taps, known when it is compiled.
const TAPS_FIT: bool = select::TILING.tap_bytes() > 0;

/// Whether it has kernels for Winograd's algorithm.
const WINOGRAD_FITS: bool = select::TILING.winograd > 0;

/// Int4 weights of `channels` output channels from `channel` on, unpacked, or of as many as there is room for; nothing where they are int8.
pub(super) fn unpack<'c, const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    id: u16,
    channel: usize,
    channels: usize,
    to: &'c mut [u8],
) -> &'c [i8] {
    let Some(weights) = ctx.model.weights(id) else { return &[] };
    let Encoding::I4 { group_len } = weights.encoding else { return &[] };
    let codes: &mut [i8] = cast_mut(to);
    let four_rows = codes.chunks_exact_mut((Weights::BLOCK_ROWS * weights.row_codes()).max(1));
    let packed = ctx.model.weight_rows(id, channel).chunks_exact(weights.four_rows_bytes().max(1));
    let blocks = if select::TILING.is_host() { channels.div_ceil(Weights::BLOCK_ROWS) } else { usize::MAX };
    for (codes, packed) in four_rows.zip(packed).take(blocks) {
        let (nibbles, scales) = packed.split_at_checked(codes.len() / 2).unwrap_or_default();
        (ctx.kernels.unpack_i4)(codes, nibbles, cast(scales), group_len as usize);
    }
    codes
}

/// The step's constants of every channel: per source bias and factor, and behind the first source's the shift.
#[allow(clippy::too_many_arguments)] // an operator's parts
pub(super) fn prepare<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    op: &Conv,
    tensors: &[Tensor; 2],
    out: &Tensor,
    given: &[f32],
    constants: &mut [i32],
    per_source: usize,
    offset: i32,
) {
    let model = ctx.model;
    let out_c = out.c as usize;
    let table = model.modulation_table(op.modulation, ctx.row, ctx.class, out_c);
    let biases = model.floats(op.bias, out_c);
    if select::TILING.is_host() {
        // All at once: a call for each channel would take longer than the convolution's constants.
        let to: &mut [f32] = bytemuck::try_cast_slice_mut(&mut *constants).unwrap_or_default();
        let to = to.get_mut(..out_c).unwrap_or_default();
        match (to.len() == table.len(), given.get(..out_c)) {
            (true, _) => table.convert_to_f32_slice(to),
            (_, Some(given)) => to.copy_from_slice(given),
            _ => to.fill(0.0),
        }
        to.iter_mut().zip(biases).for_each(|(to, &bias)| *to += bias);
    } else {
        for ((c, to), &bias) in constants.iter_mut().enumerate().zip(biases) {
            let modulation = table.get(c).map_or_else(|| given.get(c).copied().unwrap_or(0.0), |x| x.to_f32());
            *to = (bias + modulation).to_bits() as i32;
        }
    }
    let mut sources: [ConvSource<'_>; 2] = Default::default();
    let mut to_shift: &mut [i32] = &mut [];
    let mut count = 0;
    let parts = constants.chunks_exact_mut(per_source.max(1)).zip(tensors).zip(&op.weights);
    for (source, ((constants, tensor), &weights)) in sources.iter_mut().zip(parts) {
        let (bias, rest) = constants.split_at_mut_checked(out_c).unwrap_or_default();
        let (multiplier, rest) = rest.split_at_mut_checked(out_c).unwrap_or_default();
        match count {
            0 => to_shift = rest,
            _ => bias.fill(0),
        }
        let quant = model.quant(tensor, ctx.row);
        let offset = if tensor.dtype == DType::I8 { offset } else { 0 };
        *source = ConvSource {
            weights: model.weights(weights).map_or(&[], |weights| model.weight_params(&weights)),
            scale: quant.scale,
            zero_point: quant.zero_point as i32 + offset,
            bias,
            multiplier,
        };
        count += 1;
        if !links(OPS, opset::CONV_TWO) {
            break;
        }
    }
    let output = match out.dtype {
        DType::F32 => ConvOutput::F32,
        _ => ConvOutput::Codes { scale: model.quant(out, ctx.row).scale },
    };
    let sources = sources.get_mut(..count).unwrap_or_default();
    let shift = match select::TILING.is_host() {
        true => (ctx.kernels.conv_constants)(sources, output),
        false => constants::conv(sources, output),
    };
    if let [to, ..] = to_shift {
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
    tile: &Tile<'_>,
    out: &Tensor,
    elems: &[u8],
    weights: &[i8],
    window: &mut [u8],
    sums: &mut [i32],
    channels: usize,
) {
    let kernels = ctx.kernels;
    let zero = ctx.model.quant(tile.input, ctx.row).zero_point;
    match tile.input.dtype {
        DType::I8 if links(OPS, opset::CONV_I8) && !is_wide(kernels) => {
            let elems = cast(elems);
            let window = if is_direct(tile.op, tile.input, out) {
                tile.in_place(elems)
            } else {
                tile.load::<OPS, _, _>(elems, cast_mut(window), zero as i8, false, kernels.copy, kernels.frame_i8)
            };
            tile.each_row(kernels.takes_rows, window, sums, |window, sums| {
                (kernels.conv_i8)(sums, channels, window, weights)
            });
        }
        DType::I8 if links(OPS, opset::CONV_I8) => {
            let elems: &[i8] = cast(elems);
            let window = tile.load::<OPS, _, _>(
                elems,
                cast_mut(window),
                zero,
                kernels.exchanged,
                kernels.widen,
                kernels.frame_i16,
            );
            tile.each_row(kernels.takes_rows, window, sums, |window, sums| {
                (kernels.conv_i16)(sums, channels, window, weights)
            });
        }
        DType::I16 if links(OPS, opset::CONV_I16) => {
            let elems: &[i16] = cast(elems);
            let portable = |out: &mut [i16], elems: &[i16], frame: Frame<i16>| frame.fill(out, elems, kernels.load);
            let window = tile.load::<OPS, _, _>(elems, cast_mut(window), 0, kernels.exchanged, kernels.load, portable);
            tile.each_row(kernels.takes_rows, window, sums, |window, sums| {
                (kernels.conv_i16)(sums, channels, window, weights)
            });
        }
        DType::I8 | DType::I16 | DType::F32 => {}
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
