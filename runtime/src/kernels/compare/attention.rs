//! The kernels of attention.

use super::super::scalar::TABLE as SCALAR;
use super::super::scratch::AttendScratch;
use super::super::{Attention, Exponential, Kernels, Strided, select};
use super::{LEN, Random, both};
use crate::format::Quant;

pub(super) fn dot_i8(table: &Kernels, random: &mut Random) -> bool {
    let (row, rows) = (random.i8s(), random.i8s());
    let (len, stride) = (1 + random.below(40), random.below(30));
    let (stride, count) = (len + stride, 1 + random.below(20));
    let (at, row_at) = (random.offset(), random.offset());
    let row = row.get(row_at..row_at + len).unwrap_or_default();
    let rows = Strided { elems: rows.get(at..).unwrap_or_default(), stride };
    both::<i32, 64>(-1, count, [&|out| (table.dot_i8)(out, row, rows), &|out| (SCALAR.dot_i8)(out, row, rows)])
}

pub(super) fn softmax(table: &Kernels, random: &mut Random) -> bool {
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

pub(super) fn softmax_rows(table: &Kernels, random: &mut Random) -> bool {
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
pub(super) fn attend(table: &Kernels, random: &mut Random) -> bool {
    const ROWS: usize = 44;
    const WIDTH: usize = 48;
    if !select::TILING.attends() {
        return true;
    }
    let heads = 1 + random.below(3);
    let mut head_dim = 1 + random.below(WIDTH / heads - 3);
    // Nothing to round up, and a whole block of queries, which few have otherwise.
    let whole = random.below(4) == 0;
    if whole {
        head_dim = head_dim.next_multiple_of(if heads == 2 { 8 } else { 16 });
    }
    let c = heads * head_dim;
    let mut positions = 1 + random.below(ROWS.min(LEN / c));
    if whole {
        positions = positions.max(ROWS.min(LEN / c) - 2);
    }
    // Scores as far apart as those of a trained network, or as random bytes make them.
    let spread = random.below(7);
    let [q, k, v] = [spread, spread, 0].map(|spread| random.i8s().map(|elem| elem >> spread));
    let queries = if whole { positions } else { positions.min(1 + random.below(ROWS)) };
    let elems = [queries, positions, positions].map(|rows| rows * c);
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

pub(super) fn mix_i8(table: &Kernels, random: &mut Random) -> bool {
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
