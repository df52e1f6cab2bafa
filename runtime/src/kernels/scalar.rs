//! The portable kernels: the definition of correct.
//!
//! Written as the formulas read, in forms that LLVM vectorises: equal-length slices, no early exits, products of
//! narrow integers summed in i32. Some take the rounding rule as an argument, for a core that has its own way to compute it.

use super::scratch::TAPS;
use super::{Attention, Channels, Exponential, Kernels, NormConstants, Requantization, Residual, Strided, Window};
use super::{constants, winograd};
use crate::format::Quant;
use crate::format::op::Table;
use crate::opset::OpSet;
use crate::quant::{self, NORM_FRACTION_BITS, SUM_FRACTION_BITS, mul_round, shl_saturating};
use crate::sampler::coefficients;

/// The table of these functions.
pub const KERNELS: Kernels = Kernels {
    name: "scalar",
    wide: false,
    exchanged: false,
    copy: load,
    widen: load,
    frame_i8: |out, elems, frame| frame.fill(out, elems, load),
    frame_i16: |out, elems, frame| frame.fill(out, elems, load),
    load,
    offset: 0,
    conv_i8: conv,
    conv_i16: conv,
    takes_rows: false,
    taps_from: 0,
    sum_taps,
    winograd_from: 0,
    winograd_pixels: 0,
    winograd_up_to: usize::MAX,
    winograd_size: 2,
    winograd_weights: winograd::weights,
    winograd: winograd::convolve,
    unpack_i4,
    dot_i8,
    scale,
    add_i8: |acc, elems, zero, m| add::<i8, 16>(acc, elems, zero, m, mul_round),
    add_i16: |acc, elems, zero, m| add::<i16, 8>(acc, elems, zero, m, mul_round),
    store_i8,
    quantize: |out, x, affine, quant| quantize(out, x, affine, quant),
    update: [|x, model, row, bounds| coefficients::plain(x, model, row, bounds); _],
    conv_constants: |sources, output| constants::conv(sources, output),
    spread,
    norm_table: [|_, _, _, _| {}; _],
    norm_constants: |source, to, affine| constants::norm(source, to, affine),
    group_stats: |out, sums, source| constants::group_stats(out, sums, source),
    requantize,
    byte_kernels: None,
    sums_i8: sums::<i8>,
    sums_i16: sums::<i16>,
    norm_i8: |out, out_c, src, src_c, k| norm::<i8, 16>(out, out_c, src, src_c, k, mul_round, clamp_i8),
    norm_i16: |out, out_c, src, src_c, k| norm::<i16, 8>(out, out_c, src, src_c, k, mul_round, clamp_i8),
    softmax: |scores, k| softmax(scores, k, mul_round),
    softmax_rows,
    attend_pack: |_, _, _| {},
    attend: |out, scratch, attention| attend(out, scratch, &attention, 0, &KERNELS),
    mix_i8,
};

/// The table, where it lies.
pub static TABLE: Kernels = KERNELS;

pub use super::tiling::SCALAR as TILING;

/// The table of a build of these kernels alone.
pub fn kernels<const OPS: OpSet>() -> &'static Kernels {
    const { &KERNELS.linked(OPS) }
}

/// As [`kernels`], whole.
pub fn tables() -> &'static [&'static Kernels] {
    static TABLES: [&Kernels; 1] = [&TABLE];
    &TABLES
}

/// Elements that convert to i32.
pub(super) trait Element: Copy + Into<i32> {}
impl Element for i8 {}
impl Element for i16 {}

#[inline(always)]
fn load<T: Copy + Into<U>, U>(out: &mut [U], elems: &[T]) {
    for (out, &elem) in out.iter_mut().zip(elems) {
        *out = elem.into();
    }
}

/// A group's statistics for each of its channels.
pub fn spread([rstds, means]: [&mut [i32]; 2], stats: &[[f32; 2]], group_c: usize) {
    let groups = rstds.chunks_mut(group_c.max(1)).zip(means.chunks_mut(group_c.max(1))).zip(stats);
    for ((rstds, means), &[mean, rstd]) in groups {
        for (to_rstd, to_mean) in rstds.iter_mut().zip(means) {
            (*to_rstd, *to_mean) = (rstd.to_bits() as i32, mean.to_bits() as i32);
        }
    }
}

/// `out = quantize(x·mul + add)`, in a loop without branches, of which tables have one for their instructions.
#[inline(always)]
pub(super) fn quantize(out: &mut [i8], x: &[f32], [mul, add]: [f32; 2], quant: Quant) {
    for (q, &x) in out.iter_mut().zip(x) {
        *q = quant::quantize(x * mul + add, quant.scale, quant.zero_point as i32, -128, 127) as i8;
    }
}

#[inline(always)]
fn conv<T: Element>(out: &mut [i32], channels: usize, window: Window<'_, T>, weights: &[i8]) {
    let block_len = 4 * window.runs * window.run_len;
    for (p, pixel) in out.chunks_exact_mut(channels.max(1)).enumerate() {
        for (block, sums) in pixel.chunks_mut(4).enumerate() {
            let mut acc = [0i32; 4];
            let mut quads = weights.get(block * block_len..).unwrap_or_default().as_chunks().0.iter();
            let mut at = p * window.pixel_stride;
            for _ in 0..window.runs {
                let run = window.elems.get(at..).and_then(|rest| rest.get(..window.run_len)).unwrap_or_default();
                for (x, w) in run.as_chunks().0.iter().zip(&mut quads) {
                    acc = quad(acc, x, w);
                }
                at += window.run_stride;
            }
            sums.iter_mut().zip(acc).for_each(|(sum, acc)| *sum = acc);
        }
    }
}

/// `acc[r] + Σ x·w[r]` for the four rows of a block. Without a loop: optimised for size a compiler keeps one, and a
/// Cortex-M4 then takes 191 M instructions for a step of digits instead of 115 M.
#[inline(always)]
fn quad<T: Element>(acc: [i32; 4], x: &[T; 4], w: &[i8; 16]) -> [i32; 4] {
    let [x0, x1, x2, x3]: [i32; 4] = x.map(Into::into);
    let row = |acc: i32, [w0, w1, w2, w3]: [i8; 4]| {
        let (first, second) = (x0.wrapping_mul(w0.into()), x1.wrapping_mul(w1.into()));
        let (third, fourth) = (x2.wrapping_mul(w2.into()), x3.wrapping_mul(w3.into()));
        acc.wrapping_add(first).wrapping_add(second).wrapping_add(third).wrapping_add(fourth)
    };
    let [a0, a1, a2, a3] = acc;
    let &[b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3, e0, e1, e2, e3] = w;
    [row(a0, [b0, b1, b2, b3]), row(a1, [c0, c1, c2, c3]), row(a2, [d0, d1, d2, d3]), row(a3, [e0, e1, e2, e3])]
}

/// Four channels at a time, along the row: a pixel's taps of each kernel column are added once, for all outputs that take them.
#[inline(always)]
pub(super) fn sum_taps(out: &mut [i32], channels: usize, rows: [&[i32]; 3]) {
    let rows: [&[[[i32; 4]; TAPS]]; 3] = rows.map(|row| row.as_chunks().0.as_chunks().0);
    let (blocks, pixels) = (channels / 4, out.len() / channels.max(1));
    for block in 0..blocks {
        let column = |pixel: usize, kx: usize| {
            let tap = |ky: usize| rows[ky].get(pixel * blocks + block).map_or([0; 4], |taps| taps[3 * ky + kx]);
            plus(plus(tap(0), tap(1)), tap(2))
        };
        let mut put = |x: usize, sums: [i32; 4]| {
            let to = out.get_mut(x * channels + 4 * block..).and_then(|rest| rest.first_chunk_mut());
            to.into_iter().for_each(|to| *to = sums);
        };
        // Input pixel p, at p + 1 behind a pixel of padding, is read by output pixels 2p − 1 to 2p + 2.
        let (mut left, mut both) = (column(0, 0), [0; 4]);
        for pixel in 0..=pixels / 2 {
            let [first, second, third] = [0, 1, 2].map(|kx| column(pixel + 1, kx));
            if pixel > 0 {
                put(2 * pixel - 1, plus(both, third));
            }
            if 2 * pixel < pixels {
                put(2 * pixel, plus(left, plus(second, third)));
            }
            (left, both) = (first, plus(first, second));
        }
    }
}

/// Four sums.
#[inline(always)]
fn plus(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a, b);
    [a0.wrapping_add(b0), a1.wrapping_add(b1), a2.wrapping_add(b2), a3.wrapping_add(b3)]
}

/// The code of a nibble n with the scale s is (n − 8)·s. Four rows' words at a time: the bytes of x hold four nibbles, and
/// x·s − 8·s·2⁰..2²⁴ is the codes' sum as digits of a number to the base 256; with 128 more, every digit is a byte by itself,
/// and less 128 again, which is the sign bit flipped, it is the code. A multiply-add, a flip, for four codes.
#[inline(always)]
pub(super) fn unpack_i4(out: &mut [i8], nibbles: &[u8], scales: &[u16], group_len: usize) {
    const BYTES: u32 = 0x0101_0101;
    let (blocks, packed) = (out.as_chunks_mut::<16>().0, nibbles.as_chunks::<8>().0);
    let group = if scales.is_empty() { packed.len() } else { group_len / 4 }.max(1);
    let scales = scales.iter().copied().chain(core::iter::repeat(0));
    for ((blocks, packed), four) in blocks.chunks_mut(group).zip(packed.chunks(group)).zip(scales) {
        let scale: [u32; 4] = core::array::from_fn(|row| (four >> (4 * row) & 15) as u32 + 1);
        let offset = scale.map(|scale| (128 * BYTES).wrapping_sub(8 * BYTES * scale));
        let row = |row: usize, word: u32| {
            let codes = (word & (15 * BYTES)).wrapping_mul(scale[row]).wrapping_add(offset[row]) ^ (128 * BYTES);
            codes.to_le_bytes().map(|code| code as i8)
        };
        for (block, &[a, b, c, d, e, f, g, h]) in blocks.iter_mut().zip(packed) {
            let (even, odd) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
            // Without a loop, as in `quad`.
            let [[a, b, c, d], [e, f, g, h]] = [row(0, even), row(1, odd)];
            let [[i, j, k, l], [m, n, o, p]] = [row(2, even >> 4), row(3, odd >> 4)];
            *block = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
        }
    }
}

/// `acc + Σ x·w`.
#[inline(always)]
fn dot<T: Element>(acc: i32, x: &[T], w: &[i8]) -> i32 {
    x.iter().zip(w).fold(acc, |sum, (&x, &w)| sum.wrapping_add(x.into().wrapping_mul(w as i32)))
}

#[inline(always)]
fn dot_i8(out: &mut [i32], row: &[i8], rows: Strided<'_, i8>) {
    for (j, sum) in out.iter_mut().enumerate() {
        *sum = dot(0, row, rows.elems.get(j * rows.stride..).unwrap_or_default());
    }
}

#[inline(always)]
fn scale(acc: &mut [i32], channels: Channels<'_>) {
    for pixel in acc.chunks_exact_mut(channels.bias.len().max(1)) {
        for ((acc, &bias), &m) in pixel.iter_mut().zip(channels.bias).zip(channels.multiplier) {
            *acc = mul_round(shl_saturating(acc.wrapping_add(bias), channels.shift), m);
        }
    }
}

#[inline(always)]
pub(super) fn add<T: Element, const SHIFT: u32>(
    acc: &mut [i32],
    elems: &[T],
    zero_point: i32,
    multiplier: i32,
    mul_round: impl Fn(i32, i32) -> i32,
) {
    for (acc, &q) in acc.iter_mut().zip(elems) {
        *acc = acc.wrapping_add(mul_round((q.into() - zero_point) << SHIFT, multiplier));
    }
}

#[inline(always)]
fn store_i8(out: &mut [i8], acc: &[i32], zero_point: i32) {
    for (q, &sum) in out.iter_mut().zip(acc) {
        *q = clamp_i8(round_sum(sum).saturating_add(zero_point));
    }
}

#[inline(always)]
fn requantize(out: &mut [i8], out_c: usize, [first, second]: [&mut [i32]; 2], k: Requantization<'_>) {
    scale(first, k.channels[0]);
    scale(second, k.channels[1]);
    first.iter_mut().zip(second).for_each(|(sum, &mut x)| *sum = sum.wrapping_add(x));
    let c = k.channels[0].bias.len();
    for (p, sums) in first.chunks_exact_mut(c.max(1)).enumerate() {
        let place = p * out_c..p * out_c + c;
        let Some(out) = out.get_mut(place.clone()) else { return };
        if let Some(Residual { elems, zero_point, multiplier }) = k.residual {
            let elems = elems.map_or(&*out, |elems| elems.get(place).unwrap_or_default());
            add::<i8, 16>(sums, elems, zero_point, multiplier, mul_round);
        }
        store_i8(out, sums, k.zero_point);
    }
}

#[inline(always)]
fn clamp_i8(value: i32) -> i8 {
    value.clamp(-128, 127) as i8
}

/// A sum of rounded products without its fraction bits, rounded half up.
#[inline(always)]
pub fn round_sum(sum: i32) -> i32 {
    sum.wrapping_add(1 << (SUM_FRACTION_BITS - 1)) >> SUM_FRACTION_BITS
}

#[inline(always)]
fn sums<T: Element>(totals: &mut [[u64; 2]], row: &[T], channels: usize, mut first: usize, group_c: usize) {
    for [total, total_of_squares] in totals {
        let (mut sum, mut squares) = (0i64, 0u64);
        for pixel in row.chunks_exact(channels.max(1)) {
            let group = pixel.get(first..).and_then(|rest| rest.get(..group_c)).unwrap_or_default();
            for &q in group {
                let q: i32 = q.into();
                sum += q as i64;
                squares += (q * q) as u64;
            }
        }
        *total = total.wrapping_add(sum as u64);
        *total_of_squares = total_of_squares.wrapping_add(squares);
        first += group_c;
    }
}

#[inline(always)]
pub(super) fn norm<T: Element, const SHIFT: u32>(
    out: &mut [i8],
    out_c: usize,
    src: &[T],
    src_c: usize,
    k: NormConstants<'_>,
    mul_round: impl Fn(i32, i32) -> i32,
    clamp_i8: impl Fn(i32) -> i8,
) {
    const HALF: i32 = Table::LEN as i32 / 2;
    for (p, out) in out.chunks_mut(out_c.max(1)).enumerate() {
        let src = src.get(p * src_c..).unwrap_or_default();
        let src = src.get(..src_c).unwrap_or_default();
        for (((out, &q), &m), &offset) in out.iter_mut().zip(src).zip(k.multiplier).zip(k.offset) {
            let centred = (q.into() - k.zero_point) << SHIFT;
            let index = mul_round(centred, m).saturating_add(offset) >> NORM_FRACTION_BITS;
            let value = if k.table.is_empty() {
                index
            } else {
                let entry = k.table.get((index.clamp(-HALF, HALF - 1) + HALF) as usize).copied().unwrap_or(0);
                mul_round(entry as i32, k.out_multiplier)
            };
            *out = clamp_i8(value.saturating_add(k.out_zero_point));
        }
    }
}

#[inline(always)]
pub(super) fn softmax(scores: &mut [i32], k: Exponential<'_>, mul_round: impl Fn(i32, i32) -> i32) -> i32 {
    let max = scores.iter().copied().fold(i32::MIN, i32::max);
    scores.iter_mut().fold(0, |total, score| {
        *score = weight(max.saturating_sub(*score), k, &mul_round);
        total.wrapping_add(*score)
    })
}

#[inline(always)]
fn softmax_rows(weights: &mut [i16], totals: &mut [i32], scores: &[i32], added: &[i32], k: Exponential<'_>) {
    let len = added.len().max(1);
    let rows = weights.chunks_exact_mut(len.next_multiple_of(4)).zip(totals).zip(scores.chunks_exact(len));
    for ((weights, total), scores) in rows {
        let scores = || scores.iter().zip(added).map(|(&score, &added)| score.wrapping_sub(added));
        let max = scores().fold(i32::MIN, i32::max);
        weights.fill(0);
        *total = weights.iter_mut().zip(scores()).fold(0, |total, (to, score)| {
            let weight = weight(max.saturating_sub(score), k, mul_round);
            *to = weight as i16;
            total.wrapping_add(weight)
        });
    }
}

/// The softmax weight of a score that is `below` the maximum.
#[inline(always)]
pub fn weight(below: i32, k: Exponential<'_>, mul_round: impl Fn(i32, i32) -> i32) -> i32 {
    let index = mul_round(shl_saturating(below, k.shift), k.multiplier).clamp(0, Exponential::INDEX_MAX) as usize;
    let high = k.coarse.get(index >> 6).copied().unwrap_or(0) as u32;
    let low = k.fine.get(index & 63).copied().unwrap_or(0) as u32;
    ((high * low) >> k.right) as i32
}

/// One query at a time, from position `first` of the queries on, with these kernels. Scratch: scores, then sums of a head's channels.
#[inline(always)]
pub fn attend(out: &mut [i8], scratch: &mut [i32], attention: &Attention<'_>, first: usize, kernels: &Kernels) {
    let &Attention { c, heads, positions, elems: [q, k, v], exponential, .. } = attention;
    let head_dim = c / heads.max(1);
    let (scores, acc) = scratch.split_at_mut_checked(positions).unwrap_or_default();
    let acc = acc.get_mut(..head_dim).unwrap_or_default();
    for position in 0..out.len() / c.max(1) {
        for head in 0..heads {
            let channels = |position: usize| position * c + head * head_dim..position * c + (head + 1) * head_dim;
            let query = q.get(channels(first + position)).unwrap_or_default();
            let keys = k.get(head * head_dim..).unwrap_or_default();
            (kernels.dot_i8)(scores, query, Strided { elems: keys, stride: c });

            let total = (kernels.softmax)(scores, exponential);
            let values = v.get(head * head_dim..).unwrap_or_default();
            (kernels.mix_i8)(acc, scores, Strided { elems: values, stride: c });

            let factor = attention.factor(total);
            let to = out.get_mut(channels(position)).unwrap_or_default();
            for (to, &sum) in to.iter_mut().zip(&*acc) {
                let shifted = shl_saturating(sum.wrapping_sub(factor.zero), factor.shift);
                *to = attention.output(mul_round(shifted, factor.multiplier));
            }
        }
    }
}

#[inline(always)]
fn mix_i8(out: &mut [i32], weights: &[i32], rows: Strided<'_, i8>) {
    out.fill(0);
    for (j, &weight) in weights.iter().enumerate() {
        let row = rows.elems.get(j * rows.stride..).unwrap_or_default();
        for (out, &v) in out.iter_mut().zip(row) {
            *out = out.wrapping_add(weight.wrapping_mul(v as i32));
        }
    }
}
