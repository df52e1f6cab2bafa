//! AVX-512 VNNI where a call has enough pixels to bring weights and window into the order in which they are read.
//!
//! A lane is a channel: weights lie as vectors of sixteen channels by four elements, two beside each other, which meet four elements of
//! a pixel, broadcast. So nothing has to be added in the end, which of 288 products a sum takes a tenth of the time, and no input is
//! permuted. Of sixteen channels or fewer the two vectors are of eight channels by eight elements, so that there are no more reads
//! for a product. The window's copy has its signs flipped.

use super::super::{ByteLimits, Picture, Requantization};
use super::order512::{STEP, line, order, pair};
use super::picture512::{Lines, Shape, load};
use super::requantize512::{Sixteen, bytes_of_four};
use super::rows512::{Shift, first16};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Channels at a time.
const CHANNELS: usize = 32;

/// Pixels of a tile: 8 × 2 accumulators, as many as hide the latency of two products a cycle twice, and a register each for their places.
const PIXELS: usize = 8;

/// Bytes of the window's copy and of the ordered weights: with what they are made of they fit the first cache, or nearly.
pub(super) const WINDOW: usize = 16 << 10;
pub(super) const WEIGHTS: usize = 24 << 10;

/// Bytes of weights of runs that are not whole groups, ordered again: up to a run for an element.
const ODD: usize = ODD_PATCH * STEP;
const ODD_PATCH: usize = 64;

/// Below 32 pixels the weights' order costs more than it gains. With 16 output channels Winograd's algorithm takes 1.35 times as long of
/// 16 input channels, 1.1 to 1.2 of 32 and 48; with 32 output channels 0.88 times.
pub(super) const LIMITS: ByteLimits = ByteLimits {
    patch: 4 * (WEIGHTS / STEP - 4),
    odd_patch: ODD_PATCH,
    f32_patch: 9 * ByteLimits::F32_CHANNELS,
    window: WINDOW - 64,
    pixels: 32,
    channels: 16,
    up_width: 32,
};

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_bytes(out: &mut [i8], out_c: usize, picture: Picture<'_>, weights: &[i8], k: Requantization<'_>) {
    let channels = k.channels[0].bias.len();
    let odd = !picture.kernel[1].wrapping_mul(picture.size[2]).is_multiple_of(4);
    let limit = if odd { LIMITS.odd_patch } else { LIMITS.patch };
    let Some(shape) = Shape::new(&picture, limit) else { return };
    let Shape { runs, run_len, pixel_stride, row_pixels, row_stride, .. } = shape;
    let pixels = shape.rows * row_pixels;
    let groups = (runs * run_len).div_ceil(4);
    let there = channels.next_multiple_of(4).saturating_mul(4 * groups) <= weights.len();
    let out_len = (pixels - 1).saturating_mul(out_c).saturating_add(channels);
    let given = k.residual.and_then(|residual| residual.elems);
    let room = out_c >= channels && out_len <= out.len() && given.is_none_or(|elems| out_len <= elems.len());
    if !there || !room {
        return;
    }
    let to = out.as_mut_ptr();
    let residual = given.map_or(to.cast_const(), <[i8]>::as_ptr);
    let mut flipped = Lines::<WINDOW>::new();
    let mut lined = Lines::<WEIGHTS>::new();
    let mut ordered = Lines::<ODD>::new();
    let from = flipped.start();
    // SAFETY: the shape's window and 64 more fit.
    unsafe { load(from, &picture, &shape) };
    // Tiles of nearly equal size.
    let size = row_pixels.div_ceil(row_pixels.div_ceil(PIXELS));
    for first in (0..channels).step_by(CHANNELS) {
        let lanes = (channels - first).min(CHANNELS);
        let pairs = lanes <= 16 && (odd || run_len.is_multiple_of(8));
        // SAFETY: `there`, and `fits`.
        let w = unsafe {
            let lined = lined.start();
            let weights = weights.as_ptr().add(first * 4 * groups);
            match pairs && !odd {
                true => line::<true>(lined, weights, groups, lanes),
                false => line::<false>(lined, weights, groups, lanes),
            }
            match odd {
                false => lined,
                true => {
                    let ordered = ordered.start();
                    order(ordered, lined, [runs, run_len], pairs);
                    ordered
                }
            }
        };
        // What the file has behind them, as many bytes as these: other channels' weights, or the next convolution's.
        let mut ahead = weights.as_ptr().wrapping_add((first + lanes) * 4 * groups);
        let ahead_len = (lanes * 4 * groups / 64).div_ceil(pixels.div_ceil(size));
        let places = (to.wrapping_add(first), residual.wrapping_add(first), out_c);
        let whole = lanes == if pairs { 16 } else { CHANNELS };
        let finish = Finish::new(&k, places, [first, lanes], whole);
        for row in 0..shape.rows {
            for p in (0..row_pixels).step_by(size) {
                for _ in 0..ahead_len {
                    _mm_prefetch::<_MM_HINT_T0>(ahead);
                    ahead = ahead.wrapping_add(64);
                }
                let x = from.wrapping_add(row * row_stride + p * pixel_stride).cast_const();
                let pixel = row * row_pixels + p;
                let tile = Tile { x, w, shape: &shape, finish: &finish, pixel };
                // SAFETY: pixels from p on are there: `there`.
                unsafe {
                    match (pairs, (row_pixels - p).min(size)) {
                        (false, 1) => tile.run::<false, 1>(),
                        (false, 2) => tile.run::<false, 2>(),
                        (false, 3) => tile.run::<false, 3>(),
                        (false, 4) => tile.run::<false, 4>(),
                        (false, 5) => tile.run::<false, 5>(),
                        (false, 6) => tile.run::<false, 6>(),
                        (false, 7) => tile.run::<false, 7>(),
                        (false, _) => tile.run::<false, 8>(),
                        (true, 1) => tile.run::<true, 1>(),
                        (true, 2) => tile.run::<true, 2>(),
                        (true, 3) => tile.run::<true, 3>(),
                        (true, 4) => tile.run::<true, 4>(),
                        (true, 5) => tile.run::<true, 5>(),
                        (true, 6) => tile.run::<true, 6>(),
                        (true, 7) => tile.run::<true, 7>(),
                        (true, _) => tile.run::<true, 8>(),
                    }
                }
            }
        }
    }
}

/// What becomes of the sums of two vectors of channels.
struct Finish {
    kind: Kind,
    /// The first channels of the first pixel.
    to: *mut i8,
    residual: *const i8,
    /// Elements from one pixel to the next.
    stride: usize,
    /// The channels that are there, a bit each.
    masks: [__mmask16; 2],
    constants: [Sixteen; 2],
    shift: u32,
}

enum Kind {
    /// All channels, without a shift; with a residual or without.
    Plain,
    Residual,
    /// Whatever they need.
    Any(bool),
}

impl Finish {
    /// Of `lanes` channels from `first` on, which are the `whole` of a step or not.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(
        k: &Requantization<'_>,
        (to, residual, stride): (*mut i8, *const i8, usize),
        [first, lanes]: [usize; 2],
        whole: bool,
    ) -> Finish {
        let shift = k.channels[0].shift;
        Finish {
            kind: match (shift == 0 && whole, k.residual.is_some()) {
                (true, false) => Kind::Plain,
                (true, true) => Kind::Residual,
                (false, residual) => Kind::Any(residual),
            },
            to,
            residual,
            stride,
            masks: [first16(lanes), first16(lanes.saturating_sub(16))],
            constants: [Sixteen::new(k, first, false), Sixteen::new(k, first + 16, false)],
            shift,
        }
    }
}

/// A register tile.
struct Tile<'a> {
    /// Its first pixel's patch.
    x: *const i8,
    w: *const i8,
    shape: &'a Shape,
    finish: &'a Finish,
    /// The number of its first pixel.
    pixel: usize,
}

impl Tile<'_> {
    /// # Safety
    /// From `x` on there are `COUNT` patches, and 8 elements more, from `w` on their steps, where `finish` says its channels of `COUNT`
    /// pixels from `pixel` on.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const PAIRS: bool, const COUNT: usize>(self) {
        let Shape { runs, run_len, run_stride, pixel_stride, .. } = *self.shape;
        let [a, b] = [self.finish.constants[0].source.bias, self.finish.constants[1].source.bias];
        let mut acc = match PAIRS {
            true => [pair(a, _mm512_setzero_si512()); COUNT],
            false => [[a, b]; COUNT],
        };
        let mut w = self.w;
        // A run at least: the compiler would set the accumulators twice.
        let mut x = self.x;
        for run in 1.. {
            let mut from = [x; COUNT];
            for (p, from) in from.iter_mut().enumerate() {
                *from = x.wrapping_add(p * pixel_stride);
            }
            let width = if PAIRS { 8 } else { 4 };
            // SAFETY: the caller's promise.
            let step = |acc: &mut [[__m512i; 2]; COUNT], k: usize, w: *const i8| unsafe {
                let rows = [_mm512_loadu_si512(w.cast()), _mm512_loadu_si512(w.add(64).cast())];
                for (acc, from) in acc.iter_mut().zip(from) {
                    let elems = match PAIRS {
                        true => _mm512_set1_epi64(from.add(k).cast::<i64>().read_unaligned()),
                        false => _mm512_set1_epi32(from.add(k).cast::<i32>().read_unaligned()),
                    };
                    acc[0] = _mm512_dpbusd_epi32(acc[0], elems, rows[0]);
                    acc[1] = _mm512_dpbusd_epi32(acc[1], elems, rows[1]);
                }
            };
            let mut k = 0;
            while k + width < run_len {
                step(&mut acc, k, w);
                step(&mut acc, k + width, w.wrapping_add(STEP));
                (k, w) = (k + 2 * width, w.wrapping_add(2 * STEP));
            }
            if k < run_len {
                step(&mut acc, k, w);
                w = w.wrapping_add(STEP);
            }
            if run >= runs {
                break;
            }
            x = x.wrapping_add(run_stride);
        }
        // SAFETY: the caller's promise.
        unsafe {
            match self.finish.kind {
                Kind::Plain => self.store_bytes::<PAIRS, false, COUNT>(&acc),
                Kind::Residual => self.store_bytes::<PAIRS, true, COUNT>(&acc),
                Kind::Any(residual) => {
                    for (p, [a, b]) in acc.into_iter().enumerate() {
                        let [a, b] = if PAIRS { [add_pairs(a, b); 2] } else { [a, b] };
                        self.finish.store_any(a, b, self.pixel + p, residual);
                    }
                }
            }
        }
    }

    /// # Safety
    /// As of `run`, where all channels are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store_bytes<const PAIRS: bool, const RESIDUAL: bool, const COUNT: usize>(
        &self,
        acc: &[[__m512i; 2]; COUNT],
    ) {
        let some = if PAIRS { 4 } else { 2 };
        // SAFETY: the caller's promise. Not a loop, over which the compiler would keep the sums in memory.
        unsafe {
            self.store_four::<PAIRS, RESIDUAL, COUNT>(acc, 0);
            if COUNT > some {
                self.store_four::<PAIRS, RESIDUAL, COUNT>(acc, some);
            }
            if COUNT > 2 * some {
                self.store_four::<PAIRS, RESIDUAL, COUNT>(acc, 2 * some);
            }
            if COUNT > 3 * some {
                self.store_four::<PAIRS, RESIDUAL, COUNT>(acc, 3 * some);
            }
        }
    }

    /// Four vectors, of two pixels from `first` on, or in `PAIRS` of four.
    ///
    /// # Safety
    /// As of `store_bytes`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store_four<const PAIRS: bool, const RESIDUAL: bool, const COUNT: usize>(
        &self,
        acc: &[[__m512i; 2]; COUNT],
        first: usize,
    ) {
        let Finish { to, residual, stride, constants, .. } = self.finish;
        let (to, residual) = (to.wrapping_add(self.pixel * stride), residual.wrapping_add(self.pixel * stride));
        let per_pixel = if PAIRS { 1 } else { 2 };
        let mut sums = [_mm512_setzero_si512(); 4];
        for (i, sums) in sums.iter_mut().enumerate() {
            // The last pixel stands for those that are not there.
            let (p, v) = ((first + i / per_pixel).min(COUNT - 1), i % per_pixel);
            let elems = match RESIDUAL {
                // SAFETY: the caller's promise.
                true => unsafe {
                    _mm512_cvtepi8_epi32(_mm_loadu_si128(residual.wrapping_add(p * stride + 16 * v).cast()))
                },
                false => _mm512_setzero_si512(),
            };
            let scaled = match PAIRS {
                true => constants[0].scale_pairs::<RESIDUAL>(acc[p], elems),
                false => constants[v].scale::<RESIDUAL>(acc[p][v], elems),
            };
            *sums = _mm512_srai_epi32::<{ SUM_FRACTION_BITS }>(scaled);
        }
        let bytes = bytes_of_four(sums);
        let to = |p: usize| to.wrapping_add((first + p) * stride);
        // SAFETY: the caller's promise, for as many pixels as there are.
        unsafe {
            if first + 4 / per_pixel <= COUNT && *stride == 16 * per_pixel {
                _mm512_storeu_si512(to(0).cast(), bytes);
            } else if PAIRS {
                _mm_storeu_si128(to(0).cast(), _mm512_castsi512_si128(bytes));
                if first + 1 < COUNT {
                    _mm_storeu_si128(to(1).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                }
                if first + 2 < COUNT {
                    _mm_storeu_si128(to(2).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                }
                if first + 3 < COUNT {
                    _mm_storeu_si128(to(3).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
                }
            } else {
                _mm256_storeu_si256(to(0).cast(), _mm512_castsi512_si256(bytes));
                if first + 1 < COUNT {
                    _mm256_storeu_si256(to(1).cast(), _mm512_extracti64x4_epi64::<1>(bytes));
                }
            }
        }
    }
}

/// Sixteen channels' sums of those of pairs.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn add_pairs(a: __m512i, b: __m512i) -> __m512i {
    let [a, b] = [a, b].map(|sums| _mm512_castsi512_ps(_mm512_add_epi32(sums, _mm512_srli_epi64::<32>(sums))));
    _mm512_castps_si512(_mm512_shuffle_ps::<0b10_00_10_00>(a, b))
}

impl Finish {
    /// A pixel's two vectors.
    ///
    /// # Safety
    /// Its channels of `masks` are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline(never)]
    unsafe fn store_any(&self, first: __m512i, second: __m512i, pixel: usize, residual: bool) {
        let shift = Shift::new(self.shift);
        for (v, sum) in [first, second].into_iter().enumerate() {
            let (mask, constants) = (self.masks[v], &self.constants[v]);
            let at = pixel * self.stride + 16 * v;
            // SAFETY: the caller's promise; what is masked off is neither read nor written.
            unsafe {
                let elems = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(
                    if residual { mask } else { 0 },
                    self.residual.wrapping_add(at),
                ));
                let sum = match residual {
                    true => constants.scale::<true>(shift.of(sum), elems),
                    false => constants.scale::<false>(shift.of(sum), elems),
                };
                let bytes = _mm512_cvtsepi32_epi8(_mm512_srai_epi32::<{ SUM_FRACTION_BITS }>(sum));
                _mm_mask_storeu_epi8(self.to.wrapping_add(at), mask, bytes);
            }
        }
    }
}
