//! AVX-512 VNNI for 1×1 convolutions of two pictures: from pixels to bytes in one pass.
//!
//! As `direct512`, a lane is a channel. Sums of both pictures are scaled where they are computed, each by its own factors.

use super::super::{ByteLimits, Pixels, Requantization};
use super::order512::{VECTOR, add_run, line};
use super::picture512::{Lines, flip};
use super::requantize512::{Source, bytes, whole, words};
use super::rows512::{Shift, first16};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Bytes of the pixels whose signs are flipped at a time.
const CHUNK: usize = 4 << 10;
const _: () = assert!(CHUNK >= 8 * ByteLimits::PIXELS_C);

/// Bytes of both pictures' weights.
const WEIGHTS: usize = ByteLimits::PIXELS_C / 4 * 2 * VECTOR;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_pixels(out: &mut [i8], out_c: usize, sources: [Pixels<'_>; 2], k: Requantization<'_>) {
    let [first, second] = sources;
    let channels = k.channels[0].bias.len();
    let pixels = first.elems.len() / first.c.max(1);
    let out_len = pixels.saturating_sub(1).saturating_mul(out_c).saturating_add(channels);
    let there = second.elems.len() / second.c.max(1) >= pixels && out_len <= out.len() && out_c >= channels;
    let weighed =
        [first, second].iter().all(|side| channels.next_multiple_of(4).saturating_mul(side.c) <= side.weights.len());
    if pixels == 0 || !there || !weighed || !ByteLimits::has_pixels([first.c, second.c]) || k.residual.is_some() {
        return;
    }
    let (mut flipped, mut lined) =
        ([const { Lines::<{ CHUNK + VECTOR }>::new() }; 2], Lines::<{ WEIGHTS + 6 * 2 * VECTOR }>::new());
    let [a, b] = &mut flipped;
    let (x, lined) = ([a.start(), b.start()], lined.start());
    let cs = [first.c, second.c];
    // Whole tiles, as long as all are; one at least, as `CHUNK` says.
    let most = CHUNK / first.c.max(second.c) / 8 * 8;
    for at in (0..channels).step_by(32) {
        let lanes = (channels - at).min(32);
        let sum_lines = |v: usize| lined.wrapping_add(first.c / 4 * v * VECTOR);
        let v = if lanes > 16 { 2 } else { 1 };
        let w = [lined, sum_lines(v)];
        for (i, side) in sources.iter().enumerate() {
            let from = side.weights.as_ptr().wrapping_add(at * side.c);
            // SAFETY: `weighed`; room for as many groups and three more, the first's before the second's.
            unsafe {
                match v {
                    2 => line::<2>(w[i], from, side.c / 4, lanes),
                    _ => line::<1>(w[i], from, side.c / 4, lanes),
                }
            }
        }
        for p in (0..pixels).step_by(most) {
            let count = (pixels - p).min(most);
            for (i, side) in sources.iter().enumerate() {
                // SAFETY: pixels that are `there`, which fit.
                unsafe { flip(x[i], side.elems.as_ptr().add(p * side.c), count * side.c) };
            }
            let to = out.as_mut_ptr().wrapping_add(p * out_c + at);
            let job = Job { x: x.map(<*mut i8>::cast_const), w: w.map(<*mut i8>::cast_const), cs, to, out_c };
            // SAFETY: pixels, weights and outputs are there.
            unsafe {
                match (v, k.channels[0].shift == 0 && lanes == 16 * v) {
                    (2, true) => job.run::<2, 4, true>(&Constants::new(&k, at, lanes), count),
                    (2, _) => job.run::<2, 4, false>(&Constants::new(&k, at, lanes), count),
                    (_, true) => job.run::<1, 8, true>(&Constants::new(&k, at, lanes), count),
                    _ => job.run::<1, 8, false>(&Constants::new(&k, at, lanes), count),
                }
            }
        }
    }
}

/// Constants of `V` vectors of channels.
struct Constants<const V: usize> {
    sources: [[Source; 2]; V],
    shift: Shift,
    zero_point: __m512i,
    /// The channels that are there, a bit each.
    masks: [__mmask16; V],
}

impl<const V: usize> Constants<V> {
    /// Of `lanes` channels from `first` on.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(k: &Requantization<'_>, first: usize, lanes: usize) -> Self {
        // Half of what the last shift drops.
        let half = 1 << (SUM_FRACTION_BITS - 1);
        let source = |v: usize| {
            [Source::new(k.channels[0], first + 16 * v, half), Source::new(k.channels[1], first + 16 * v, 0)]
        };
        let mut sources = [source(0); V];
        let mut masks = [first16(lanes); V];
        for v in 1..V {
            (sources[v], masks[v]) = (source(v), first16(lanes - 16 * v));
        }
        Constants {
            sources,
            shift: Shift::new(k.channels[0].shift),
            zero_point: _mm512_set1_epi16(k.zero_point as i16),
            masks,
        }
    }
}

/// Pixels of both pictures with 128 more each element, their weights as steps, and where outputs go.
struct Job {
    x: [*const i8; 2],
    w: [*const i8; 2],
    /// Elements of a pixel.
    cs: [usize; 2],
    to: *mut i8,
    /// Elements from one output pixel to the next.
    out_c: usize,
}

impl Job {
    /// `count` pixels, `N` at a time, eight vectors; the last ones one after the other.
    ///
    /// # Safety
    /// Pixels, weights and outputs are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const V: usize, const N: usize, const PLAIN: bool>(&self, k: &Constants<V>, count: usize) {
        let mut p = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while p + N <= count {
                self.tile::<V, N, PLAIN>(k, p);
                p += N;
            }
            while p < count {
                self.tile::<V, 1, PLAIN>(k, p);
                p += 1;
            }
        }
    }

    /// `N` pixels from `p` on.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn tile<const V: usize, const N: usize, const PLAIN: bool>(&self, k: &Constants<V>, p: usize) {
        // SAFETY: the caller's promise.
        let (mut sums, second) = unsafe { (self.scaled::<V, N, PLAIN, 0>(k, p), self.scaled::<V, N, PLAIN, 1>(k, p)) };
        for (sums, second) in sums.iter_mut().zip(second) {
            for v in 0..V {
                sums[v] = _mm512_add_epi32(sums[v], second[v]);
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.store_four::<V, N, PLAIN>(k, &sums, p, 0);
            if N * V > 4 {
                self.store_four::<V, N, PLAIN>(k, &sums, p, 4 / V);
            }
        }
    }

    /// Scaled sums of a source.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn scaled<const V: usize, const N: usize, const PLAIN: bool, const SOURCE: usize>(
        &self,
        k: &Constants<V>,
        p: usize,
    ) -> [[__m512i; V]; N] {
        let mut biases = [_mm512_setzero_si512(); V];
        for (bias, of) in biases.iter_mut().zip(&k.sources) {
            *bias = of[SOURCE].bias;
        }
        let (mut acc, c) = ([biases; N], self.cs[SOURCE]);
        let mut from = [self.x[SOURCE]; N];
        for (i, from) in from.iter_mut().enumerate() {
            *from = from.wrapping_add((p + i) * c);
        }
        // SAFETY: the caller's promise.
        unsafe { add_run(&mut acc, from, c, self.w[SOURCE]) };
        for sums in &mut acc {
            for (sum, of) in sums.iter_mut().zip(&k.sources) {
                let shifted = if PLAIN { *sum } else { k.shift.of(*sum) };
                *sum = of[SOURCE].multiplier.mul_round(shifted);
            }
        }
        acc
    }

    /// Four vectors, from the pixel `first` of them on.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store_four<const V: usize, const N: usize, const PLAIN: bool>(
        &self,
        k: &Constants<V>,
        sums: &[[__m512i; V]; N],
        p: usize,
        first: usize,
    ) {
        // The last pixel stands for those that are not there.
        let sum = |i: usize| sums[(first + i / V).min(N - 1)][i % V];
        let [ab, cd] = [words(sum(0), sum(1)), words(sum(2), sum(3))];
        let [ab, cd] = [ab, cd].map(|words| _mm512_adds_epi16(whole(words), k.zero_point));
        let bytes = bytes(ab, cd);
        let to = |p: usize| self.to.wrapping_add(p * self.out_c);
        let p = p + first;
        // SAFETY: the caller's promise; what is masked off is not written.
        unsafe {
            if N * V >= 4 && PLAIN && self.out_c == 16 * V {
                return _mm512_storeu_si512(to(p).cast(), bytes);
            }
            let each = [
                _mm512_castsi512_si128(bytes),
                _mm512_extracti32x4_epi32::<1>(bytes),
                _mm512_extracti32x4_epi32::<2>(bytes),
                _mm512_extracti32x4_epi32::<3>(bytes),
            ];
            for (i, bytes) in each.into_iter().enumerate().take(V * N) {
                _mm_mask_storeu_epi8(
                    to(p + i / V).wrapping_add(i % V * 16),
                    if PLAIN { !0 } else { k.masks[i % V] },
                    bytes,
                );
            }
        }
    }
}
