//! Winograd's convolution with AVX-512 VNNI: `vpdpwssd`, half as many products an instruction as `vpdpbusd` of direct convolutions, four
//! times less often.
//!
//! [`winograd`](super::winograd) has the mathematics and the numbers of bits; here are vectors of sixteen sums and of 32 values.
//!
//! Weights lie `[⌈channels / 8⌉][18][in_c / 4][8 channels][4]`, six rows of three columns, of which [`winograd512_row`](super::winograd512_row)
//! makes the coefficients, or `[9]` of these behind an upsampling: a vector meets four input channels of a tile, broadcast, and has two
//! sums a channel, which are added in the end. Values lie as there; of products a row's four sums are kept, `[tiles][6][4][16 channels]`.

#![allow(clippy::needless_range_loop)] // rows and columns of several matrices at once

use super::super::WinogradTile;
use super::TILING;
use super::winograd::{CHUNK, SIZE, transforms};
use super::winograd512_row as row_of_six;
use core::arch::asm;
use core::arch::x86_64::*;

/// Output channels of a vector of weights, and of the two that a register tile has: a vector of products.
pub(super) const LANES: usize = 8;
const GROUP: usize = 2 * LANES;

/// Tiles of a register tile behind an upsampling: 2 × 8 accumulators, of the 16 tiles that there are at a time half.
const TILES: usize = 8;

/// Numbers that a channel's nine weights are in memory.
const fn kept(n: usize) -> usize {
    if n == 3 { 9 } else { 3 * n }
}

transforms! {
    "avx512f,avx512bw", __m512i, _mm512_setzero_si512, _mm512_add_epi16, _mm512_sub_epi16, _mm512_slli_epi16,
    _mm512_add_epi32, _mm512_sub_epi32, _mm512_slli_epi32
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
pub(super) fn weights(out: &mut [i16], block: usize, codes: &[i8], in_c: usize, upsampled: bool) {
    match upsampled {
        true => transform::<3>(out, block, codes, in_c),
        false => transform::<6>(out, block, codes, in_c),
    }
}

/// Eight channels: a vector is four input channels of them.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
fn transform<const N: usize>(out: &mut [i16], block: usize, codes: &[i8], in_c: usize) {
    let quads = in_c / 4;
    let (codes, _) = codes.as_chunks::<16>();
    if codes.len() / 9 < quads {
        return;
    }
    let stride = LANES * TILING.winograd_row(in_c);
    let group_len = kept(N) * stride;
    let Some(out) = out.get_mut(block / 2 * group_len..).and_then(|rest| rest.get_mut(..group_len)) else { return };
    // Of the two blocks there may be one.
    let second = if codes.len() < 18 * quads { 0 } else { 9 * quads };
    let mut down = [[_mm512_setzero_si512(); 3]; N];
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
            let column = weights_1d::<N>([tap(kx), tap(3 + kx), tap(6 + kx)]);
            for y in 0..N {
                down[y][kx] = column[y];
            }
        }
        for y in 0..N {
            let row = if N == 3 { weights_1d(down[y]) } else { down[y] };
            for (x, weights) in row.into_iter().enumerate() {
                // SAFETY: four of the number's in_c input channels, of eight output channels.
                unsafe {
                    let to = out.as_mut_ptr().add((3 * y + x) * stride + quad * 4 * LANES);
                    _mm512_storeu_si512(to.cast(), weights);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn convolve(out: &mut [i32], channels: usize, tile: WinogradTile<'_>) {
    match tile.upsampled {
        true => run::<3>(out, channels, tile),
        false => run::<6>(out, channels, tile),
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn run<const N: usize>(out: &mut [i32], channels: usize, tile: WinogradTile<'_>) {
    let tiles = tile.tiles(channels, SIZE, N * N);
    let WinogradTile { window, known, in_c, rows, columns, weights, values, products, .. } = tile;
    let row = TILING.winograd_row(in_c);
    let size = N / 3 * 2;
    let holds = tiles * N * N * row <= values.len()
        && tiles * N * N * GROUP <= products.len()
        && (size * size * tiles).saturating_mul(channels) <= out.len();
    if tiles == 0 || !holds {
        return;
    }
    let (v, m) = (values.as_mut_ptr(), products.as_mut_ptr());
    if !known {
        // SAFETY: `tiles` says that the window has as many rows and columns as these tiles read; `values` has room for all of them.
        unsafe {
            match in_c {
                32.. => input::<N, 32>(v, window.as_ptr(), in_c, [rows, columns]),
                16.. => input::<N, 16>(v, window.as_ptr(), in_c, [rows, columns]),
                _ => input::<N, 4>(v, window.as_ptr(), in_c, [rows, columns]),
            }
        }
    }
    // Tiles and channels of nearly equal numbers.
    let some = tiles.div_ceil(tiles.div_ceil(TILES));
    let chunk = if N == 3 { in_c } else { in_c.div_ceil(in_c.div_ceil(CHUNK)).next_multiple_of(4) };
    let group_len = kept(N) * LANES * row;
    for first in (0..channels).step_by(GROUP) {
        let two = channels - first > LANES;
        for k in (0..in_c).step_by(chunk) {
            let len = chunk.min(in_c - k);
            // SAFETY: groups first / 8 and, where there are more channels, the next: `tiles` says that all channels' weights, up to a multiple
            // of 16, are there. Input channels k to k + len, at most in_c, of all tiles' values; products of all tiles.
            unsafe {
                let w = weights.as_ptr().add(first / LANES * group_len + k * LANES);
                if N == 3 {
                    for i in 0..N * N {
                        for t in (0..tiles).step_by(some) {
                            let w = w.add(i * LANES * row);
                            let v = v.add(i * tiles * row + t * in_c + k);
                            let m = m.add((t * N * N + i) * GROUP);
                            let lens = [group_len, in_c, len, N * N * GROUP];
                            match two {
                                true => some_tiles::<2>((tiles - t).min(some), m, w, v, lens),
                                false => some_tiles::<1>((tiles - t).min(some), m, w, v, lens),
                            }
                        }
                    }
                } else {
                    let second = two.then_some(group_len);
                    multiply_rows(m, w, v.add(k), [tiles, row, in_c, len], second);
                }
            }
            // SAFETY: sixteen channels in each product; in the output, `channels` a pixel, and from `first` on there are as many
            // as the last argument but one says.
            unsafe {
                let out = out.as_mut_ptr().add(first);
                output::<N>(out, m, [rows, columns, channels], channels - first, k > 0);
            }
        }
    }
}

/// The products of six rows of coefficients, and of each row's sums four, for one or two groups of eight channels by all tiles.
///
/// # Safety
/// From `w` on, and from `second` further, there are 18 numbers of len / 4 vectors, `row` times `LANES` elements apart, from `v` on `len`
/// elements (a multiple of four, not 0) of each coefficient and tile, `tiles` times `row` and `in_c` apart; from `m` on 24 sums of each
/// tile can be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn multiply_rows(
    m: *mut i32,
    w: *const i16,
    v: *const i16,
    [tiles, row, in_c, len]: [usize; 4],
    second: Option<usize>,
) {
    let lens = [LANES * row, tiles * row, len / 4];
    for y in 0..6 {
        for t in (0..tiles).step_by(2) {
            // Of the two tiles there may be one.
            let next = (t + 1).min(tiles - 1);
            let mut sums = [[[_mm512_setzero_si512(); 2]; 6]; 2];
            // SAFETY: row y of the weights, and of the values of tiles t and `next`.
            unsafe {
                let w = w.add(3 * y * LANES * row);
                let v = [t, next].map(|t| v.add(6 * y * tiles * row + t * in_c));
                match second {
                    Some(second) => row_of_six::two(&mut sums, [w, w.add(second)], v, lens),
                    None => row_of_six::one(&mut sums, w, v, lens),
                }
            }
            let [here, there] = sums;
            for (t, products) in [(t, here), (next, there)] {
                for (x, sums) in row_of_six::finish(products).into_iter().enumerate() {
                    // SAFETY: one of tile t's.
                    unsafe { _mm512_storeu_si512(m.add(((6 * t + y) * SIZE + x) * GROUP).cast(), sums) };
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

/// The products of coefficient by coefficient: `GROUPS` times eight channels by `COUNT` tiles.
///
/// # Safety
/// From `w` on, and `group_len` further, there are len / 4 vectors, from `v` on `COUNT` times len elements (a multiple of four), in_c
/// apart, from `m` on `COUNT` times sixteen sums can be written, `stride` apart.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn multiply<const GROUPS: usize, const COUNT: usize>(
    m: *mut i32,
    w: *const i16,
    v: *const i16,
    [group_len, in_c, len, stride]: [usize; 4],
) {
    let mut acc = [[_mm512_setzero_si512(); GROUPS]; COUNT];
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

/// `vpdpwssd`. Of its own function the compiler makes `vpmaddwd` and `vpaddd`, and the loop takes 1.3 times as long.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
pub(super) fn add_products(mut acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: registers alone.
    unsafe {
        asm!("vpdpwssd {acc}, {a}, {b}", acc = inout(zmm_reg) acc, a = in(zmm_reg) a, b = in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}

/// All tiles of the input, transformed, `SOME` channels at a time: 32, or 16 or 4 of few.
///
/// # Safety
/// From `window` on there are the pixels that `rows` times `columns` tiles read; from `values` on, for each coefficient and tile, an element for each that
/// `winograd_row` says can be written. There are `SOME` channels.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
unsafe fn input<const N: usize, const SOME: usize>(
    values: *mut i16,
    window: *const i16,
    in_c: usize,
    [rows, columns]: [usize; 2],
) {
    let step = N - 2;
    let row_len = (step * columns + 2) * in_c;
    let stride = rows * columns * TILING.winograd_row(in_c);
    let mut down = [[_mm512_setzero_si512(); N]; N];
    for k in (0..in_c).step_by(SOME) {
        // The last ones may be computed twice.
        let k = k.min(in_c - SOME);
        for r in 0..rows {
            // SAFETY: `SOME` channels from k on, of the window's rows of row r of tiles.
            let column = |column: usize| unsafe {
                let at = window.add(r * step * row_len + column * in_c + k);
                input_1d::<N>(core::array::from_fn(|row| {
                    let at = at.add(row * row_len);
                    match SOME {
                        32 => _mm512_loadu_si512(at.cast()),
                        16 => _mm512_castsi256_si512(_mm256_loadu_si256(at.cast())),
                        _ => _mm512_castsi128_si512(_mm_loadl_epi64(at.cast())),
                    }
                }))
            };
            let [before, here] = [column(0), column(1)];
            for y in 0..N {
                [down[y][step], down[y][step + 1]] = [before[y], here[y]];
            }
            for t in 0..columns {
                for down in &mut down {
                    [down[0], down[1]] = [down[step], down[step + 1]];
                }
                for x in 2..N {
                    let column = column(step * t + x);
                    for y in 0..N {
                        down[y][x] = column[y];
                    }
                }
                for y in 0..N {
                    let row = input_1d::<N>(down[y]);
                    for (x, value) in row.into_iter().enumerate() {
                        // SAFETY: `SOME` channels of coefficient N·y + x of the tile.
                        unsafe {
                            let to = values.add((N * y + x) * stride + (r * columns + t) * in_c + k);
                            match SOME {
                                32 => _mm512_storeu_si512(to.cast(), value),
                                16 => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(value)),
                                _ => _mm_storel_epi64(to.cast(), _mm512_castsi512_si128(value)),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums of sixteen channels of all tiles, or of the `lanes` that are left; `add`ed to what is there.
///
/// # Safety
/// From `m` on there are `rows` times `columns` times sixteen products for each coefficient; from `out` on as many tiles'
/// pixels times `channels` sums, less those before `lanes` of them.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
unsafe fn output<const N: usize>(
    out: *mut i32,
    m: *const i32,
    [rows, columns, channels]: [usize; 3],
    lanes: usize,
    add: bool,
) {
    let size = N / 3 * 2;
    let ninth = _mm512_set1_epi32(0x38E3_8E39);
    let in_order = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let mask = ((1u32 << lanes.min(GROUP)) - 1) as __mmask16;
    // Of each row its sums, or the products that make them.
    let kept = if N == 3 { N } else { SIZE };
    let mut down = [[_mm512_setzero_si512(); SIZE]; SIZE];
    let line = columns * size * channels;
    for r in 0..rows {
        for c in 0..columns {
            // SAFETY: the tile's products and pixels.
            let (m, out) = unsafe {
                (m.add((r * columns + c) * N * kept * GROUP), out.add(r * size * line + c * size * channels))
            };
            for x in 0..kept {
                // SAFETY: sixteen channels of a sum.
                let product = |y: usize| unsafe { _mm512_loadu_si512(m.add((kept * y + x) * GROUP).cast()) };
                let column = output_1d::<N>(&core::array::from_fn(product));
                for y in 0..size {
                    down[y][x] = column[y];
                }
            }
            for y in 0..size {
                let [m0, m1, m2, _] = down[y];
                let row = if N == 3 { output_1d(&[m0, m1, m2]) } else { down[y] };
                for (x, sums) in row.into_iter().enumerate().take(size) {
                    let whole = _mm512_mullo_epi32(sums, ninth);
                    let sums = match (N, x) {
                        (3, _) => sums,
                        (_, 0) => _mm512_permutexvar_epi32(in_order, _mm512_srai_epi32::<6>(whole)),
                        (_, 1) => _mm512_permutexvar_epi32(in_order, _mm512_srai_epi32::<5>(whole)),
                        _ => _mm512_permutexvar_epi32(in_order, _mm512_srai_epi32::<4>(whole)),
                    };
                    // SAFETY: a pixel of the tile, `lanes` channels of which are left.
                    unsafe {
                        let to = out.add(y * line + x * channels);
                        let before = if add { _mm512_maskz_loadu_epi32(mask, to) } else { _mm512_setzero_si512() };
                        let sums = _mm512_add_epi32(before, sums);
                        match lanes {
                            GROUP.. => _mm512_storeu_si512(to.cast(), sums),
                            _ => _mm512_mask_storeu_epi32(to, mask, sums),
                        }
                    }
                }
            }
        }
    }
}
