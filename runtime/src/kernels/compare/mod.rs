//! Any table against scalar, on random inputs: shapes that leave tails, values at the ends of their ranges.
//!
//! Needs no allocator, so it runs on the device as well as on the host (`tests/tests/kernels.rs`, the firmware's
//! `checks`). A difference names the kernel and the seed that shows it.

mod attention;
mod convolutions;

use super::constants::{ConvOutput, ConvSource, GroupSource, NormSource};
use super::scalar::TABLE as SCALAR;
use super::{Channels, Frame, Kernels, NormConstants, Requantization, Requantize, Residual, Spread, Sums, select};
use crate::format::op::Table;
use crate::format::schedule::{Clip, Store};
use crate::format::{DType, Quant, Row};
use crate::sampler::coefficients::Bounds;
use crate::sampler::noise::chacha8;
use attention::{attend, dot_i8, mix_i8, softmax, softmax_rows};
use convolutions::{
    conv_bytes, conv_f32, conv_i8, conv_i16, conv_pixels, conv_up_bytes, exchanged, sum_taps, unpack_i4, winograd,
};

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
    let all: [(&'static str, Same); 34] = [
        ("copy", copy),
        ("widen", widen),
        ("frame_i8", frame_i8),
        ("frame_i16", frame_i16),
        ("load", load),
        ("conv_i8", conv_i8),
        ("conv_i16", conv_i16),
        ("dot_i8", dot_i8),
        ("scale", scale),
        ("add_i8", add_i8),
        ("add_i16", add_i16),
        ("store_i8", store_i8),
        ("requantize", requantize),
        ("quantize", quantize),
        ("update", update),
        ("conv_constants", conv_constants),
        ("spread", spread),
        ("norm_constants", norm_constants),
        ("group_stats", group_stats),
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
        ("conv_bytes", conv_bytes),
        ("conv_f32", conv_f32),
        ("conv_pixels", conv_pixels),
        ("conv_up_bytes", conv_up_bytes),
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

/// A frame, and elements that it fills: up to three rows of more than two vectors.
fn frame<T>(random: &mut Random, pad: T) -> (Frame<T>, usize) {
    let (rows, len) = (random.below(4), random.below(150));
    let [stride, before, gap] = [len + random.below(8), random.below(80), random.below(80)];
    let fits = before + rows * len + rows.saturating_sub(1) * gap;
    (Frame { rows, len, stride, before, gap, pad }, fits + random.below(80))
}

fn frame_i8(table: &Kernels, random: &mut Random) -> bool {
    let (elems, pad) = (random.i8s(), random.bits() as i8);
    let (frame, len) = frame(random, pad);
    let run = |fill: fn(&mut [i8], &[i8], Frame<i8>)| move |out: &mut [i8]| fill(out, &elems, frame);
    both::<i8, 800>(0, len, [&run(table.frame_i8), &run(SCALAR.frame_i8)])
}

fn frame_i16(table: &Kernels, random: &mut Random) -> bool {
    let (elems, pad) = (random.i8s(), random.bits() as i16);
    let (frame, len) = frame(random, pad);
    let run = |fill: fn(&mut [i16], &[i8], Frame<i16>)| move |out: &mut [i16]| fill(out, &elems, frame);
    both::<i16, 800>(0, len, [&run(table.frame_i16), &run(SCALAR.frame_i16)])
}

fn quantize(table: &Kernels, random: &mut Random) -> bool {
    let x: [f32; 64] = core::array::from_fn(|_| float(random) * random.between(-1, 1) as f32);
    let (affine, scale) = ([0; 2].map(|_| float(random)), float(random));
    let quant = Quant { scale, zero_point: random.value(-128, 127) as i16 };
    let from = x.get(..random.below(65)).unwrap_or_default();
    type Of = fn(&mut [i8], &[f32], [f32; 2], Quant);
    let run = |quantize: Of| move |out: &mut [i8]| quantize(out, from, affine, quant);
    both::<i8, 64>(0, from.len(), [&run(table.quantize), &run(SCALAR.quantize)])
}

fn load(table: &Kernels, random: &mut Random) -> bool {
    let (elems, len) = (random.i16s(), random.below(12) * 4);
    let from = |at: usize| elems.get(at..at + len).unwrap_or_default();
    let at = random.offset();
    both::<i16, 64>(0, len, [&|out| (table.load)(out, from(at)), &|out| exchanged(out, from(at), table.exchanged)])
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

fn update(table: &Kernels, random: &mut Random) -> bool {
    const ELEMS: usize = 70;
    let elems: [[f32; ELEMS]; 2] =
        [0; 2].map(|_| core::array::from_fn(|_| float(random) * random.between(-1, 1) as f32));
    let [p, q, r, s, a, b, c] = [0; 7].map(|_| float(random) * random.between(-1, 1) as f32);
    let (timestep, graph, null_graph, advance, clip) = (0.0, 0, 0, true, Clip::None);
    let (d, e, store, store_slot) = (0.0, [0.0; 4], Store::None, 0);
    let row = Row { timestep, graph, null_graph, advance, p, q, clip, r, s, a, b, c, d, e, store, store_slot };
    let bounds = Bounds { range: float(random), divide: if random.below(2) == 0 { 1.0 } else { float(random) } };
    let len = random.below(ELEMS + 1);
    let run = |of: &Kernels| {
        let mut to = elems;
        let [x, model] = to.each_mut().map(|to| to.get_mut(..len).unwrap_or_default());
        of.update.iter().for_each(|update| update(&mut *x, &mut *model, &row, bounds));
        // As in `group_stats`.
        to.map(|to| to.map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }))
    };
    run(table) == run(&SCALAR)
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

fn spread(table: &Kernels, random: &mut Random) -> bool {
    const C: usize = 70;
    let stats: [[f32; 2]; 40] = core::array::from_fn(|_| [float(random), float(random)]);
    let (groups, group_c) = (1 + random.below(40), 1 + random.below(12));
    let stats = stats.get(..groups).unwrap_or_default();
    // All groups' channels, or fewer, or more.
    let c = if random.below(4) > 0 { (groups * group_c).min(C) } else { random.below(C + 1) };
    let run = |spread: Spread| {
        let mut to = [[1; C]; 2];
        let [rstds, means] = to.each_mut().map(|to| to.get_mut(..c).unwrap_or_default());
        spread([rstds, means], stats, group_c);
        to.map(|to| to.map(|bits| bits as u32))
    };
    run(table.spread) == run(SCALAR.spread)
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

/// Sums that a group may have, and any.
fn group_stats(table: &Kernels, random: &mut Random) -> bool {
    const GROUPS: usize = 20;
    let n = 1 + (random.bits() >> random.below(32)) as u64;
    let sums: [[u64; 2]; GROUPS] = core::array::from_fn(|_| match random.below(8) {
        0 => [(); 2].map(|()| (random.bits() as u64) << 32 | random.bits() as u64),
        _ => {
            let mean = random.value(-128, 127) as i64;
            [n.wrapping_mul(mean as u64), n.wrapping_mul((mean * mean) as u64 + random.below(1 << 14) as u64)]
        }
    });
    let zero_point = random.value(-128, 127) as f32;
    let source = GroupSource { n, scale: float(random), zero_point, eps: float(random) };
    let groups = random.below(GROUPS + 1);
    let run = |of: &Kernels| {
        let mut out = [[0.0; 2]; GROUPS];
        let out_of = out.get_mut(..groups).unwrap_or_default();
        (of.group_stats)(out_of, sums.get(..groups).unwrap_or_default(), source);
        // Any NaN is one: which of them comes out of an operation is nobody's promise.
        out.map(|stats| stats.map(|x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }))
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
fn norm(
    kernels: &Kernels,
    random: &mut Random,
    dtype_i8: bool,
    run: impl Fn(&mut [i8], usize, usize, NormConstants<'_>, bool),
) -> bool {
    const C: usize = 72;
    let limit = if dtype_i8 { 1 << 30 } else { 1 << 29 };
    let multiplier: [i32; C] = core::array::from_fn(|_| random.value(1 - limit, limit - 1) >> random.below(12));
    let offset: [i32; C] = core::array::from_fn(|_| random.value(-(1 << 29), 1 << 29) >> random.below(16));
    // Any table, or a smooth one, whose results go up or down by one.
    let smooth = random.below(3) > 0;
    let (mut entry, mut up) = (0, 1);
    let table: [i16; Table::LEN] = core::array::from_fn(|_| {
        if !smooth {
            return random.value(-32_767, 32_767) as i16;
        }
        if random.below(128) == 0 {
            up = -up;
        }
        entry = (entry + up * random.between(0, 64)).clamp(-32_767, 32_767);
        entry as i16
    });
    // Multiples of 8 are frequent, and so is a single source.
    let src_c = if random.below(2) == 0 { 1 + random.below(C) } else { 8 + 8 * random.below(C / 8) };
    let more = random.below(16).saturating_sub(8);
    let pixels = random.below(OUT_LEN / (src_c + more) + 1);
    let constants = NormConstants {
        multiplier: multiplier.get(..src_c).unwrap_or_default(),
        offset: offset.get(..src_c).unwrap_or_default(),
        zero_point: if dtype_i8 { random.value(-128, 127) } else { 0 },
        table: if random.below(3) == 0 { &[] } else { &table },
        results: [&[]; _],
        out_multiplier: random.value(0, 1 << 28) >> if smooth { random.below(6) } else { 0 },
        out_zero_point: random.value(-128, 127),
    };
    let mut results = [0; select::TILING.norm_table()];
    for make in kernels.norm_table {
        make(&mut results, constants.table, constants.out_multiplier, constants.out_zero_point);
    }
    let constants = NormConstants { results: [&results; _], ..constants };
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
    norm(table, random, true, |out, out_c, src_c, constants, other| {
        let src = elems.get(..out.len() / out_c * src_c).unwrap_or_default();
        (if other { table.norm_i8 } else { SCALAR.norm_i8 })(out, out_c, src, src_c, constants);
    })
}

fn norm_i16(table: &Kernels, random: &mut Random) -> bool {
    let elems = random.i16s();
    norm(table, random, false, |out, out_c, src_c, constants, other| {
        let src = elems.get(..out.len() / out_c * src_c).unwrap_or_default();
        (if other { table.norm_i16 } else { SCALAR.norm_i16 })(out, out_c, src, src_c, constants);
    })
}
