//! [`winograd512`](super::winograd512) behind an upsampling: 9 coefficients of tiles of 2×2 pixels.
//!
//! Weights lie `[⌈channels / 8⌉][9][in_c / 4][8 channels][4]`: a vector meets four input channels of a tile, broadcast, and has two sums a
//! channel, which are added in the end.

#![allow(clippy::needless_range_loop)] // rows and columns of several matrices at once

use super::TILING;
use super::winograd512::{GROUP, Values, add_products};
use super::winograd512_ends::weights_1d;
use core::arch::x86_64::*;

/// Output channels of a vector of weights.
const LANES: usize = GROUP / 2;

/// Tiles of a register tile: 2 × 8 accumulators, of the 16 tiles that there are at a time half.
const TILES: usize = 8;

/// Coefficients.
const COUNT: usize = 9;

/// Eight channels: a vector is four input channels of them.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) fn transform(out: &mut [i16], block: usize, codes: &[i8], in_c: usize) {
    let quads = in_c / 4;
    let (codes, _) = codes.as_chunks::<16>();
    if codes.len() / 9 < quads {
        return;
    }
    let stride = LANES * TILING.winograd_row(in_c);
    let group_len = 9 * stride;
    let Some(out) = out.get_mut((block / 2).saturating_mul(group_len)..).and_then(|rest| rest.get_mut(..group_len))
    else {
        return;
    };
    // Of the two blocks there may be one.
    let second = if codes.len() < 18 * quads { 0 } else { 9 * quads };
    let mut down = [[_mm512_setzero_si512(); 3]; 3];
    for quad in 0..quads {
        // The next blocks of the file, as many bytes as are read here.
        for line in 0..5 {
            let ahead = codes.as_ptr().wrapping_add(18 * (quads + quad) + 4 * line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        // SAFETY: tap·quads + quad is below 9·quads.
        let tap = |tap: usize| unsafe {
            let from = codes.as_ptr().add(tap * quads + quad);
            let [a, b] = [from, from.add(second)].map(|from| _mm_loadu_si128(from.cast()));
            _mm512_cvtepi8_epi16(_mm256_set_m128i(b, a))
        };
        for kx in 0..3 {
            let column = weights_1d::<3>([tap(kx), tap(3 + kx), tap(6 + kx)]);
            for y in 0..3 {
                down[y][kx] = column[y];
            }
        }
        for y in 0..3 {
            for (x, weights) in weights_1d::<3>(down[y]).into_iter().enumerate() {
                // SAFETY: four of the number's in_c input channels, of eight output channels.
                unsafe {
                    let to = out.as_mut_ptr().add((3 * y + x) * stride + quad * 4 * LANES);
                    _mm512_storeu_si512(to.cast(), weights);
                }
            }
        }
    }
}

/// The products of sixteen channels from `first` on, or those that are left of `channels`, with all tiles: `[tiles][9][16 channels]`.
///
/// # Safety
/// There are values and weights of all of it, and from `m` on that many products can be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn products(m: *mut i32, weights: *const i16, values: Values, [first, channels]: [usize; 2]) {
    let Values { v, tiles, in_c } = values;
    let row = TILING.winograd_row(in_c);
    // Tiles of nearly equal numbers.
    let some = tiles.div_ceil(tiles.div_ceil(TILES));
    let group_len = COUNT * LANES * row;
    let lens = [group_len, in_c, in_c, COUNT * GROUP];
    for i in 0..COUNT {
        for t in (0..tiles).step_by(some) {
            // SAFETY: group first / 8 and, where there are more channels, the next: weights of channels up to a multiple of 16 are there.
            unsafe {
                let w = weights.add(first / LANES * group_len + i * LANES * row);
                let v = v.add(i * tiles * row + t * in_c);
                let m = m.add((t * COUNT + i) * GROUP);
                match channels - first > LANES {
                    true => some_tiles::<2>((tiles - t).min(some), m, w, v, lens),
                    false => some_tiles::<1>((tiles - t).min(some), m, w, v, lens),
                }
            }
        }
    }
}

/// # Safety
/// As for [`multiply`], of `count` tiles.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn some_tiles<const GROUPS: usize>(count: usize, m: *mut i32, w: *const i16, v: *const i16, lens: [usize; 4]) {
    // SAFETY: the caller's promise.
    unsafe {
        match count {
            1 => multiply::<GROUPS, 1>(m, w, v, lens),
            2 => multiply::<GROUPS, 2>(m, w, v, lens),
            3 => multiply::<GROUPS, 3>(m, w, v, lens),
            4 => multiply::<GROUPS, 4>(m, w, v, lens),
            5 => multiply::<GROUPS, 5>(m, w, v, lens),
            6 => multiply::<GROUPS, 6>(m, w, v, lens),
            7 => multiply::<GROUPS, 7>(m, w, v, lens),
            _ => multiply::<GROUPS, TILES>(m, w, v, lens),
        }
    }
}

/// The products of coefficient by coefficient: `GROUPS` times eight channels by `MANY` tiles.
///
/// # Safety
/// From `w` on, and `group_len` further, there are len / 4 vectors, from `v` on `MANY` times len elements (a multiple of four), in_c
/// apart, from `m` on `MANY` times sixteen sums can be written, `stride` apart.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn multiply<const GROUPS: usize, const MANY: usize>(
    m: *mut i32,
    w: *const i16,
    v: *const i16,
    [group_len, in_c, len, stride]: [usize; 4],
) {
    let mut acc = [[_mm512_setzero_si512(); GROUPS]; MANY];
    for k in (0..len).step_by(4) {
        // SAFETY: the four elements from k on of each group, and of each tile: the caller's promise.
        unsafe {
            let weights: [__m512i; GROUPS] =
                core::array::from_fn(|g| _mm512_loadu_si512(w.add(g * group_len + k * LANES).cast()));
            for (t, acc) in acc.iter_mut().enumerate() {
                let values = _mm512_set1_epi64(v.add(t * in_c + k).cast::<i64>().read_unaligned());
                for (acc, &weights) in acc.iter_mut().zip(&weights) {
                    *acc = add_products(*acc, weights, values);
                }
            }
        }
    }
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (t, acc) in acc.iter().enumerate() {
        let each = |index| _mm512_permutex2var_epi32(acc[0], index, acc[GROUPS - 1]);
        let sums = _mm512_add_epi32(each(even), each(odd));
        // SAFETY: sixteen of tile t's sums.
        unsafe { _mm512_storeu_si512(m.add(t * stride).cast(), sums) };
    }
}
