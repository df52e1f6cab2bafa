//! AVX-512 VNNI for a network's last convolution: up to four output channels, as floats.
//!
//! With a lane for a channel, as elsewhere, most would be idle. Here lanes are input channels, sixteen to a quarter of a vector, and
//! a vector holds four pixels of 16 channels, two of 32 or 64 elements of one, as they lie beside each other in the window. It meets
//! each output channel's weights; in the end four vectors of sums become one of four pixels' four channels. 16×16 pixels of 16
//! channels take a fifth of the time.

use super::super::{ByteLimits, Channels, Picture};
use super::direct512::{LIMITS, WINDOW};
use super::picture512::{Lines, Shape, load};
use super::rows512::{first16, fold};
use core::arch::x86_64::*;

/// Vectors of a register tile.
const VECTORS: usize = 4;

/// What may be read behind the window: a tile but for a pixel, and a vector but for a quarter.
const SLACK: usize = ByteLimits::F32_CHANNELS * VECTORS;

/// Rows of weights.
const ROWS: usize = 4;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_f32(out: &mut [f32], picture: Picture<'_>, weights: &[i8], k: Channels<'_>) {
    let (channels, c) = (k.bias.len(), picture.size[2]);
    let Some(shape) = Shape::new(&picture, LIMITS.f32_patch) else { return };
    let patch = shape.runs * shape.run_len;
    let there = ROWS * patch <= weights.len() && (shape.rows * shape.row_pixels).saturating_mul(channels) <= out.len();
    let has = channels > 0 && ByteLimits::has_f32(channels, c, picture.stride);
    if !there || !has || k.multiplier.len() < channels {
        return;
    }
    let mut window = Lines::<{ WINDOW + SLACK }>::new();
    let mut rows = Lines::<{ ROWS * LIMITS.f32_patch }>::new();
    // SAFETY: the window, and `SLACK` behind it; a whole block of weights, which is `there`.
    let (x, w) = unsafe {
        let (x, w) = (load(window.start(), &picture, &shape), rows.start());
        x.add(shape.len).write_bytes(0, SLACK);
        unblock(w, weights.as_ptr(), patch);
        (x, w)
    };
    let mut constants = [[0; ROWS]; 2];
    for (to, from) in constants.iter_mut().zip([k.bias, k.multiplier]) {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
    }
    // The channels of four pixels.
    // SAFETY: four elements.
    let [bias, scale] = constants.map(|c| _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(c.as_ptr().cast()) }));
    let mut lanes = [0; 16];
    for (i, lane) in lanes.iter_mut().enumerate().take(4 * channels) {
        *lane = (i / channels * ROWS + i % channels) as i32;
    }
    // SAFETY: sixteen elements.
    let lanes = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
    let job =
        Job { x, w, out: out.as_mut_ptr(), shape: &shape, c, channels, bias, scale: _mm512_castsi512_ps(scale), lanes };
    // SAFETY: as `Job` says.
    unsafe {
        match (c, channels) {
            (16, ROWS) => job.run::<1, 4>(),
            (16, _) => job.run::<1, 3>(),
            (32, ROWS) => job.run::<2, 4>(),
            (32, _) => job.run::<2, 3>(),
            (_, ROWS) => job.run::<4, 4>(),
            _ => job.run::<4, 3>(),
        }
    }
}

/// A block of weights as four rows.
///
/// # Safety
/// There are four rows of `patch` elements, a multiple of 16, and room for as many.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn unblock(to: *mut i8, from: *const i8, patch: usize) {
    let by_rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for k in (0..patch).step_by(16) {
        // SAFETY: four groups of four rows, sixteen elements of each.
        unsafe {
            let groups = _mm512_permutexvar_epi32(by_rows, _mm512_loadu_si512(from.add(4 * k).cast()));
            let to = |row: usize| to.add(row * patch + k).cast();
            _mm_storeu_si128(to(0), _mm512_castsi512_si128(groups));
            _mm_storeu_si128(to(1), _mm512_extracti32x4_epi32::<1>(groups));
            _mm_storeu_si128(to(2), _mm512_extracti32x4_epi32::<2>(groups));
            _mm_storeu_si128(to(3), _mm512_extracti32x4_epi32::<3>(groups));
        }
    }
}

/// A picture's convolution: its window at `x`, with `SLACK` behind, rows of weights at `w`, and room for its floats at `out`.
struct Job<'a> {
    x: *const i8,
    w: *const i8,
    out: *mut f32,
    shape: &'a Shape,
    c: usize,
    channels: usize,
    /// Of four pixels' channels.
    bias: __m512i,
    scale: __m512,
    /// Where the channels that there are lie among four pixels' four.
    lanes: __m512i,
}

impl Job<'_> {
    /// A pixel's elements fill `QUARTERS` of a vector, or several; of `COUNT` channels.
    ///
    /// # Safety
    /// As the struct says; c is 16·`QUARTERS`, or a multiple of 64.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const QUARTERS: usize, const COUNT: usize>(&self) {
        let Shape { runs, run_len, run_stride, rows, row_pixels, .. } = *self.shape;
        let pixels = 4 / QUARTERS * VECTORS;
        let apart = self.c.max(64);
        let patch = runs * run_len;
        for row in 0..rows {
            for pixel in (0..row_pixels).step_by(pixels) {
                let mut acc = [[_mm512_setzero_si512(); ROWS]; VECTORS];
                for run in 0..runs {
                    let x = self.x.wrapping_add((row + run) * run_stride + pixel * self.c);
                    let w = self.w.wrapping_add(run * run_len);
                    for k in (0..run_len).step_by(16 * QUARTERS) {
                        let mut weights = [_mm512_setzero_si512(); COUNT];
                        for (i, weights) in weights.iter_mut().enumerate() {
                            let w = w.wrapping_add(i * patch + k);
                            // SAFETY: 16·QUARTERS weights of row i.
                            *weights = unsafe {
                                match QUARTERS {
                                    1 => _mm512_broadcast_i32x4(_mm_loadu_si128(w.cast())),
                                    2 => _mm512_broadcast_i64x4(_mm256_loadu_si256(w.cast())),
                                    _ => _mm512_loadu_si512(w.cast()),
                                }
                            };
                        }
                        for (v, acc) in acc.iter_mut().enumerate() {
                            // SAFETY: the window, or behind it: less than a tile's pixels, and the rest of a vector.
                            let elems = unsafe { _mm512_loadu_si512(x.wrapping_add(v * apart + k).cast()) };
                            for (acc, &weights) in acc.iter_mut().zip(&weights) {
                                *acc = _mm512_dpbusd_epi32(*acc, elems, weights);
                            }
                        }
                    }
                }
                let [a, b, c, d] = [quads(acc[0]), quads(acc[1]), quads(acc[2]), quads(acc[3])];
                let first = row * row_pixels + pixel;
                let left = row_pixels - pixel;
                // SAFETY: as many pixels as are left.
                unsafe {
                    match QUARTERS {
                        1 => {
                            self.store(a, first, left);
                            self.store(b, first + 4, left.saturating_sub(4));
                            self.store(c, first + 8, left.saturating_sub(8));
                            self.store(d, first + 12, left.saturating_sub(12));
                        }
                        2 => {
                            self.store(fold(a, b), first, left);
                            self.store(fold(c, d), first + 4, left.saturating_sub(4));
                        }
                        _ => self.store(fold(fold(a, b), fold(c, d)), first, left),
                    }
                }
            }
        }
    }

    /// Four pixels' sums, or those that are left, as floats.
    ///
    /// # Safety
    /// There is room for as many.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store(&self, sums: __m512i, first: usize, left: usize) {
        let sums = _mm512_permutexvar_epi32(self.lanes, _mm512_add_epi32(sums, self.bias));
        let scale = _mm512_permutexvar_ps(self.lanes, self.scale);
        let floats = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale);
        if left > 0 {
            // SAFETY: what is masked off is not written.
            unsafe {
                let to = self.out.add(first * self.channels);
                _mm512_mask_storeu_ps(to, first16(left.min(4) * self.channels), floats);
            }
        }
    }
}

/// The sums of the four lanes of each quarter of four vectors, a lane each.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn quads([a, b, c, d]: [__m512i; 4]) -> __m512i {
    let two = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let [ab, cd] = [two(a, b), two(c, d)];
    _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
}
