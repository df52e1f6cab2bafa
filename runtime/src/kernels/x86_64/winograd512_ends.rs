//! The ends of [`winograd512`](super::winograd512): tiles of the input to values, and products to sums.

#![allow(clippy::needless_range_loop)] // rows and columns of several matrices at once

use super::super::Picture;
use super::TILING;
use super::winograd::{SIZE, transforms};
use super::winograd512::GROUP;
use core::arch::asm;
use core::arch::x86_64::*;
use core::ops::Range;

transforms! {
    "avx512f,avx512bw", __m512i, _mm512_setzero_si512, _mm512_add_epi16, _mm512_sub_epi16, _mm512_slli_epi16,
    _mm512_add_epi32, _mm512_sub_epi32, _mm512_slli_epi32
}

/// Where tiles' pixels are.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// In a window, padded and widened.
    Window(*const i16),
    /// In a picture, or around it.
    Picture(Picture<'a>),
}

/// All tiles of the input, transformed, `SOME` channels at a time: 32, or 16 or 4 of few.
///
/// # Safety
/// In the window there are the pixels that `rows` times `columns` tiles read, or the picture's elements are there, one at least; from `values`
/// on, for each coefficient and tile, an element for each that `winograd_row` says can be written. There are `SOME` channels.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
#[inline]
pub(super) unsafe fn input<const N: usize, const SOME: usize>(
    values: *mut i16,
    source: Source<'_>,
    in_c: usize,
    [rows, columns]: [usize; 2],
) {
    let step = N - 2;
    let stride = rows * columns * TILING.winograd_row(in_c);
    for k in (0..in_c).step_by(SOME) {
        // The last ones may be computed twice.
        let k = k.min(in_c - SOME);
        for r in 0..rows {
            let to = values.wrapping_add(r * columns * in_c + k);
            let sizes = [columns, in_c, stride];
            let mut lines = Lines { at: [(core::ptr::null(), !0); N], pad: 0, inside: [0, isize::MAX] };
            // SAFETY: `SOME` channels from k on, of the window's rows of row r of tiles, or of a pixel of the picture.
            unsafe {
                match source {
                    Source::Window(window) => {
                        let row_len = (step * columns + 2) * in_c;
                        for (i, (at, _)) in lines.at.iter_mut().enumerate() {
                            *at = window.wrapping_add((r * step + i) * row_len + k).cast();
                        }
                        tiles::<N, SOME, false>(to, &lines, sizes);
                    }
                    Source::Picture(Picture { elems, size: [h, w, _], from: [y, x], zero_point, .. }) => {
                        (lines.pad, lines.inside) = (zero_point.into(), [-x, w as isize - x]);
                        for (i, (at, mask)) in lines.at.iter_mut().enumerate() {
                            let y = y + (r * step + i) as isize;
                            let place = y.clamp(0, h as isize - 1);
                            let first = (place * w as isize + x) * in_c as isize;
                            *at = elems.as_ptr().wrapping_offset(first).wrapping_add(k);
                            // Of rows beside the picture nothing is taken.
                            *mask = if y == place { !0 } else { 0 };
                        }
                        tiles::<N, SOME, true>(to, &lines, sizes);
                    }
                }
            }
        }
    }
}

/// The lines that a row of tiles reads.
struct Lines<const N: usize> {
    /// Each one's first pixel, which may lie beside the picture, and the elements that are taken of pixels.
    at: [(*const i8, __mmask32); N],
    /// What stands for all others.
    pad: i16,
    /// The first pixel that is there, and the first that is not.
    inside: [isize; 2],
}

/// A row of tiles, bytes or words.
///
/// # Safety
/// `SOME` elements of the pixels that are there can be read, `in_c` from one to the next, and as many of each coefficient and tile written.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
unsafe fn tiles<const N: usize, const SOME: usize, const BYTES: bool>(
    mut to: *mut i16,
    lines: &Lines<N>,
    [columns, in_c, stride]: [usize; 3],
) {
    let step = N - 2;
    let mut down = [[_mm512_setzero_si512(); N]; N];
    let pad = _mm512_set1_epi16(lines.pad);
    let bytes = if BYTES { in_c } else { 2 * in_c };
    // SAFETY: `SOME` channels of pixels that are there.
    let column = |column: usize| unsafe {
        if BYTES && !(lines.inside[0]..lines.inside[1]).contains(&(column as isize)) {
            return input_1d::<N>([pad; N]);
        }
        input_1d::<N>(core::array::from_fn(|row| {
            let (at, mask) = lines.at[row];
            let at = at.wrapping_add(column * bytes);
            match (BYTES, SOME) {
                (true, 32) => _mm512_mask_cvtepi8_epi16(pad, mask, _mm256_loadu_si256(at.cast())),
                (true, _) => _mm512_mask_cvtepi8_epi16(pad, mask, _mm256_castsi128_si256(_mm_loadu_si128(at.cast()))),
                (false, 32) => _mm512_loadu_si512(at.cast()),
                (false, 16) => _mm512_castsi256_si512(_mm256_loadu_si256(at.cast())),
                (false, _) => _mm512_castsi128_si512(_mm_loadl_epi64(at.cast())),
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
        let mut row_to = to;
        for y in 0..N {
            let row = input_1d::<N>(down[y]);
            for (x, value) in row.into_iter().enumerate() {
                // SAFETY: `SOME` channels of coefficient N·y + x of the tile.
                unsafe {
                    let to = row_to.add(x * stride);
                    match SOME {
                        32 => _mm512_storeu_si512(to.cast(), value),
                        16 => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(value)),
                        _ => _mm_storel_epi64(to.cast(), _mm512_castsi512_si128(value)),
                    }
                }
            }
            row_to = opaque(row_to.wrapping_add(N * stride));
        }
        to = opaque(to.wrapping_add(in_c));
    }
}

/// The pointer, of which the compiler does not know where it is from: else it keeps one for each of 36 coefficients, in memory, and all of this
/// takes 1.1 times as long.
#[inline(always)]
fn opaque(mut to: *mut i16) -> *mut i16 {
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(reg) to, options(pure, readonly, nostack, preserves_flags)) };
    to
}

/// Sums of sixteen channels of some of the tiles, `columns` in a row: `store` is given the row and the first pixel of each row of pixels.
///
/// # Safety
/// From `m` on there are as many tiles' products: of each row of coefficients the first step of their sums, or the coefficients behind an
/// upsampling, sixteen of each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) unsafe fn output<const N: usize>(
    mut m: *const i32,
    tiles: Range<usize>,
    columns: usize,
    store: impl Fn([usize; 2], [__m512i; SIZE]),
) {
    let size = N / 3 * 2;
    let ninth = _mm512_set1_epi32(0x38E3_8E39);
    // Of each row its sums, or the products that make them.
    let kept = if N == 3 { N } else { SIZE };
    let mut down = [[_mm512_setzero_si512(); SIZE]; SIZE];
    let [mut r, mut c] = [tiles.start / columns, tiles.start % columns];
    for _ in tiles {
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
            let mut row = if N == 3 { output_1d(&[m0, m1, m2]) } else { down[y] };
            if N == 6 {
                let [a, b, c, d] = row.map(|sums| _mm512_mullo_epi32(sums, ninth));
                row = [
                    _mm512_srai_epi32::<6>(a),
                    _mm512_srai_epi32::<5>(b),
                    _mm512_srai_epi32::<4>(c),
                    _mm512_srai_epi32::<4>(d),
                ];
            }
            store([r * size + y, c * size], row);
        }
        m = m.wrapping_add(N * kept * GROUP);
        c += 1;
        if c == columns {
            [r, c] = [r + 1, 0];
        }
    }
}
