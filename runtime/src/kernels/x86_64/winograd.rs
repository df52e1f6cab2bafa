//! Winograd's convolution with AVX2: `vpmaddwd`, which direct convolutions use as well, four times less often.
//!
//! F(4×4, 3×3), with 36 coefficients a tile, at the points 0, ±1, ±2 and ∞ (Lavin and Gray, arXiv:1509.09308), and behind an upsampling
//! F(2×2, 3×3), of which 9 coefficients are left. G is multiplied with 24 (its last row with 12), so that all is whole: values have 14
//! bits, weights 16, and a sum comes out 576 times, modulo 2³². That is 64·9: 9 is taken back by its inverse modulo 2³², 64 by a
//! shift, exactly where the sum has 26 bits. Those of [`CHUNK`] input channels have, so that many are multiplied at a time.
//!
//! Weights lie `[⌈channels / 8⌉][36][in_c / 2][8 channels][2]`, so that a vector of eight channels meets a broadcast pair of
//! the input; values `[36][tiles][in_c]`, products `[tiles][36][16 channels]`. From one of the coefficients to the next it is a few
//! elements further ([`winograd_row`](super::super::tiling::Tiling::winograd_row)).

#![allow(clippy::needless_range_loop)] // rows and columns of several matrices at once

use super::super::WinogradTile;
use super::TILING;
use core::arch::x86_64::*;

/// Output pixels of a tile, each way, of pictures that are not upsampled.
pub(super) const SIZE: usize = 4;

/// Input channels whose sum needs no more than 26 bits: 9·224·128·128 < 2²⁵.
pub(super) const CHUNK: usize = 224;

/// Channels of a vector, and of the two that a register tile has.
const LANES: usize = 8;
const GROUP: usize = 2 * LANES;

/// Tiles of a register tile: 2 × 6 accumulators, two weight vectors, an input and a product.
const TILES: usize = 6;

/// The transforms, of columns and of rows, for vectors of any length.
macro_rules! transforms {
    ($features:literal, $vector:ident, $zero:ident, $add16:ident, $sub16:ident, $shift16:ident, $add32:ident, $sub32:ident, $shift32:ident) => {
        /// A column's coefficients, of six taken `Bᵀ·d` for the points 0, 1, −1, 2, −2, ∞, those of ±1 with the other sign; of three, the
        /// second of which stands for two pixels.
        #[target_feature(enable = $features)]
        #[inline]
        pub(super) fn input_1d<const N: usize>(mut d: [$vector; N]) -> [$vector; N] {
            match d.as_mut_slice() {
                [d0, d1, d2] => {
                    (*d0, *d2) = ($sub16(*d0, *d1), $sub16(*d1, *d2));
                }
                [d0, d1, d2, d3, d4, d5] => {
                    let even = $sub16($shift16::<2>(*d2), *d4);
                    let odd = $sub16($shift16::<2>(*d1), *d3);
                    let (step, half) = ($sub16(*d4, *d2), $sub16(*d3, *d1));
                    let twice = $add16(half, half);
                    let last = $sub16(*d5, *d3);
                    *d0 = $add16($shift16::<2>($sub16(*d0, *d2)), step);
                    *d1 = $add16(even, odd);
                    *d2 = $sub16(even, odd);
                    *d3 = $add16(step, twice);
                    *d4 = $sub16(step, twice);
                    *d5 = $sub16(last, $add16(twice, twice));
                }
                _ => {}
            }
            d
        }

        /// `24·G·g` for a column of g, the last one halved, or the three.
        #[target_feature(enable = $features)]
        #[inline]
        pub(super) fn weights_1d<const N: usize>([g0, g1, g2]: [$vector; 3]) -> [$vector; N] {
            let mut w = [g2; N];
            let outer = $add16(g0, g2);
            match w.as_mut_slice() {
                [w0, w1, _] => (*w0, *w1) = (g0, $add16(outer, g1)),
                [w0, w1, w2, w3, w4, w5] => {
                    let four = $shift16::<2>(g2);
                    let (steep, twice) = ($add16(g0, four), $add16(g1, g1));
                    *w0 = $shift16::<1>($add16(g0, $add16(g0, g0)));
                    *w1 = $shift16::<2>($add16(outer, g1));
                    *w2 = $shift16::<2>($sub16(outer, g1));
                    *w3 = $add16(steep, twice);
                    *w4 = $sub16(steep, twice);
                    *w5 = $shift16::<2>($add16(g2, $add16(g2, g2)));
                }
                _ => {}
            }
            w
        }

        /// The pixels' sums from the coefficients' products: 24 times the four of six, or the two of three.
        #[target_feature(enable = $features)]
        #[inline]
        pub(super) fn output_1d<const N: usize>(m: &[$vector; N]) -> [$vector; SIZE] {
            match *m.as_slice() {
                [m0, m1, m2] => {
                    let second = $sub32(m1, m2);
                    [$add32(m0, m1), second, second, second]
                }
                [m0, m1, m2, m3, m4, m5] => {
                    let (even, odd) = ($add32(m1, m2), $sub32(m1, m2));
                    let (wide, steep) = ($add32(m3, m4), $sub32(m3, m4));
                    let last = $add32($shift32::<2>(steep), m5);
                    [
                        $add32($add32(m0, even), wide),
                        $add32(odd, $add32(steep, steep)),
                        $add32(even, $shift32::<2>(wide)),
                        $add32(odd, $add32(last, last)),
                    ]
                }
                _ => [$zero(); SIZE],
            }
        }
    };
}
pub(super) use transforms;

transforms! {
    "avx2", __m256i, _mm256_setzero_si256, _mm256_add_epi16, _mm256_sub_epi16, _mm256_slli_epi16,
    _mm256_add_epi32, _mm256_sub_epi32, _mm256_slli_epi32
}

#[target_feature(enable = "avx2")]
pub(super) fn weights(out: &mut [i16], block: usize, codes: &[i8], in_c: usize, upsampled: bool) {
    for half in [0, 2] {
        let codes = codes.get(in_c.saturating_mul(36 * half)..).unwrap_or_default();
        match upsampled {
            true => transform::<3>(out, block.saturating_add(half), codes, in_c),
            false => transform::<6>(out, block.saturating_add(half), codes, in_c),
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn transform<const N: usize>(out: &mut [i16], block: usize, codes: &[i8], in_c: usize) {
    let quads = in_c / 4;
    let (codes, _) = codes.as_chunks::<16>();
    if codes.len() / 9 < quads {
        return;
    }
    let stride = LANES * TILING.winograd_row(in_c);
    let group_len = N * N * stride;
    let Some(out) = out.get_mut((block / 2).saturating_mul(group_len)..).and_then(|rest| rest.get_mut(..group_len))
    else {
        return;
    };
    // Of the two blocks there may be one.
    let second = if codes.len() < 18 * quads { 0 } else { 9 * quads };
    // The even pairs of four channels, then the odd ones.
    let order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let mut down = [[[_mm256_setzero_si256(); 3]; N]; 2];
    for quad in 0..quads {
        // The next blocks of the file, as many bytes as are read here: of a net of 6.2 G, 4.5 % of a step instead of 8.4.
        for line in 0..5 {
            let ahead = codes.as_ptr().wrapping_add(18 * (quads + quad) + 4 * line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        // SAFETY: tap·quads + quad is below 9·quads.
        let tap = |tap: usize| unsafe {
            let from = codes.as_ptr().add(tap * quads + quad);
            let [a, b] = [from, from.add(second)].map(|from| _mm_shuffle_epi8(_mm_loadu_si128(from.cast()), order));
            [_mm256_cvtepi8_epi16(_mm_unpacklo_epi64(a, b)), _mm256_cvtepi8_epi16(_mm_unpackhi_epi64(a, b))]
        };
        for kx in 0..3 {
            let taps = [tap(kx), tap(3 + kx), tap(6 + kx)];
            for pair in 0..2 {
                let column = weights_1d::<N>([taps[0][pair], taps[1][pair], taps[2][pair]]);
                for y in 0..N {
                    down[pair][y][kx] = column[y];
                }
            }
        }
        for y in 0..N {
            let rows = [weights_1d::<N>(down[0][y]), weights_1d::<N>(down[1][y])];
            for x in 0..N {
                // SAFETY: of the coefficient's in_c / 2 pairs of eight channels, the quad's two.
                unsafe {
                    let to = out.as_mut_ptr().add((N * y + x) * stride + quad * 4 * LANES);
                    _mm256_storeu_si256(to.cast(), rows[0][x]);
                    _mm256_storeu_si256(to.add(2 * LANES).cast(), rows[1][x]);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn convolve(out: &mut [i32], channels: usize, tile: WinogradTile<'_>) {
    match tile.upsampled {
        true => run::<3>(out, channels, tile),
        false => run::<6>(out, channels, tile),
    }
}

#[target_feature(enable = "avx2")]
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
            match in_c < 16 {
                true => input::<N, 4>(v, window.as_ptr(), in_c, [rows, columns]),
                false => input::<N, 16>(v, window.as_ptr(), in_c, [rows, columns]),
            }
        }
    }
    // Tiles and channels of nearly equal numbers.
    let some = tiles.div_ceil(tiles.div_ceil(TILES));
    let chunk = if N == 3 { in_c } else { in_c.div_ceil(in_c.div_ceil(CHUNK)).next_multiple_of(4) };
    let group_len = N * N * LANES * row;
    for first in (0..channels).step_by(GROUP) {
        let two = channels - first > LANES;
        for k in (0..in_c).step_by(chunk) {
            for i in 0..N * N {
                for t in (0..tiles).step_by(some) {
                    // SAFETY: coefficient i of groups first / 8 and, where there are more channels, the next: `tiles` says that all
                    // channels' weights, up to a multiple of 16, are there. Tiles t to t + some of the values and products, at most
                    // `tiles`; input channels k to k + chunk, at most in_c.
                    unsafe {
                        let w = weights.as_ptr().add(first / LANES * group_len + i * LANES * row + k * LANES);
                        let v = v.add(i * tiles * row + t * in_c + k);
                        let m = m.add((t * N * N + i) * GROUP);
                        let lens = [group_len, in_c, chunk.min(in_c - k), N * N * GROUP];
                        match (two, (tiles - t).min(some)) {
                            (true, 1) => multiply::<2, 1>(m, w, v, lens),
                            (true, 2) => multiply::<2, 2>(m, w, v, lens),
                            (true, 3) => multiply::<2, 3>(m, w, v, lens),
                            (true, 4) => multiply::<2, 4>(m, w, v, lens),
                            (true, 5) => multiply::<2, 5>(m, w, v, lens),
                            (true, _) => multiply::<2, TILES>(m, w, v, lens),
                            (false, 1) => multiply::<1, 1>(m, w, v, lens),
                            (false, 2) => multiply::<1, 2>(m, w, v, lens),
                            (false, 3) => multiply::<1, 3>(m, w, v, lens),
                            (false, 4) => multiply::<1, 4>(m, w, v, lens),
                            (false, 5) => multiply::<1, 5>(m, w, v, lens),
                            (false, _) => multiply::<1, TILES>(m, w, v, lens),
                        }
                    }
                }
            }
            for lane in (first..channels.min(first + GROUP)).step_by(LANES) {
                // SAFETY: eight of the group's sixteen channels in each product; in the output, `channels` a pixel, and from
                // `lane` on there are as many as the last argument says.
                unsafe {
                    let (out, m) = (out.as_mut_ptr().add(lane), m.add(lane - first));
                    output::<N>(out, m, [rows, columns, channels], channels - lane, k > 0);
                }
            }
        }
    }
}

/// The products of coefficient by coefficient: `GROUPS` vectors of channels by `COUNT` tiles.
///
/// # Safety
/// From `w` on, and `group_len` further, there are len / 2 vectors, from `v` on `COUNT` times len elements (an even number), in_c apart,
/// from `m` on `COUNT` times sixteen sums can be written, `stride` apart.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn multiply<const GROUPS: usize, const COUNT: usize>(
    m: *mut i32,
    w: *const i16,
    v: *const i16,
    [group_len, in_c, len, stride]: [usize; 4],
) {
    let mut acc = [[_mm256_setzero_si256(); GROUPS]; COUNT];
    for k in (0..len).step_by(2) {
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
            unsafe { _mm256_storeu_si256(m.add(t * stride + g * LANES).cast(), acc) };
        }
    }
}

/// All tiles of the input, transformed, `SOME` channels at a time: 16, or 4 of few.
///
/// # Safety
/// From `window` on there are the pixels that `rows` times `columns` tiles read; from `values` on, for each coefficient and tile, an element for each that
/// `winograd_row` says can be written. There are `SOME` channels.
#[target_feature(enable = "avx2")]
unsafe fn input<const N: usize, const SOME: usize>(
    values: *mut i16,
    window: *const i16,
    in_c: usize,
    [rows, columns]: [usize; 2],
) {
    let step = N - 2;
    let row_len = (step * columns + 2) * in_c;
    let stride = rows * columns * TILING.winograd_row(in_c);
    let mut down = [[_mm256_setzero_si256(); N]; N];
    for k in (0..in_c).step_by(SOME) {
        // The last ones may be computed twice.
        let k = k.min(in_c - SOME);
        for r in 0..rows {
            // SAFETY: `SOME` channels from k on, of the window's rows of row r of tiles.
            let column = |column: usize| unsafe {
                let at = window.add(r * step * row_len + column * in_c + k);
                input_1d::<N>(core::array::from_fn(|row| match SOME {
                    16 => _mm256_loadu_si256(at.add(row * row_len).cast()),
                    _ => _mm256_castsi128_si256(_mm_loadl_epi64(at.add(row * row_len).cast())),
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
                                16 => _mm256_storeu_si256(to.cast(), value),
                                _ => _mm_storel_epi64(to.cast(), _mm256_castsi256_si128(value)),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums of eight channels of all tiles, or of four where there are only `lanes` of them; `add`ed to what is there.
///
/// # Safety
/// From `m` on there are `rows` times `columns` times sixteen products for each coefficient, less those before; from `out` on as many tiles'
/// pixels times `channels` sums, less those before `lanes` of them.
#[target_feature(enable = "avx2")]
unsafe fn output<const N: usize>(
    out: *mut i32,
    m: *const i32,
    [rows, columns, channels]: [usize; 3],
    lanes: usize,
    add: bool,
) {
    let size = N / 3 * 2;
    let ninth = _mm256_set1_epi32(0x38E3_8E39);
    let mut down = [[_mm256_setzero_si256(); N]; SIZE];
    let line = columns * size * channels;
    for r in 0..rows {
        for c in 0..columns {
            // SAFETY: the tile's products and pixels.
            let (m, out) =
                unsafe { (m.add((r * columns + c) * N * N * GROUP), out.add(r * size * line + c * size * channels)) };
            for x in 0..N {
                // SAFETY: eight channels of a coefficient.
                let product = |y: usize| unsafe { _mm256_loadu_si256(m.add((N * y + x) * GROUP).cast()) };
                let column = output_1d::<N>(&core::array::from_fn(product));
                for y in 0..size {
                    down[y][x] = column[y];
                }
            }
            for y in 0..size {
                let row = output_1d::<N>(&down[y]);
                for (x, sums) in row.into_iter().enumerate().take(size) {
                    let sums = if N == 3 { sums } else { _mm256_srai_epi32::<6>(_mm256_mullo_epi32(sums, ninth)) };
                    // SAFETY: a pixel of the tile, `lanes` channels of which are left.
                    unsafe {
                        let to = out.add(y * line + x * channels);
                        if lanes >= LANES {
                            let before = if add { _mm256_loadu_si256(to.cast()) } else { _mm256_setzero_si256() };
                            _mm256_storeu_si256(to.cast(), _mm256_add_epi32(before, sums));
                        } else {
                            let before = if add { _mm_loadu_si128(to.cast()) } else { _mm_setzero_si128() };
                            _mm_storeu_si128(to.cast(), _mm_add_epi32(before, _mm256_castsi256_si128(sums)));
                        }
                    }
                }
            }
        }
    }
}
