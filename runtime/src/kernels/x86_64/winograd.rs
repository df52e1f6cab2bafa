//! Winograd's convolution with AVX2: `vpmaddwd`, which direct convolutions use as well, 2.25 times less often.
//!
//! Weights lie `[⌈channels / 8⌉][16][in_c / 2][8 channels][2]`, so that a vector of eight channels meets a broadcast pair of
//! the input; values `[16][tiles][in_c]`, products `[16][tiles][16 channels]`. From one of the 16 coefficients to the next it is a few
//! elements further ([`winograd_row`](super::super::scratch::Tiling::winograd_row)).

use super::super::WinogradTile;
use super::super::scratch::COEFFICIENTS;
use super::TILING;
use core::arch::x86_64::*;

/// Channels of a vector, and of the two that a register tile has.
const LANES: usize = 8;
const GROUP: usize = 2 * LANES;

/// Tiles of a register tile: 2 × 6 accumulators, two weight vectors, an input and a product.
const TILES: usize = 6;

/// Rows and columns of the window that a tile's four are: as they lie, and upsampled, where coefficients 2 of both are 0.
const ROWS: [[usize; 4]; 2] = [[0, 1, 2, 3], [0, 1, 1, 2]];

/// The four coefficients of a column, of vectors, by [`super::super::winograd`]'s formula for inputs.
macro_rules! input_1d {
    ($d:expr, $add:ident, $sub:ident) => {{
        let [d0, d1, d2, d3] = $d;
        [$sub(d0, d2), $add(d1, d2), $sub(d2, d1), $sub(d1, d3)]
    }};
}

#[target_feature(enable = "avx2")]
#[inline]
fn weights_1d([g0, g1, g2]: [__m256i; 3]) -> [__m256i; 4] {
    let outer = _mm256_add_epi16(g0, g2);
    [_mm256_add_epi16(g0, g0), _mm256_add_epi16(outer, g1), _mm256_sub_epi16(outer, g1), _mm256_add_epi16(g2, g2)]
}

#[target_feature(enable = "avx2")]
pub(super) fn weights(out: &mut [i16], block: usize, codes: &[i8], in_c: usize) {
    let quads = in_c / 4;
    let stride = LANES * TILING.winograd_row(in_c);
    let group_len = COEFFICIENTS * stride;
    let Some(out) = out.get_mut(block / 2 * group_len..).and_then(|rest| rest.get_mut(..group_len)) else { return };
    let (codes, _) = codes.as_chunks::<16>();
    if codes.len() < 9 * quads {
        return;
    }
    // The even pairs of the four channels, then the odd ones.
    let order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let half = block % 2 * LANES;
    for quad in 0..quads {
        // The next block of the file, as many bytes as are read here: of a net of 6.2 G, 4.5 % of a step instead of 8.4.
        for line in 0..3 {
            let ahead = codes.as_ptr().wrapping_add(9 * (quads + quad) + 4 * line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        // SAFETY: tap·quads + quad is below 9·quads.
        let tap = |tap: usize| unsafe {
            _mm256_cvtepi8_epi16(_mm_shuffle_epi8(
                _mm_loadu_si128(codes.as_ptr().add(tap * quads + quad).cast()),
                order,
            ))
        };
        let [left, middle, right] = [0, 1, 2].map(|kx| weights_1d([tap(kx), tap(3 + kx), tap(6 + kx)]));
        for (y, ((left, middle), right)) in left.into_iter().zip(middle).zip(right).enumerate() {
            let row = weights_1d([left, middle, right]);
            for (x, weights) in row.into_iter().enumerate() {
                let at = (4 * y + x) * stride + quad * 4 * LANES + half;
                // SAFETY: of the coefficient's quads·32 elements, eight from `at` and eight from `at + 16` on, because half is at most 8.
                unsafe {
                    let to = out.as_mut_ptr().add(at);
                    _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(weights));
                    _mm_storeu_si128(to.add(2 * LANES).cast(), _mm256_extracti128_si256::<1>(weights));
                }
            }
        }
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn convolve(out: &mut [i32], channels: usize, tile: WinogradTile<'_>) {
    let tiles = tile.tiles(channels);
    let WinogradTile { window, upsampled, in_c, weights, values, products } = tile;
    let row = TILING.winograd_row(in_c);
    let holds = tiles * COEFFICIENTS * row <= values.len()
        && tiles * COEFFICIENTS * GROUP <= products.len()
        && 4 * tiles * channels <= out.len();
    if tiles == 0 || !holds {
        return;
    }
    // SAFETY: `tiles` says that the window has 4·(2·tiles + 2)·in_c elements, or those that `upsampled` means; `values` has room for
    // all tiles.
    unsafe {
        match upsampled {
            true => input::<true>(values.as_mut_ptr(), window.as_ptr(), in_c, tiles),
            false => input::<false>(values.as_mut_ptr(), window.as_ptr(), in_c, tiles),
        }
    }
    // Tiles of nearly equal size.
    let size = tiles.div_ceil(tiles.div_ceil(TILES));
    let group_len = COEFFICIENTS * LANES * row;
    for first in (0..channels).step_by(GROUP) {
        let two = channels - first > LANES;
        for i in (0..COEFFICIENTS).filter(|i| !(upsampled && (i % 4 == 2 || i / 4 == 2))) {
            for t in (0..tiles).step_by(size) {
                // SAFETY: coefficient i of groups first / 8 and, where there are more channels, the next: `tiles` says that all
                // channels' weights, up to a multiple of 16, are there. Tiles t to t + size of the values and products, at most `tiles`.
                unsafe {
                    let w = weights.as_ptr().add(first / LANES * group_len + i * LANES * row);
                    let v = values.as_ptr().add(i * tiles * row + t * in_c);
                    let m = products.as_mut_ptr().add((i * tiles + t) * GROUP);
                    match (two, (tiles - t).min(size)) {
                        (true, 1) => multiply::<2, 1>(m, w, group_len, v, in_c),
                        (true, 2) => multiply::<2, 2>(m, w, group_len, v, in_c),
                        (true, 3) => multiply::<2, 3>(m, w, group_len, v, in_c),
                        (true, 4) => multiply::<2, 4>(m, w, group_len, v, in_c),
                        (true, 5) => multiply::<2, 5>(m, w, group_len, v, in_c),
                        (true, _) => multiply::<2, TILES>(m, w, group_len, v, in_c),
                        (false, 1) => multiply::<1, 1>(m, w, group_len, v, in_c),
                        (false, 2) => multiply::<1, 2>(m, w, group_len, v, in_c),
                        (false, 3) => multiply::<1, 3>(m, w, group_len, v, in_c),
                        (false, 4) => multiply::<1, 4>(m, w, group_len, v, in_c),
                        (false, 5) => multiply::<1, 5>(m, w, group_len, v, in_c),
                        (false, _) => multiply::<1, TILES>(m, w, group_len, v, in_c),
                    }
                }
            }
        }
        for lane in (first..channels.min(first + GROUP)).step_by(LANES) {
            // SAFETY: eight of the group's sixteen channels in each product; in the output, `channels` a pixel, and from
            // `lane` on there are as many as the last argument says.
            unsafe {
                let m = products.as_ptr().add(lane - first);
                let out = out.as_mut_ptr().add(lane);
                match upsampled {
                    true => output::<true>(out, m, tiles, channels, channels - lane),
                    false => output::<false>(out, m, tiles, channels, channels - lane),
                }
            }
        }
    }
}

/// The products of coefficient by coefficient: `GROUPS` vectors of channels by `COUNT` tiles.
///
/// # Safety
/// From `w` on, and `group_len` further, there are in_c / 2 vectors, from `v` on `COUNT` times in_c elements (an even number), from
/// `m` on `COUNT` times sixteen sums can be written.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn multiply<const GROUPS: usize, const COUNT: usize>(
    m: *mut i32,
    w: *const i16,
    group_len: usize,
    v: *const i16,
    in_c: usize,
) {
    let mut acc = [[_mm256_setzero_si256(); GROUPS]; COUNT];
    for k in (0..in_c).step_by(2) {
        // SAFETY: pair k of each group, and of each tile: the caller's promise.
        unsafe {
            let weights: [__m256i; GROUPS] =
                core::array::from_fn(|g| _mm256_loadu_si256(w.add(g * group_len + k * LANES).cast()));
            for (t, acc) in acc.iter_mut().enumerate() {
                let pair = _mm256_set1_epi32(v.add(t * in_c + k).cast::<i32>().read_unaligned());
                for (acc, &weights) in acc.iter_mut().zip(&weights) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(pair, weights));
                }
            }
        }
    }
    for (t, acc) in acc.iter().enumerate() {
        for (g, &acc) in acc.iter().enumerate() {
            // SAFETY: eight of tile t's sums.
            unsafe { _mm256_storeu_si256(m.add(t * GROUP + g * LANES).cast(), acc) };
        }
    }
}

/// All tiles of the input, transformed.
///
/// # Safety
/// From `window` on there are four rows of (2·tiles + 2)·in_c elements, or three of tiles + 2 where it has yet to be upsampled; from
/// `values` on, 16 times `tiles` rows as long as `winograd_row` says can be written.
#[target_feature(enable = "avx2")]
unsafe fn input<const UPSAMPLED: bool>(values: *mut i16, window: *const i16, in_c: usize, tiles: usize) {
    let step = if UPSAMPLED { 1 } else { 2 };
    let row_len = (step * tiles + 2) * in_c;
    let stride = tiles * TILING.winograd_row(in_c);
    if in_c < 16 {
        for k in (0..in_c).step_by(4) {
            // SAFETY: four channels from k on.
            let column = |column: usize| unsafe {
                let at = window.add(column * in_c + k);
                let d = ROWS[UPSAMPLED as usize].map(|row| _mm_loadl_epi64(at.add(row * row_len).cast()));
                input_1d!(d, _mm_add_epi16, _mm_sub_epi16)
            };
            for t in 0..tiles {
                let columns = ROWS[UPSAMPLED as usize].map(|x| column(step * t + x));
                for y in 0..4 {
                    let row = input_1d!(columns.map(|column| column[y]), _mm_add_epi16, _mm_sub_epi16);
                    for (x, value) in row.into_iter().enumerate() {
                        // SAFETY: four channels of coefficient 4·y + x of tile t.
                        unsafe { _mm_storel_epi64(values.add((4 * y + x) * stride + t * in_c + k).cast(), value) };
                    }
                }
            }
        }
        return;
    }
    for k in (0..in_c).step_by(16) {
        // The last ones may be computed twice.
        let k = k.min(in_c - 16);
        // SAFETY: sixteen channels from k on.
        let column = |column: usize| unsafe {
            let at = window.add(column * in_c + k);
            let d = ROWS[UPSAMPLED as usize].map(|row| _mm256_loadu_si256(at.add(row * row_len).cast()));
            input_1d!(d, _mm256_add_epi16, _mm256_sub_epi16)
        };
        let [mut first, mut second] = [column(0), column(1)];
        for t in 0..tiles {
            let third = if UPSAMPLED { second } else { column(2 * t + 2) };
            let fourth = column(step * t + ROWS[UPSAMPLED as usize][3]);
            for y in (0..4).filter(|&y| !(UPSAMPLED && y == 2)) {
                let row = [first[y], second[y], third[y], fourth[y]];
                let row = input_1d!(row, _mm256_add_epi16, _mm256_sub_epi16);
                for (x, value) in row.into_iter().enumerate().filter(|&(x, _)| !(UPSAMPLED && x == 2)) {
                    // SAFETY: sixteen channels of coefficient 4·y + x of tile t.
                    unsafe { _mm256_storeu_si256(values.add((4 * y + x) * stride + t * in_c + k).cast(), value) };
                }
            }
            [first, second] = if UPSAMPLED { [second, fourth] } else { [third, fourth] };
        }
    }
}

/// Sums of eight channels of all tiles, or of four where there are only `lanes` of them.
///
/// # Safety
/// From `m` on there are 16·tiles times sixteen products, less those before; from `out` on two rows of 2·tiles times `channels` sums,
/// less those before `lanes` of them.
#[target_feature(enable = "avx2")]
unsafe fn output<const UPSAMPLED: bool>(out: *mut i32, m: *const i32, tiles: usize, channels: usize, lanes: usize) {
    let sum = |[m0, m1, m2, m3]: [__m256i; 4]| {
        let (both, apart) = (_mm256_add_epi32(m1, m2), _mm256_sub_epi32(m1, m2));
        [_mm256_add_epi32(m0, both), _mm256_sub_epi32(apart, m3)]
    };
    for t in 0..tiles {
        // SAFETY: eight channels of a coefficient of tile t.
        let product = |y: usize, x: usize| unsafe {
            match UPSAMPLED && (y == 2 || x == 2) {
                true => _mm256_setzero_si256(),
                false => _mm256_loadu_si256(m.add(((4 * y + x) * tiles + t) * GROUP).cast()),
            }
        };
        let columns = [0, 1, 2, 3].map(|x| sum([product(0, x), product(1, x), product(2, x), product(3, x)]));
        for y in 0..2 {
            for (x, sums) in sum(columns.map(|column| column[y])).into_iter().enumerate() {
                let sums = _mm256_srai_epi32::<2>(sums);
                // SAFETY: pixel 2·t + x of row y, `lanes` channels of which are left.
                unsafe {
                    let to = out.add(((y * tiles + t) * 2 + x) * channels);
                    if lanes >= LANES {
                        _mm256_storeu_si256(to.cast(), sums);
                    } else {
                        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(sums));
                    }
                }
            }
        }
    }
}
