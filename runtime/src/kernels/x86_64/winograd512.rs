//! Winograd's convolution with AVX-512 VNNI: `vpdpwssd`, half as many products an instruction as `vpdpbusd` of direct convolutions, four
//! times less often.
//!
//! [`winograd`](super::winograd) has the mathematics and the numbers of bits; here are vectors of sixteen sums and of 32 values.
//!
//! Weights lie `[⌈channels / 16⌉][18][in_c / 2][16 channels][2]`, six rows of three columns, of which [`winograd512_row`](super::winograd512_row)
//! makes the coefficients: a vector meets two input channels of a tile, broadcast. Values lie as there; of products a row's four sums are
//! kept, `[tiles][6][4][16 channels]`.

use super::super::{ByteLimits, Picture, Requantization, WinogradTile};
use super::TILING;
use super::finish512::{Finish, Kind};
use super::winograd::{CHUNK, SIZE};
use super::winograd512_ends::{Source, input, output, weights_1d};
use super::winograd512_row::{self as row_of_six, STEP};
use super::winograd512_up as up;
use core::arch::asm;
use core::arch::x86_64::*;
use core::ops::Range;

/// Output channels of a vector of weights, and of one of products.
pub(super) const GROUP: usize = 16;

/// Numbers that a channel's nine weights are in memory, and those that a tile's 36 products are.
pub(super) const NUMBERS: usize = 18;
const KEPT: usize = 6 * SIZE;

/// Tiles at a time whose products are there, of two groups: with them and a row's weights and values the first cache is full.
const SOME: usize = 8;

/// Transformed tiles: for each coefficient all tiles, each of `in_c` elements, a coefficient `winograd_row` times `tiles` behind the other.
#[derive(Clone, Copy)]
pub(super) struct Values {
    pub(super) v: *const i16,
    pub(super) tiles: usize,
    pub(super) in_c: usize,
}

/// Sixteen channels, or those that are left.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
pub(super) fn weights(out: &mut [i16], block: usize, codes: &[i8], in_c: usize, upsampled: bool) {
    if !upsampled {
        return transform_six(out, block, codes, in_c);
    }
    for half in [0, 2] {
        if let Some(codes) = codes.get(in_c.saturating_mul(36 * half)..) {
            up::transform(out, block.saturating_add(half), codes, in_c);
        }
    }
}

/// Of sixteen channels 18 numbers: two vectors of each are four input channels, a pair of them in each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
fn transform_six(out: &mut [i16], block: usize, codes: &[i8], in_c: usize) {
    let quads = in_c / 4;
    let (codes, _) = codes.as_chunks::<16>();
    let blocks = (codes.len() / 9).checked_div(quads).unwrap_or(0);
    if blocks == 0 {
        return;
    }
    let stride = row_len(in_c);
    let group_len = 6 * stride;
    let Some(out) = out.get_mut((block / 4).saturating_mul(group_len)..).and_then(|rest| rest.get_mut(..group_len))
    else {
        return;
    };
    // The first stands for blocks that are not there.
    let at = [0, 1, 2, 3].map(|i| if i < blocks { 9 * quads * i } else { 0 });
    // To the upper halves of words the first two bytes of each four, or the others.
    let [first, second] = [0x0180_0080, 0x0380_0280].map(|lane| {
        let steps = _mm512_set4_epi32(0x0C00_0C00, 0x0800_0800, 0x0400_0400, 0);
        _mm512_or_si512(_mm512_set1_epi32(lane), steps)
    });
    for quad in 0..quads {
        // The next blocks of the file, as many bytes as are read here.
        for line in 0..9 {
            let ahead = codes.as_ptr().wrapping_add(36 * (quads + quad) + 4 * line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        // SAFETY: tap·quads + quad is below 9·quads, and of `blocks` blocks as many are there.
        let tap = |tap: usize| unsafe {
            let from = codes.as_ptr().add(tap * quads + quad);
            let [a, b, c, d] = at.map(|at| _mm_loadu_si128(from.add(at).cast()));
            let codes = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
            let codes = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(codes, c), d);
            [first, second].map(|order| _mm512_srai_epi16::<8>(_mm512_shuffle_epi8(codes, order)))
        };
        for kx in 0..3 {
            let [a, b, c] = [tap(kx), tap(3 + kx), tap(6 + kx)];
            for pair in 0..2 {
                let column = weights_1d::<6>([a[pair], b[pair], c[pair]]);
                for (y, weights) in column.into_iter().enumerate() {
                    // SAFETY: two of the number's in_c input channels, of sixteen output channels.
                    unsafe {
                        let to = out.as_mut_ptr().add(y * stride + (2 * quad + pair) * STEP + kx * 2 * GROUP);
                        _mm512_storeu_si512(to.cast(), weights);
                    }
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
    let most = if N == 3 { tiles } else { some_tiles(tiles, products.len()) };
    let holds = tiles * N * N * row <= values.len()
        && tiles * N * N * GROUP <= products.len()
        && (size * size * tiles).saturating_mul(channels) <= out.len();
    if tiles == 0 || !holds || most == 0 {
        return;
    }
    let v = values.as_mut_ptr();
    if !known {
        let window = Source::Window(window.as_ptr());
        // SAFETY: `tiles` says that the window has as many rows and columns as these tiles read; `values` has room for all of them.
        unsafe {
            match in_c {
                32.. => input::<N, 32>(v, window, in_c, [rows, columns]),
                16.. => input::<N, 16>(v, window, in_c, [rows, columns]),
                _ => input::<N, 4>(v, window, in_c, [rows, columns]),
            }
        }
    }
    let line = columns * size * channels;
    let out = out.as_mut_ptr();
    // SAFETY: products of sixteen channels, of which those below `channels` are the output's, as many a pixel; `tiles` are there.
    let sums = |first: usize, m: *const i32, tiles: Range<usize>, add: bool| unsafe {
        let mask = ((1u32 << (channels - first).min(GROUP)) - 1) as __mmask16;
        output::<N>(m, tiles, columns, |[y, x], row| {
            for (i, sums) in row.into_iter().enumerate().take(size) {
                let to = out.add(y * line + (x + i) * channels + first);
                let before = if add { _mm512_maskz_loadu_epi32(mask, to) } else { _mm512_setzero_si512() };
                _mm512_mask_storeu_epi32(to, mask, _mm512_add_epi32(before, sums));
            }
        });
    };
    let values = Values { v, tiles, in_c };
    // SAFETY: `tiles` says that all channels' weights, up to a multiple of 16, are there; `values` are, and room for the products.
    unsafe {
        let (m, w) = (products.as_mut_ptr(), weights.as_ptr());
        if N == 6 {
            return each_group(m, w, values, [channels, most], sums);
        }
        for first in (0..channels).step_by(GROUP) {
            up::products(m, w, values, [first, channels]);
            sums(first, m, 0..tiles, false);
        }
    }
}

/// From pixels to bytes, where sums of all input channels have 26 bits, and output channels are whole groups: neither window nor sums
/// lie in memory.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn convolve_bytes(
    out: &mut [i8],
    out_c: usize,
    picture: Picture<'_>,
    tile: WinogradTile<'_>,
    k: Requantization<'_>,
) {
    let WinogradTile { rows, columns, weights, values, products, .. } = tile;
    let [h, w, in_c] = picture.size;
    let (out_w, channels) = (picture.out[1], k.channels[0].bias.len());
    let given = k.residual.and_then(|residual| residual.elems);
    let holds = || {
        if !ByteLimits::has_winograd(in_c, channels) {
            return None;
        }
        let tiles = rows.checked_mul(columns)?;
        let row = TILING.winograd_row(in_c);
        let last_row = rows.checked_mul(SIZE)?.checked_sub(1)?.checked_mul(out_w)?;
        let last = last_row.checked_add(columns.checked_mul(SIZE)?)?.checked_sub(1)?;
        let out_len = last.checked_mul(out_c)?.checked_add(channels)?;
        let elems = h.checked_mul(w)?.checked_mul(in_c)?;
        let there = (1..=picture.elems.len()).contains(&elems)
            && channels.checked_mul(NUMBERS * row)? <= weights.len()
            && tiles.checked_mul(36 * row)? <= values.len()
            && channels <= out_c
            && out_len <= out.len()
            && given.is_none_or(|elems| out_len <= elems.len());
        // Places of pixels around the picture are numbers, too.
        let near = |from: isize, len: usize| (-1..=len as isize).contains(&from);
        let most = some_tiles(tiles, products.len());
        (there && tiles > 0 && most > 0 && near(picture.from[0], h) && near(picture.from[1], w)).then_some(most)
    };
    let Some(most) = holds() else { return };
    let v = values.as_mut_ptr();
    let to = out.as_mut_ptr();
    let residual = given.map_or(to.cast_const(), <[i8]>::as_ptr);
    let some = (most / columns).max(1);
    for r in (0..rows).step_by(some) {
        let rows = some.min(rows - r);
        let first_pixel = r * SIZE * out_w;
        // SAFETY: products of sixteen channels; all pixels of the tiles are there, and these channels of them: `holds`.
        let bytes = |first: usize, m: *const i32, tiles: Range<usize>, _: bool| unsafe {
            let places = (to.wrapping_add(first), residual.wrapping_add(first), out_c);
            let finish = Finish::new(&k, places, [first, GROUP]);
            let bias = finish.constants[0].bias;
            let sums = |row: [__m512i; SIZE]| row.map(|sums| [_mm512_add_epi32(sums, bias)]);
            match &finish.kind {
                Kind::Plain => output::<6>(m, tiles, columns, |[y, x], row| {
                    finish.store::<1, SIZE, false>(&sums(row), first_pixel + y * out_w + x, None);
                }),
                Kind::Residual(words) => output::<6>(m, tiles, columns, |[y, x], row| {
                    finish.store::<1, SIZE, true>(&sums(row), first_pixel + y * out_w + x, Some(*words));
                }),
                Kind::Any(residual, constants) => output::<6>(m, tiles, columns, |[y, x], row| {
                    for (i, [sums]) in sums(row).into_iter().enumerate() {
                        finish.store_any(constants, [sums; 2], first_pixel + y * out_w + x + i, *residual);
                    }
                }),
            }
        };
        let [y, x] = picture.from;
        let source = Source::Picture(Picture { from: [y + (r * SIZE) as isize, x], ..picture });
        // SAFETY: `holds`: all elements of the picture, weights, and room for values and products.
        unsafe {
            match in_c {
                32.. => input::<6, 32>(v, source, in_c, [rows, columns]),
                _ => input::<6, 16>(v, source, in_c, [rows, columns]),
            }
            let values = Values { v, tiles: rows * columns, in_c };
            each_group(products.as_mut_ptr(), weights.as_ptr(), values, [channels, most], bytes);
        }
    }
}

/// Elements from a row of a group's weights to the next.
fn row_len(in_c: usize) -> usize {
    TILING.winograd_row(in_c) / 2 * STEP
}

/// How many of the tiles are multiplied at a time, with room for so many products: nearly equal numbers.
fn some_tiles(tiles: usize, products: usize) -> usize {
    let most = (products / (2 * KEPT * GROUP)).min(SOME);
    tiles.div_ceil(tiles.div_ceil(most.max(1)).max(1)).min(most)
}

/// Groups of sixteen channels, with some of the tiles and input channels at a time: `finish` is given the group's first channel, products
/// of which tiles, and whether they are to be added to what is there.
///
/// # Safety
/// There are values and weights of all channels up to a multiple of sixteen, and from `m` on products of two groups of `most` tiles can be written,
/// which is not 0.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn each_group(
    m: *mut i32,
    weights: *const i16,
    values: Values,
    [channels, most]: [usize; 2],
    finish: impl Fn(usize, *const i32, Range<usize>, bool),
) {
    let Values { tiles, in_c, .. } = values;
    let group_len = 6 * row_len(in_c);
    let chunk = in_c.div_ceil(in_c.div_ceil(CHUNK)).next_multiple_of(4);
    for first in (0..channels).step_by(2 * GROUP) {
        let two = channels - first > GROUP;
        for t in (0..tiles).step_by(most) {
            let some = t..(t + most).min(tiles);
            for k in (0..in_c).step_by(chunk) {
                // SAFETY: group first / 16 and, where there are more channels, the next. Input channels k to k + len, at most in_c.
                unsafe {
                    let w = weights.add(first / GROUP * group_len + k / 2 * STEP);
                    let values = Values { v: values.v.add(k), ..values };
                    multiply_rows(m, w, values, some.clone(), chunk.min(in_c - k), two.then_some(group_len));
                    finish(first, m, some.clone(), k > 0);
                    if two {
                        finish(first + GROUP, m.add(some.len() * KEPT * GROUP), some.clone(), k > 0);
                    }
                }
            }
        }
    }
}

/// The products of six rows of coefficients, and of each row's sums four, of some tiles by one or two groups of sixteen channels.
///
/// # Safety
/// From `w` on, and from `second` further, there are 18 numbers of len / 2 vectors, `winograd_row` times `GROUP` elements apart, and of the values
/// `len` elements (a multiple of four, not 0) of each tile; from `m` on 24 sums of each tile and group can be written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn multiply_rows(
    m: *mut i32,
    w: *const i16,
    Values { v, tiles, in_c }: Values,
    some: Range<usize>,
    len: usize,
    second: Option<usize>,
) {
    let row = TILING.winograd_row(in_c);
    let lens = [tiles * row, len / 2];
    for y in 0..6 {
        for t in some.clone().step_by(2) {
            // Of the two tiles there may be one.
            let next = (t + 1).min(some.end - 1);
            let mut sums = [[[_mm512_setzero_si512(); 2]; 6]; 2];
            // SAFETY: row y of the weights, and of the values of tiles t and `next`.
            unsafe {
                let w = w.add(y * row_len(in_c));
                let v = [t, next].map(|t| v.add(6 * y * tiles * row + t * in_c));
                match second {
                    Some(second) => row_of_six::two(&mut sums, [w, w.add(second)], v, lens),
                    None => row_of_six::one(&mut sums, w, v, lens),
                }
            }
            let [here, there] = sums;
            for (t, products) in [(t, here), (next, there)] {
                let mut to = m.wrapping_add((6 * (t - some.start) + y) * SIZE * GROUP);
                for group in 0..if second.is_some() { 2 } else { 1 } {
                    for (x, sums) in row_of_six::finish(products.map(|both| both[group])).into_iter().enumerate() {
                        // SAFETY: one of tile t's.
                        unsafe { _mm512_storeu_si512(to.add(x * GROUP).cast(), sums) };
                    }
                    to = to.wrapping_add(some.len() * KEPT * GROUP);
                }
            }
        }
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
