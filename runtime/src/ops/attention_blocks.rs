//! Attention in blocks of queries: two convolutions with a softmax between them.
//!
//! `Q·Kᵀ` is a 1×1 convolution whose pixels are queries and whose output channels are positions; `weights·V` is one whose
//! input elements are positions. So each head's keys and values are packed once into the format's blocks of weights, and
//! the kernels of convolutions do the rest, in register tiles: the same integers as one query at a time, in another order.
//!
//! For hosts that do without a kernel for all of it. Packed they take as much scratch as the tensors, and the scores of a block lie beside them
//! ([`Tiling::score_bytes`](crate::kernels::tiling::Tiling::score_bytes)).

use super::Context;
use super::conv::is_wide;
use super::parts::{Cost, over_rows};
use crate::arena::{cast, cast_mut, take_front};
use crate::kernels::scratch::BlockScratch;
use crate::kernels::{Attention, Channels, Kernels, Window};
use crate::opset::OpSet;
use core::ops::Range;

/// Output rows `rows`, of which `out_rows` are the bytes. The first call packs, the others find that in scratch.
pub(super) fn run<const OPS: OpSet>(
    ctx: &Context<'_, OPS>,
    attention: &Attention<'_>,
    parts: &BlockScratch,
    rows: Range<usize>,
    out_rows: &mut [u8],
    mut scratch: &mut [u8],
    cost: Cost,
) {
    let kernels = ctx.kernels;
    let &Attention { c, heads, positions, elems: [q, k, v], .. } = attention;
    let head_dim = c / heads.max(1);
    let row_elems = out_rows.len() / rows.len().max(1);
    // Padded to whole blocks.
    let (dim, len) = (head_dim.next_multiple_of(4), positions.next_multiple_of(4));
    let keys: &mut [i8] = cast_mut(take_front(&mut scratch, parts.packed));
    let values: &mut [i8] = cast_mut(take_front(&mut scratch, parts.packed));
    let added: &mut [i32] = cast_mut(take_front(&mut scratch, parts.added));
    let of_head = |head: usize| head * dim * len..(head + 1) * dim * len;
    let added_to = |head: usize| head * positions..(head + 1) * positions;
    if rows.start == 0 {
        let zeros = Queries::load(kernels, &mut *scratch, &[], [head_dim, dim, heads]);
        for head in 0..heads {
            let keys = keys.get_mut(of_head(head)).unwrap_or_default();
            pack(keys, k.get(head * head_dim..).unwrap_or_default(), c, dim);
            zeros.scores(kernels, added.get_mut(added_to(head)).unwrap_or_default(), positions, head, keys);
            let values = values.get_mut(of_head(head)).unwrap_or_default();
            pack_transposed(values, v.get(head * head_dim..).unwrap_or_default(), c, len);
        }
    }
    let (keys, values, added) = (&*keys, &*values, &*added);
    over_rows(ctx, rows, (out_rows, row_elems), scratch, cost, |rows, out_bytes, mut scratch| {
        let window = take_front(&mut scratch, parts.window);
        let all_scores: &mut [i32] = cast_mut(take_front(&mut scratch, parts.scores));
        let all_weights: &mut [i16] = cast_mut(take_front(&mut scratch, parts.weights));
        let [all_sums, bias, multipliers, totals] = [parts.sums, parts.sums, parts.sums, parts.totals]
            .map(|bytes| cast_mut::<i32>(take_front(&mut scratch, bytes)));
        let of_rows = rows.start * row_elems..rows.end * row_elems;
        let blocks = q.get(of_rows).unwrap_or_default().chunks((parts.queries * c).max(1));
        for (q, out) in blocks.zip(cast_mut::<i8>(out_bytes).chunks_mut((parts.queries * c).max(1))) {
            let count = q.len() / c.max(1);
            let queries = Queries::load(kernels, window, q, [head_dim, dim, heads]);
            let scores = all_scores.get_mut(..count * positions).unwrap_or_default();
            let weights = all_weights.get_mut(..count * len).unwrap_or_default();
            let sums = all_sums.get_mut(..count * head_dim).unwrap_or_default();
            let totals = totals.get_mut(..count).unwrap_or_default();
            for head in 0..heads {
                queries.scores(kernels, scores, positions, head, keys.get(of_head(head)).unwrap_or_default());
                let added = added.get(added_to(head)).unwrap_or_default();
                (kernels.softmax_rows)(weights, totals, scores, added, attention.exponential);
                let window =
                    Window { elems: &*weights, runs: 1, run_len: len, run_stride: len, pixel_stride: len, row_gap: 0 };
                (kernels.conv_i16)(sums, head_dim, window, values.get(of_head(head)).unwrap_or_default());
                scale(kernels, attention, sums, totals, [bias, multipliers]);
                let pixels = out.chunks_exact_mut(c.max(1)).zip(sums.chunks_exact(head_dim.max(1)));
                for (out, sums) in pixels {
                    let out = out.get_mut(head * head_dim..).unwrap_or_default();
                    out.iter_mut().zip(sums).for_each(|(to, &value)| *to = attention.output(value));
                }
            }
        }
    });
}

/// Sums to the output's scale, with the factor of each query, whose shift takes its total's place: one call of the kernel for all that
/// are shifted alike, which are all of them unless a file's scales are strange.
fn scale(
    kernels: &Kernels,
    attention: &Attention<'_>,
    sums: &mut [i32],
    totals: &mut [i32],
    [bias, multipliers]: [&mut [i32]; 2],
) {
    let head_dim = (attention.c / attention.heads.max(1)).max(1);
    let queries = bias.chunks_exact_mut(head_dim).zip(multipliers.chunks_exact_mut(head_dim));
    for ((bias, multipliers), total) in queries.zip(&mut *totals) {
        let factor = attention.factor(*total);
        bias.fill(factor.zero.wrapping_neg());
        multipliers.fill(factor.multiplier);
        *total = factor.shift as i32;
    }
    let mut first = 0;
    for shifts in totals.chunk_by(|a, b| a == b) {
        let place = first * head_dim..(first + shifts.len()) * head_dim;
        first += shifts.len();
        let channels = Channels {
            bias: bias.get(place.clone()).unwrap_or_default(),
            multiplier: multipliers.get(place.clone()).unwrap_or_default(),
            shift: shifts.first().map_or(0, |&shift| shift as u32),
        };
        (kernels.scale)(sums.get_mut(place).unwrap_or_default(), channels);
    }
}

/// Queries as pixels of a convolution, of all heads' channels.
struct Queries<'a> {
    bytes: &'a [u8],
    /// Elements of a head, and of all.
    dim: usize,
    pixel: usize,
}

impl<'a> Queries<'a> {
    /// Loads whole pixels, or, from nothing, one of zeros; each head's elements are padded with zeros.
    fn load(kernels: &Kernels, to: &'a mut [u8], elems: &[i8], [head_dim, dim, heads]: [usize; 3]) -> Queries<'a> {
        let pixel = dim * heads;
        if is_wide(kernels) {
            copy_padded(cast_mut::<i16>(to), elems, [head_dim, dim], pixel);
        } else {
            copy_padded(cast_mut::<i8>(to), elems, [head_dim, dim], pixel);
        }
        Queries { bytes: to, dim, pixel }
    }

    /// `out[query·positions + position]`, from a head's packed keys.
    fn scores(&self, kernels: &Kernels, out: &mut [i32], positions: usize, head: usize, keys: &[i8]) {
        let (at, dim) = (head * self.dim, self.dim);
        if is_wide(kernels) {
            let elems = cast(self.bytes).get(at..).unwrap_or_default();
            let window = Window { elems, runs: 1, run_len: dim, run_stride: dim, pixel_stride: self.pixel, row_gap: 0 };
            (kernels.conv_i16)(out, positions, window, keys);
        } else {
            let elems = cast(self.bytes).get(at..).unwrap_or_default();
            let window = Window { elems, runs: 1, run_len: dim, run_stride: dim, pixel_stride: self.pixel, row_gap: 0 };
            (kernels.conv_i8)(out, positions, window, keys);
        }
    }
}

/// Rows of `from` elements to rows of `len`, with zeros behind each; a pixel of zeros where there are none.
fn copy_padded<T: Copy + From<i8>>(to: &mut [T], elems: &[i8], [from, len]: [usize; 2], pixel: usize) {
    if elems.is_empty() {
        to.iter_mut().take(pixel).for_each(|to| *to = 0.into());
    }
    // Without padding it is one row.
    let [from, len] = if from == len { [elems.len(); 2] } else { [from, len] };
    for (to, elems) in to.chunks_mut(len.max(1)).zip(elems.chunks(from.max(1))) {
        let (some, rest) = to.split_at_mut_checked(from).unwrap_or_default();
        some.iter_mut().zip(elems).for_each(|(to, &elem)| *to = elem.into());
        rest.iter_mut().for_each(|to| *to = 0.into());
    }
}

/// Four elements from `at` on, zeros behind the end.
fn four(elems: &[i8], at: usize) -> [i8; 4] {
    let rest = elems.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| core::array::from_fn(|i| rest.get(i).copied().unwrap_or(0)))
}

/// Blocks of four rows, `stride` apart, as [`Encoding::I8`](crate::format::Encoding::I8) has them; `len` is a multiple of
/// four. What lies behind a row's own elements is whatever, since the queries have zeros there.
fn pack(to: &mut [i8], elems: &[i8], stride: usize, len: usize) {
    for (i, rows) in to.chunks_exact_mut((4 * len).max(1)).enumerate() {
        for (k, block) in rows.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            for (j, to) in block.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *to = four(elems, (4 * i + j) * stride + 4 * k);
            }
        }
    }
}

/// As [`pack`] for rows that lie as columns: element k of row j is at k·stride + j. Behind the last column the weights
/// are zeros, so that here, too, anything may lie.
fn pack_transposed(to: &mut [i8], elems: &[i8], stride: usize, len: usize) {
    const EVEN: u32 = 0x00ff_00ff;
    for (i, rows) in to.chunks_exact_mut((4 * len).max(1)).enumerate() {
        for (k, block) in rows.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let column =
                |j: usize| u32::from_le_bytes(four(elems, (4 * k + j) * stride + 4 * i).map(|elem| elem as u8));
            // Bytes 0 and 2, and bytes 1 and 3, of two columns; then pairs of those.
            let pairs = |a: u32, b: u32| [a & EVEN | (b & EVEN) << 8, (a >> 8) & EVEN | b & !EVEN];
            let ([a, b], [c, d]) = (pairs(column(0), column(1)), pairs(column(2), column(3)));
            let rows = [a & 0xffff | c << 16, b & 0xffff | d << 16, a >> 16 | c & !0xffff, b >> 16 | d & !0xffff];
            for (to, row) in block.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
                *to = row.to_le_bytes().map(|elem| elem as i8);
            }
        }
    }
}
