//! Any table against scalar, on random inputs: shapes that leave tails, values at the ends of their ranges.
//!
//! Needs no allocator, so it runs on the device as well as on the host (`tests/tests/kernels.rs`, the firmware's
//! `checks`). A difference names the kernel and the seed that shows it.

use super::constants::{ConvOutput, ConvSource, NormSource};
use super::scalar::TABLE as SCALAR;
use super::scratch::{AttendScratch, COEFFICIENTS, TAPS};
use super::{
    Attention, Channels, Exponential, Kernels, NormConstants, Requantization, Requantize, Residual, Strided, Sums,
    Window, WinogradTile, select,
};
use crate::Aligned;
use crate::format::op::Table;
use crate::format::{DType, Quant};
use crate::sampler::noise::chacha8;

/// A kernel that does not give scalar's integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field of [`Kernels`].
    pub kernel: &'static str,
    /// The seed of the inputs that show it.
    pub seed: u64,
}

/// Elements of the inputs, and of the outputs; all buffers together take 8 KB of stack.
const LEN: usize = 1536;
const OUT_LEN: usize = 256;

/// Compares every kernel once, with inputs that follow from the seed.
///
/// # Errors
/// The first kernel that differs.
pub fn compare(table: &Kernels, seed: u64) -> Result<(), Difference> {
    type Same = fn(&Kernels, &mut Random) -> bool;
    let all: [(&'static str, Same); 24] = [
        ("copy", copy),
        ("widen", widen),
        ("load", load),
        ("conv_i8", conv_i8),
        ("conv_i16", conv_i16),
        ("dot_i8", dot_i8),
        ("scale", scale),
        ("add_i8", add_i8),
        ("add_i16", add_i16),
        ("store_i8", store_i8),
        ("requantize", requantize),
        ("conv_constants", conv_constants),
        ("norm_constants", norm_constants),
        ("sums_i8", sums_i8),
        ("sums_i16", sums_i16),
        ("norm_i8", norm_i8),
        ("norm_i16", norm_i16),
        ("softmax", softmax),
        ("softmax_rows", softmax_rows),
        ("attend", attend),
        ("mix_i8", mix_i8),
        ("sum_taps", sum_taps),
        ("winograd", winograd),
        ("unpack_i4", unpack_i4),
    ];
    for (stream, (kernel, same)) in all.into_iter().enumerate() {
        let mut random = Random { seed, stream: stream as u32, at: 0, words: [0; 16] };
        if !same(table, &mut random) {
            return Err(Difference { kernel, seed });
        }
    }
    Ok(())
}

/// Random integers from the runtime's own generator.
struct Random {
    seed: u64,
    stream: u32,
    at: u32,
    words: [u32; 16],
}

impl Random {
    fn bits(&mut self) -> u32 {
        if self.at.is_multiple_of(16) {
            self.words = chacha8(self.seed, self.stream, self.at / 16);
        }
        self.at += 1;
        self.words.get((self.at - 1) as usize % 16).copied().unwrap_or(0)
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.bits() as u64 * n as u64) >> 32) as usize
    }

    fn between(&mut self, low: i32, high: i32) -> i32 {
        (low as i64 + ((self.bits() as u64 * (high as i64 - low as i64 + 1) as u64) >> 32) as i64) as i32
    }

    /// Spread over the range, and often at its ends.
    fn value(&mut self, low: i32, high: i32) -> i32 {
        match self.below(16) {
            0 => low,
            1 => high,
            _ => self.between(low, high),
        }
    }

    fn i8s(&mut self) -> [i8; LEN] {
        core::array::from_fn(|_| self.value(-128, 127) as i8)
    }

    fn i16s(&mut self) -> [i16; LEN] {
        core::array::from_fn(|_| self.value(-32_767, 32_767) as i16)
    }

    /// Where a slice begins: kernels assume no more than the element's own alignment.
    fn offset(&mut self) -> usize {
        self.below(4)
    }
}

/// A kernel of the table, and the same of scalar, over the same inputs.
type Pair<'a, T> = [&'a dyn Fn(&mut [T]); 2];

/// Runs the kernel of both tables into equal buffers of `len` elements.
fn both<T: Copy + PartialEq, const N: usize>(fill: T, len: usize, run: Pair<'_, T>) -> bool {
    let [mut got, mut want] = [[fill; N]; 2];
    run[0](got.get_mut(..len).unwrap_or_default());
    run[1](want.get_mut(..len).unwrap_or_default());
    // Behind `len` nothing may be written either.
    got == want
}

fn copy(table: &Kernels, random: &mut Random) -> bool {
    let (elems, len) = (random.i8s(), random.below(64));
    let at = random.offset();
    let from = elems.get(at..at + len).unwrap_or_default();
    both::<i8, 64>(0, len, [&|out| (table.copy)(out, from), &|out| (SCALAR.copy)(out, from)])
}

fn widen(table: &Kernels, random: &mut Random) -> bool {
    let (elems, len) = (random.i8s(), random.below(12) * 4);
    let from = |at: usize| elems.get(at..at + len).unwrap_or_default();
    let at = random.offset();
    both::<i16, 64>(0, len, [&|out| (table.widen)(out, from(at)), &|out| exchanged(out, from(at), table.exchanged)])
}

fn load(table: &Kernels, random: &mut Random) -> bool {
    let (elems, len) = (random.i16s(), random.below(12) * 4);
    let from = |at: usize| elems.get(at..at + len).unwrap_or_default();
    let at = random.offset();
    both::<i16, 64>(0, len, [&|out| (table.load)(out, from(at)), &|out| exchanged(out, from(at), table.exchanged)])
}

/// What `widen` and `load` are to do.
fn exchanged<T: Copy + Into<i16>>(out: &mut [i16], elems: &[T], exchange: bool) {
    for (out, elems) in out.chunks_exact_mut(4).zip(elems.chunks_exact(4)) {
        out.iter_mut().zip(elems).for_each(|(to, &elem)| *to = elem.into());
        if exchange {
            out.swap(1, 2);
        }
    }
}

/// A window's shape, and how many pixels and channels there are; everything fits the buffers.
fn window_of<'a, T>(random: &mut Random, elems: &'a [T]) -> (Window<'a, T>, usize, usize) {
    let (runs, group) = (1 + random.below(3), 4 * (1 + random.below(8)));
    let run_len = (group * (1 + random.below(3))).min(LEN / 8 / runs / 4 * 4).max(4);
    // Weights of 4, 8 or 12 rows fit, and often more.
    let channels = 1 + random.below((LEN / (runs * run_len) / 4 * 4).clamp(4, 40));
    let pixels = 1 + random.below((OUT_LEN / channels).clamp(1, 20));
    let pixel_stride = 4 * (1 + random.below(group / 4 * 2));
    let most = LEN.saturating_sub(4 + (runs * run_len)) / pixel_stride.max(1);
    let pixels = pixels.min(most.max(1));
    let columns = (pixels - 1) * pixel_stride + run_len;
    let run_stride = (columns.next_multiple_of(4)).min(LEN.saturating_sub(columns + 4) / runs.max(1) / 4 * 4);
    (Window { elems, runs, run_len, run_stride, pixel_stride, row_gap: 0 }, pixels, channels)
}

fn conv_i8(table: &Kernels, random: &mut Random) -> bool {
    let (elems, weights) = (random.i8s(), random.i8s());
    // A tensor that is read in place is aligned to 16 bytes, its pixels to four.
    let (window, pixels, channels) = window_of(random, &elems);
    let weights = Aligned(weights.map(|w| w.max(-127)));
    // The offset is scalar's sum over a window of nothing but offsets.
    let offsets = [table.offset as i16; LEN];
    let Window { runs, run_len, run_stride, pixel_stride, row_gap, .. } = window;
    let offsets = Window { elems: &offsets, runs, run_len, run_stride, pixel_stride, row_gap };
    conv(
        pixels * channels,
        [&|out| (table.conv_i8)(out, channels, window, &weights.0), &|out| {
            let mut sums = [0; OUT_LEN];
            let sums = sums.get_mut(..out.len()).unwrap_or_default();
            (SCALAR.conv_i16)(sums, channels, offsets, &weights.0);
            (SCALAR.conv_i8)(out, channels, window, &weights.0);
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += *sum);
        }],
    )
}

fn conv_i16(table: &Kernels, random: &mut Random) -> bool {
    let (mut elems, weights) = (random.i16s(), Aligned(random.i8s().map(|w| w.max(-127))));
    // The converter proves that no sum leaves i32; kernels that pair products rely on it.
    elems.iter_mut().for_each(|x| *x /= 4);
    let mut ordered = [0i16; LEN];
    exchanged(&mut ordered, &elems, table.exchanged);
    let (window, pixels, channels) = window_of(random, &elems);
    let moved = Window { elems: &ordered, ..window };
    conv(
        pixels * channels,
        [&|out| (table.conv_i16)(out, channels, moved, &weights.0), &|out| {
            (SCALAR.conv_i16)(out, channels, window, &weights.0)
        }],
    )
}

fn conv(len: usize, run: Pair<'_, i32>) -> bool {
    both::<i32, OUT_LEN>(-1, len, run)
}

fn unpack_i4(table: &Kernels, random: &mut Random) -> bool {
    let bytes = random.i8s().map(|x| x as u8);
    let (blocks, group_len) = (random.below(OUT_LEN / 16 + 1), 4 * random.below(20));
    let groups = if group_len == 0 { 0 } else { (4 * blocks).div_ceil(group_len) };
    let scales: [u16; OUT_LEN / 16] = core::array::from_fn(|_| random.bits() as u16);
    let scales = scales.get(..groups).unwrap_or_default();
    let at = random.offset();
    let nibbles = bytes.get(at..at + 8 * blocks).unwrap_or_default();
    both::<i8, OUT_LEN>(
        0,
        16 * blocks,
        [&|out| (table.unpack_i4)(out, nibbles, scales, group_len), &|out| {
            (SCALAR.unpack_i4)(out, nibbles, scales, group_len)
        }],
    )
}

fn dot_i8(table: &Kernels, random: &mut Random) -> bool {
    let (row, rows) = (random.i8s(), random.i8s());
    let (len, stride) = (1 + random.below(40), random.below(30));
    let (stride, count) = (len + stride, 1 + random.below(20));
    let (at, row_at) = (random.offset(), random.offset());
    let row = row.get(row_at..row_at + len).unwrap_or_default();
    let rows = Strided { elems: rows.get(at..).unwrap_or_default(), stride };
    both::<i32, 64>(-1, count, [&|out| (table.dot_i8)(out, row, rows), &|out| (SCALAR.dot_i8)(out, row, rows)])
}

fn scale(table: &Kernels, random: &mut Random) -> bool {
    const C: usize = 24;
    let bias: [i32; C] = core::array::from_fn(|_| random.value(i32::MIN / 2, i32::MAX / 2));
    let multiplier: [i32; C] = core::array::from_fn(|_| random.value(-(1 << 30) + 1, (1 << 30) - 1));
    let acc: [i32; OUT_LEN] = core::array::from_fn(|_| random.value(i32::MIN, i32::MAX) >> random.below(24));
    let (c, shift) = (1 + random.below(C), random.below(16) as u32);
    let [bias, multiplier] = [&bias, &multiplier].map(|x| x.get(..c).unwrap_or_default());
    let channels = Channels { bias, multiplier, shift };
    let len = random.below(OUT_LEN / c + 1) * c;
    let run = |scale: fn(&mut [i32], Channels<'_>)| {
        move |out: &mut [i32]| {
            out.iter_mut().zip(acc).for_each(|(out, acc)| *out = acc);
            scale(out, channels);
        }
    };
    both::<i32, OUT_LEN>(-1, len, [&run(table.scale), &run(SCALAR.scale)])
}

fn add_i8(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i8s();
    let (at, len, zero_point) = (random.offset(), random.below(OUT_LEN), random.value(-128, 127));
    let elems = elems.get(at..at + len).unwrap_or_default();
    add(
        random,
        len,
        [&|acc, m| (table.add_i8)(acc, elems, zero_point, m), &|acc, m| (SCALAR.add_i8)(acc, elems, zero_point, m)],
    )
}

fn add_i16(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i16s();
    let (at, len, zero_point) = (random.offset(), random.below(OUT_LEN), random.value(-128, 127));
    let elems = elems.get(at..at + len).unwrap_or_default();
    add(
        random,
        len,
        [&|acc, m| (table.add_i16)(acc, elems, zero_point, m), &|acc, m| (SCALAR.add_i16)(acc, elems, zero_point, m)],
    )
}

/// A residual kernel: the sums, and the multiplier.
type Add<'a> = &'a dyn Fn(&mut [i32], i32);

fn add(random: &mut Random, len: usize, run: [Add<'_>; 2]) -> bool {
    let acc: [i32; OUT_LEN] = core::array::from_fn(|_| random.value(i32::MIN / 2, i32::MAX / 2));
    let multiplier = random.value(-(1 << 30) + 1, (1 << 30) - 1);
    let [got, want] = run.map(|add| {
        let mut acc = acc;
        add(acc.get_mut(..len).unwrap_or_default(), multiplier);
        acc
    });
    got == want
}

fn store_i8(table: &Kernels, random: &mut Random) -> bool {
    let acc: [i32; OUT_LEN] = core::array::from_fn(|_| random.value(i32::MIN, i32::MAX) >> random.below(24));
    let (len, zero_point) = (random.below(OUT_LEN), random.value(-128, 127));
    let acc = acc.get(..len).unwrap_or_default();
    both::<i8, OUT_LEN>(
        0,
        len,
        [&|out| (table.store_i8)(out, acc, zero_point), &|out| (SCALAR.store_i8)(out, acc, zero_point)],
    )
}

/// Some channels of wider pixels, of one source or two, with a residual or without.
fn requantize(table: &Kernels, random: &mut Random) -> bool {
    const C: usize = 40;
    let bias: [i32; 2 * C] = core::array::from_fn(|_| random.value(i32::MIN / 2, i32::MAX / 2));
    let multiplier: [i32; 2 * C] = core::array::from_fn(|_| random.value(-(1 << 30) + 1, (1 << 30) - 1));
    let sums: [[i32; OUT_LEN]; 2] =
        [0, 1].map(|_| core::array::from_fn(|_| random.value(i32::MIN, i32::MAX) >> random.below(24)));
    let (elems, held) = (random.i8s(), random.i8s());
    let (c, sources) = (1 + random.below(C), 1 + random.below(2));
    let out_c = c + random.below(3) * random.below(30);
    let pixels = random.below(OUT_LEN / out_c + 1);
    let shift = if random.below(2) == 0 { 0 } else { random.below(16) as u32 };
    let channels = [0, 1].map(|source| {
        let some = source * C..source * C + c;
        Channels {
            bias: bias.get(some.clone()).unwrap_or_default(),
            multiplier: multiplier.get(some).unwrap_or_default(),
            shift,
        }
    });
    let at = random.offset();
    let residual = (random.below(3) > 0).then(|| Residual {
        elems: if random.below(2) == 0 { None } else { elems.get(at..at + pixels * out_c) },
        zero_point: random.value(-128, 127),
        multiplier: random.value(-(1 << 30) + 1, (1 << 30) - 1),
    });
    let constants = Requantization { channels, residual, zero_point: random.value(-128, 127) };
    let run = |requantize: Requantize| {
        move |out: &mut [i8]| {
            out.iter_mut().zip(held).for_each(|(out, held)| *out = held);
            let [mut first, mut second] = sums;
            let len = |sums: usize| if sums < sources { pixels * c } else { 0 };
            let [first, second] = [first.get_mut(..len(0)), second.get_mut(..len(1))].map(Option::unwrap_or_default);
            requantize(out, out_c, [first, second], constants);
        }
    };
    // A last pixel may end with the channels that are meant.
    let len = (pixels * out_c).saturating_sub(random.below(2) * (out_c - c));
    both::<i8, OUT_LEN>(0, len, [&run(table.requantize), &run(SCALAR.requantize)])
}

/// Positive numbers of any size, scales among them; any bits now and then.
fn float(random: &mut Random) -> f32 {
    match random.below(16) {
        0 => f32::from_bits(random.bits()),
        _ => f32::from_bits(random.below(1 << 23) as u32 | (random.between(87, 167) as u32) << 23),
    }
}

fn conv_constants(table: &Kernels, random: &mut Random) -> bool {
    const C: usize = 40;
    let c = random.below(C + 1);
    let two = random.below(2);
    let weights: [[u32; 2]; 2 * C] = core::array::from_fn(|_| [float(random).to_bits(), random.bits()]);
    let bias: [i32; 2 * C] = core::array::from_fn(|_| (float(random) * random.between(-1, 1) as f32).to_bits() as i32);
    let (scales, zero_points) = ([0; 2].map(|_| float(random)), [0; 2].map(|_| random.value(-256, 255)));
    let output = match random.below(4) {
        0 => ConvOutput::F32,
        _ => ConvOutput::Codes { scale: float(random) },
    };
    let run = |of: &Kernels| {
        let (mut bias, mut multiplier) = (bias, [0; 2 * C]);
        let (mut biases, mut multipliers) = (bias.chunks_mut(C), multiplier.chunks_mut(C));
        let mut sources: [_; 2] = core::array::from_fn(|k| ConvSource {
            weights: weights.get(k * C..k * C + c).unwrap_or_default(),
            scale: scales[k],
            zero_point: zero_points[k],
            bias: biases.next().and_then(|x| x.get_mut(..c)).unwrap_or_default(),
            multiplier: multipliers.next().and_then(|x| x.get_mut(..c)).unwrap_or_default(),
        });
        let shift = (of.conv_constants)(sources.get_mut(..1 + two).unwrap_or_default(), output);
        (bias, multiplier, shift)
    };
    run(table) == run(&SCALAR)
}

fn norm_constants(table: &Kernels, random: &mut Random) -> bool {
    const C: usize = 40;
    let c = random.below(C + 1);
    let stats: [[i32; C]; 2] = [0; 2].map(|_| core::array::from_fn(|_| float(random).to_bits() as i32));
    let affine: [[f32; C]; 2] = [0; 2].map(|_| core::array::from_fn(|_| float(random) * random.between(-1, 1) as f32));
    let dtype = if random.below(2) == 0 { DType::I8 } else { DType::I16 };
    let source = NormSource { scale: float(random), dtype, in_step: float(random) };
    let run = |of: &Kernels| {
        let mut to = stats;
        let [m, offset] = &mut to;
        let to_both = [m, offset].map(|x| x.get_mut(..c).unwrap_or_default());
        (of.norm_constants)(source, to_both, [&affine[0], &affine[1]].map(|x| x.get(..c).unwrap_or_default()));
        to
    };
    run(table) == run(&SCALAR)
}

/// Sums of a few groups that lie somewhere among a pixel's channels; short ones, and ones that fill a word, are frequent.
fn sums<T>(random: &mut Random, elems: &[T], [got, want]: [Sums<T>; 2]) -> bool {
    let channels = 1 + random.below(160);
    let first = random.below(channels);
    let most = channels - first;
    let group_c = match random.below(3) {
        0 => 1 + random.below(most),
        _ => most.min(1 << random.below(6)),
    };
    let row = elems.get(..random.below(LEN / channels + 1) * channels).unwrap_or_default();
    let groups = (1 + random.below(most / group_c)).min(16);
    let run = |sums: Sums<T>| move |totals: &mut [[u64; 2]]| sums(totals, row, channels, first, group_c);
    both::<[u64; 2], 16>([9; 2], groups, [&run(got), &run(want)])
}

fn sums_i8(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i8s();
    sums(random, &elems, [table.sums_i8, SCALAR.sums_i8])
}

fn sums_i16(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i16s();
    sums(random, &elems, [table.sums_i16, SCALAR.sums_i16])
}

/// A norm's constants, within what `prepare` makes; with a table or without one.
fn norm(random: &mut Random, dtype_i8: bool, run: impl Fn(&mut [i8], usize, usize, NormConstants<'_>, bool)) -> bool {
    const C: usize = 72;
    let limit = if dtype_i8 { 1 << 30 } else { 1 << 29 };
    let multiplier: [i32; C] = core::array::from_fn(|_| random.value(1 - limit, limit - 1) >> random.below(12));
    let offset: [i32; C] = core::array::from_fn(|_| random.value(-(1 << 29), 1 << 29) >> random.below(16));
    let table: [i16; Table::LEN] = core::array::from_fn(|_| random.value(-32_767, 32_767) as i16);
    // Multiples of 8 are frequent, and so is a single source.
    let src_c = if random.below(2) == 0 { 1 + random.below(C) } else { 8 + 8 * random.below(C / 8) };
    let more = random.below(16).saturating_sub(8);
    let pixels = random.below(OUT_LEN / (src_c + more) + 1);
    let constants = NormConstants {
        multiplier: multiplier.get(..src_c).unwrap_or_default(),
        offset: offset.get(..src_c).unwrap_or_default(),
        zero_point: if dtype_i8 { random.value(-128, 127) } else { 0 },
        table: if random.below(3) == 0 { &[] } else { &table },
        out_multiplier: random.value(0, 1 << 28),
        out_zero_point: random.value(-128, 127),
    };
    let out_c = src_c + more;
    let len = pixels * out_c;
    both::<i8, OUT_LEN>(
        0,
        len,
        [&|out| run(out, out_c, src_c, constants, true), &|out| run(out, out_c, src_c, constants, false)],
    )
}

fn norm_i8(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i8s();
    norm(random, true, |out, out_c, src_c, constants, other| {
        let src = elems.get(..out.len() / out_c * src_c).unwrap_or_default();
        (if other { table.norm_i8 } else { SCALAR.norm_i8 })(out, out_c, src, src_c, constants);
    })
}

fn norm_i16(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i16s();
    norm(random, false, |out, out_c, src_c, constants, other| {
        let src = elems.get(..out.len() / out_c * src_c).unwrap_or_default();
        (if other { table.norm_i16 } else { SCALAR.norm_i16 })(out, out_c, src, src_c, constants);
    })
}

fn softmax(table: &Kernels, random: &mut Random) -> bool {
    let scores: [i32; 64] = core::array::from_fn(|_| random.value(-(1 << 22), 1 << 22) >> random.below(12));
    let entries: [u16; 128] = core::array::from_fn(|_| random.value(0, 1 << 15) as u16);
    let (coarse, fine) = entries.split_at_checked(64).unwrap_or_default();
    let (shift, multiplier) = (random.below(16) as u32, random.value(0, (1 << 30) - 1) >> random.below(16));
    let constants = Exponential { shift, multiplier, coarse, fine, right: 15 + random.below(5) as u32 };
    let len = random.below(64);
    let [mut got, mut want] = [scores; 2];
    let [got_sum, want_sum] = [(&mut got, table), (&mut want, &SCALAR)]
        .map(|(scores, table)| (table.softmax)(scores.get_mut(..len).unwrap_or_default(), constants));
    (got, got_sum) == (want, want_sum)
}

fn softmax_rows(table: &Kernels, random: &mut Random) -> bool {
    // Scores as far apart as those of a trained network, or as random bytes make them.
    let spread = random.below(20);
    let scores: [i32; 3 * 80] = core::array::from_fn(|_| random.value(-(1 << 22), 1 << 22) >> spread);
    let added: [i32; 80] = core::array::from_fn(|_| random.value(-(1 << 17), 1 << 17) >> random.below(17));
    let entries: [u16; 128] = core::array::from_fn(|_| random.value(0, i16::MAX as i32) as u16);
    let (coarse, fine) = entries.split_at_checked(64).unwrap_or_default();
    let (shift, multiplier) = (random.below(16) as u32, random.value(0, (1 << 30) - 1) >> random.below(16));
    let shift = if random.below(2) == 0 { 0 } else { shift };
    let constants = Exponential { shift, multiplier, coarse, fine, right: 15 + random.below(5) as u32 };
    let (rows, len) = (random.below(4), 1 + random.below(80));
    let added = added.get(..len).unwrap_or_default();
    let scores = scores.get(..rows * len).unwrap_or_default();
    let of = |table: &Kernels| {
        let (mut weights, mut totals) = ([-1i16; 3 * 80], [-1i32; 3]);
        let some = weights.get_mut(..rows * len.next_multiple_of(4)).unwrap_or_default();
        (table.softmax_rows)(some, totals.get_mut(..rows).unwrap_or_default(), scores, added, constants);
        (weights, totals)
    };
    of(table) == of(&SCALAR)
}

/// Heads of any size, and fewer queries than positions; scales up to where outputs are shifted.
fn attend(table: &Kernels, random: &mut Random) -> bool {
    const ROWS: usize = 44;
    const WIDTH: usize = 48;
    if !select::TILING.attends() {
        return true;
    }
    let heads = 1 + random.below(3);
    let head_dim = 1 + random.below(WIDTH / heads - 3);
    let c = heads * head_dim;
    let positions = 1 + random.below(ROWS.min(LEN / c));
    // Scores as far apart as those of a trained network, or as random bytes make them.
    let spread = random.below(7);
    let [q, k, v] = [spread, spread, 0].map(|spread| random.i8s().map(|elem| elem >> spread));
    let elems = [positions.min(1 + random.below(ROWS)), positions, positions].map(|rows| rows * c);
    let [q, k, v] = [(&q, elems[0]), (&k, elems[1]), (&v, elems[2])].map(|(x, len)| x.get(..len).unwrap_or_default());
    let mut entries: [u16; 128] = core::array::from_fn(|_| random.value(0, i16::MAX as i32) as u16);
    let real = random.below(2) == 0;
    if real {
        // exp(−i/4).
        let mut entry = i16::MAX as u32;
        for coarse in entries.iter_mut().take(64) {
            *coarse = entry as u16;
            entry = (entry * 25_520) >> 15;
        }
    }
    let (coarse, fine) = entries.split_at_checked(64).unwrap_or_default();
    let (shift, right) = (random.below(16) as u32, 15 + random.below(5) as u32);
    let [shift, right] = if real && random.below(4) > 0 { [0, 15] } else { [shift, right] };
    let multiplier = random.value(0, (1 << 30) - 1) >> random.below(16);
    let mut quant = |least: i32| Quant {
        scale: f32::from_bits((127 + random.between(least, 8)) as u32 * (1 << 23) + random.below(1 << 23) as u32),
        zero_point: random.value(-128, 127) as i16,
    };
    let quants = [quant(-8), quant(-20)];
    let exponential = Exponential { shift, multiplier, coarse, fine, right };
    let run = |table: &Kernels| {
        let (mut out, mut packed) = ([99; LEN], [0; ROWS * WIDTH + 16]);
        let mut scratch = [0; AttendScratch::QUERIES * (WIDTH / 4 + ROWS) + 16];
        (table.attend_pack)(&mut packed, [k, v], [c, heads]);
        let attention = Attention { c, heads, positions, elems: [q, k, v], packed: &packed, exponential, quants };
        (table.attend)(out.get_mut(..q.len()).unwrap_or_default(), &mut scratch, attention);
        out
    };
    run(table) == run(&SCALAR)
}

fn mix_i8(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i8s();
    let (len, stride, at) = (random.below(64), random.below(30), random.offset());
    let weights: [i32; 32] = core::array::from_fn(|_| random.value(0, (1 << 15) - 1));
    let weights = weights.get(..random.below((LEN - 64) / (len + stride).max(46))).unwrap_or_default();
    let rows = Strided { elems: elems.get(at..).unwrap_or_default(), stride: len + stride };
    both::<i32, 64>(
        -12_345,
        len,
        [&|out| (table.mix_i8)(out, weights, rows), &|out| (SCALAR.mix_i8)(out, weights, rows)],
    )
}

/// Against a direct convolution, which is what it must give.
fn winograd(table: &Kernels, random: &mut Random) -> bool {
    const TILES: usize = if select::TILING.winograd_tiles() < 7 { 4 } else { 7 };
    const GROUP: usize = select::TILING.winograd_group();
    // Those of LEN / 9 pairs of channels, filled up to whole groups.
    const ROW: usize = select::TILING.winograd_coefficients() * select::TILING.winograd_row(16);
    const TRANSFORMED: usize = if GROUP == 4 { COEFFICIENTS * LEN / 9 } else { ROW * 32 };
    // Pixels of a tile times at most 20 channels.
    const SUMS: usize = TILES * if GROUP == 4 { 4 } else { 16 } * 20;
    let (elems, weights) = (random.i8s(), random.i8s().map(|w| w.max(-127)));
    let in_c = 4 * (1 + random.below(4));
    // As many as there are weights for, and room for those transformed.
    let channels = 4 * (1 + random.below((LEN / 9 / in_c / 4).min(5)));
    let upsampled = select::TILING.winograd_always() && random.below(2) == 1;
    let size = if upsampled { 2 } else { table.winograd_size };
    let (step, rows, least) = match table.winograd_size {
        2 => (if upsampled { 1 } else { 2 }, 1, 2),
        _ => (if upsampled { 1 } else { size }, 1 + random.below(2), 1),
    };
    // As many as there are elements for.
    let most = ((LEN / in_c / (size * rows + 2)).saturating_sub(2) / size).min(TILES / rows);
    let columns = least + random.below(most + 1 - least);
    let [row_len, up_len] = [size, step].map(|step| (step * columns + 2) * in_c);
    let (mut pixels, mut larger) = ([0i16; LEN], [0i16; LEN]);
    pixels.iter_mut().zip(elems).for_each(|(to, elem)| *to = elem.into());
    // What a direct convolution reads: each pixel but those at the edges twice, each way.
    for (y, row) in larger.chunks_exact_mut(row_len).take(size * rows + 2).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(in_c).enumerate() {
            let [y, x] = if upsampled { [y.div_ceil(2), x.div_ceil(2)] } else { [y, x] };
            let from = pixels.get(y * up_len + x * in_c..).unwrap_or_default();
            pixel.iter_mut().zip(from).for_each(|(to, &elem)| *to = elem);
        }
    }
    let window = pixels.get(..(step * rows + 2) * up_len).unwrap_or_default();
    let mut ordered = Aligned([0; LEN]);
    exchanged(&mut ordered.0, window, table.exchanged);

    let mut transformed = Aligned([0i16; TRANSFORMED]);
    let mut values = Aligned([0i16; ROW * TILES]);
    let mut products = [0i32; select::TILING.winograd_coefficients() * GROUP * TILES];
    let block_len = 36 * in_c;
    for block in (0..channels / 4).step_by(select::TILING.winograd_blocks()) {
        let codes = weights.get(block * block_len..channels / 4 * block_len).unwrap_or_default();
        (table.winograd_weights)(&mut transformed.0, block, codes, in_c, upsampled);
    }
    let [mut got, mut want] = [[-1i32; SUMS]; 2];
    let out_row_len = size * columns * channels;
    let tile = WinogradTile {
        window: ordered.0.get_mut(..window.len()).unwrap_or_default(),
        upsampled,
        known: false,
        in_c,
        rows,
        columns,
        weights: &transformed.0,
        values: &mut values.0,
        products: &mut products,
    };
    (table.winograd)(got.get_mut(..size * rows * out_row_len).unwrap_or_default(), channels, tile);
    for (row, sums) in want.chunks_exact_mut(out_row_len).take(size * rows).enumerate() {
        let elems = larger.get(row * row_len..).unwrap_or_default();
        let window = Window { elems, runs: 3, run_len: 3 * in_c, run_stride: row_len, pixel_stride: in_c, row_gap: 0 };
        (SCALAR.conv_i16)(sums, channels, window, &weights);
    }
    got == want
}

fn sum_taps(table: &Kernels, random: &mut Random) -> bool {
    let channels = 4 * random.below(6);
    let w = random.below(LEN / (TAPS * channels).max(9) / 2);
    let len = (w + 2) * TAPS * channels;
    let elems: [i32; LEN] = core::array::from_fn(|_| random.value(i32::MIN, i32::MAX));
    let rows = [0, 1, 2].map(|_| elems.get(random.below(LEN - len.min(LEN - 1))..).unwrap_or_default());
    let rows = rows.map(|row| row.get(..len).unwrap_or_default());
    both::<i32, OUT_LEN>(
        77,
        (2 * w * channels).min(OUT_LEN / channels.max(1) * channels),
        [&|out| (table.sum_taps)(out, channels, rows), &|out| (SCALAR.sum_taps)(out, channels, rows)],
    )
}
