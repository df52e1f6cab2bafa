//! AVX-512 VNNI where a call has enough pixels to bring weights and window into the order in which they are read.
//!
//! A lane is a channel: weights lie as vectors of sixteen channels by four elements, one or two beside each other, which meet four elements
//! of a pixel, broadcast. So nothing has to be added in the end, which of 288 products a sum takes a tenth of the time, and no input is
//! permuted. Of three taps beside each other a pixel's elements are read once. The window's copy has its signs flipped.

use super::super::{ByteLimits, Picture, Requantization};
use super::order512::{VECTOR, add_run, arrange, load_rows};
use super::picture512::{Lines, SLACK, Shape, load};
use super::requantize512::{ResidualWords, Sixteen, Twice, bytes, words};
use super::rows512::{Shift, first16};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Channels at a time.
const CHANNELS: usize = 32;

/// Pixels of a tile: 8 × 2 accumulators, as many as hide the latency of two products a cycle twice, and a register each for their places.
const PIXELS: usize = 8;

/// Bytes of the window's copy and of the ordered weights: with what they are made of they fit the first cache, or nearly.
pub(super) const WINDOW: usize = LIMITS.window + SLACK;
const WEIGHTS: usize = 24 << 10;

/// Bytes of weights of runs that are not whole groups, ordered again: up to a run for an element.
const ODD: usize = ODD_PATCH * 2 * VECTOR;
const ODD_PATCH: usize = 64;

/// Below 32 pixels the weights' order costs more than it gains. With 16 output channels Winograd's algorithm takes 1.35 times as long of
/// 16 input channels, 1.1 to 1.2 of 32 and 48; with 32 output channels 0.88 times.
pub(super) const LIMITS: ByteLimits = ByteLimits {
    patch: 4 * (WEIGHTS / (2 * VECTOR) - 4),
    odd_patch: ODD_PATCH,
    f32_patch: 9 * ByteLimits::F32_CHANNELS,
    window: 16 << 10,
    pixels: 32,
    channels: 16,
    up_width: 32,
    up_channels: 256,
};

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_bytes(out: &mut [i8], out_c: usize, picture: Picture<'_>, weights: &[i8], k: Requantization<'_>) {
    let channels = k.channels[0].bias.len();
    let odd = !picture.kernel[1].wrapping_mul(picture.size[2]).is_multiple_of(4);
    let limit = if odd { LIMITS.odd_patch } else { LIMITS.patch };
    let Some(shape) = Shape::new(&picture, limit) else { return };
    let Shape { runs, run_len, .. } = shape;
    let pixels = shape.rows * shape.row_pixels;
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
    let (lined, ordered) = (lined.start(), ordered.start());
    // SAFETY: the shape's window and `SLACK` more fit.
    let x = unsafe { load(flipped.start(), &picture, &shape) };
    for first in (0..channels).step_by(CHANNELS) {
        let lanes = (channels - first).min(CHANNELS);
        let from = weights.as_ptr().wrapping_add(first * 4 * groups);
        let places = (to.wrapping_add(first), residual.wrapping_add(first), out_c);
        let finish = Finish::new(&k, places, [first, lanes]);
        let job = Job { x, w: if odd { ordered } else { lined }, shape: &shape, finish: &finish };
        let runs = odd.then_some([runs, run_len]);
        // SAFETY: `there`, and the shape's patch fits; pixels and channels are there: `room`.
        unsafe {
            if lanes > 16 {
                arrange::<2>([lined, ordered], from, [groups, lanes], runs);
                job.run::<2>();
            } else {
                arrange::<1>([lined, ordered], from, [groups, lanes], runs);
                job.run::<1>();
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
    constants: [Twice; 2],
    /// What `Twice` has added.
    added: __m512i,
    shift: u32,
}

#[allow(clippy::large_enum_variant)] // one a call, on the stack
enum Kind {
    /// All channels, without a shift; with a residual or without.
    Plain,
    Residual(ResidualWords),
    /// Whatever they need, with a residual or without.
    Any(bool, [Sixteen; 2]),
}

impl Finish {
    /// Of `lanes` channels from `first` on.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(
        k: &Requantization<'_>,
        (to, residual, stride): (*mut i8, *const i8, usize),
        [first, lanes]: [usize; 2],
    ) -> Finish {
        let shift = k.channels[0].shift;
        let [(a, a_fits), (b, b_fits)] = [Twice::new(&k.channels[0], first), Twice::new(&k.channels[0], first + 16)];
        let added = Twice::added(k.zero_point);
        let plain = shift == 0 && (lanes == 16 || lanes == CHANNELS) && a_fits && b_fits && added.is_some();
        let given = k.residual.as_ref();
        let kind = match (plain, given, given.and_then(|residual| ResidualWords::new(residual))) {
            (true, None, _) => Kind::Plain,
            (true, _, Some(words)) => Kind::Residual(words),
            _ => Kind::Any(given.is_some(), [Sixteen::new(k, first, false), Sixteen::new(k, first + 16, false)]),
        };
        Finish {
            kind,
            to,
            residual,
            stride,
            masks: [first16(lanes), first16(lanes.saturating_sub(16))],
            constants: [a, b],
            added: _mm512_set1_epi16(added.unwrap_or_default()),
            shift,
        }
    }
}

/// A window, the steps of weights that it meets, and what becomes of the sums.
struct Job<'a> {
    x: *const i8,
    w: *const i8,
    shape: &'a Shape,
    finish: &'a Finish,
}

impl Job<'_> {
    /// `V` vectors of channels.
    ///
    /// # Safety
    /// Window, weights, and the places that `finish` has are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const V: usize>(&self) {
        let &Shape { rows, row_pixels, row_stride, pixel_stride, .. } = self.shape;
        // Tiles of nearly equal size; sixteen pixels where all are of sixteen.
        let size = match V == 1 && row_pixels.is_multiple_of(16) {
            true => 16,
            false => row_pixels.div_ceil(row_pixels.div_ceil(PIXELS)),
        };
        for row in 0..rows {
            for p in (0..row_pixels).step_by(size) {
                let x = self.x.wrapping_add(row * row_stride + p * pixel_stride);
                let pixel = row * row_pixels + p;
                // SAFETY: the caller's promise.
                unsafe {
                    match (row_pixels - p).min(size) {
                        1 => self.tile::<V, 1>(x, pixel),
                        2 => self.tile::<V, 2>(x, pixel),
                        3 => self.tile::<V, 3>(x, pixel),
                        4 => self.tile::<V, 4>(x, pixel),
                        5 => self.tile::<V, 5>(x, pixel),
                        6 => self.tile::<V, 6>(x, pixel),
                        7 => self.tile::<V, 7>(x, pixel),
                        8 => self.tile::<V, 8>(x, pixel),
                        _ => self.tile::<1, 16>(x, pixel),
                    }
                }
            }
        }
    }

    /// `N` pixels from `pixel` on, whose patches begin at `x`.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn tile<const V: usize, const N: usize>(&self, x: *const i8, pixel: usize) {
        let mut bias = [_mm512_setzero_si512(); V];
        for (v, bias) in bias.iter_mut().enumerate() {
            *bias = self.finish.constants[v].bias;
        }
        let mut acc = [bias; N];
        // SAFETY (of both): the caller's promise.
        unsafe {
            match self.shape.slides() {
                true => self.slide(&mut acc, x),
                false => self.multiply(&mut acc, x),
            }
            match &self.finish.kind {
                Kind::Plain => self.finish.store::<V, N, false>(&acc, pixel, None),
                Kind::Residual(words) => self.finish.store::<V, N, true>(&acc, pixel, Some(*words)),
                Kind::Any(residual, constants) => {
                    for (p, acc) in acc.into_iter().enumerate() {
                        self.finish.store_any(constants, [acc[0], acc[V - 1]], pixel + p, *residual);
                    }
                }
            }
        }
    }

    /// Adds the products of patches, whatever they are.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn multiply<const V: usize, const N: usize>(&self, acc: &mut [[__m512i; V]; N], mut x: *const i8) {
        let &Shape { runs, run_len, run_stride, pixel_stride, .. } = self.shape;
        let mut w = self.w;
        for _ in 0..runs {
            let mut from = [x; N];
            for (p, from) in from.iter_mut().enumerate() {
                *from = x.wrapping_add(p * pixel_stride);
            }
            // SAFETY: the caller's promise.
            w = unsafe { add_run(acc, from, run_len, w) };
            x = x.wrapping_add(run_stride);
        }
    }

    /// As `multiply`, where patches are three pixels wide and the next one begins a pixel behind: what is read of a pixel serves three.
    ///
    /// # Safety
    /// As of `run`; the shape `slides`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn slide<const V: usize, const N: usize>(&self, acc: &mut [[__m512i; V]; N], mut x: *const i8) {
        let &Shape { runs, run_stride, pixel_stride: c, .. } = self.shape;
        let tap = c / 4 * V * VECTOR;
        let mut w = self.w;
        for _ in 0..runs {
            // Every third pixel, so that there are registers for these.
            let mut from = [x; 6];
            for (i, from) in from.iter_mut().enumerate() {
                *from = x.wrapping_add(3 * i * c);
            }
            for _ in 0..c / 4 {
                // SAFETY: the caller's promise.
                unsafe {
                    let rows = [load_rows::<V>(w), load_rows::<V>(w.add(tap)), load_rows::<V>(w.add(2 * tap))];
                    // Not a loop, over eighteen turns of which the compiler would keep the sums in memory.
                    macro_rules! pixels {
                        ($($i:literal)*) => {$(
                            if $i < N + 2 {
                                let elems = from[$i / 3].wrapping_add($i % 3 * c);
                                let elems = _mm512_set1_epi32(elems.cast::<i32>().read_unaligned());
                                for (kx, rows) in rows.iter().enumerate() {
                                    if $i >= kx && $i - kx < N {
                                        for v in 0..V {
                                            acc[$i - kx][v] = _mm512_dpbusd_epi32(acc[$i - kx][v], elems, rows[v]);
                                        }
                                    }
                                }
                            }
                        )*};
                    }
                    pixels!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17);
                }
                for from in &mut from {
                    *from = from.wrapping_add(4);
                }
                w = w.wrapping_add(V * VECTOR);
            }
            w = w.wrapping_add(2 * tap);
            x = x.wrapping_add(run_stride);
        }
    }
}

impl Finish {
    /// All channels of `N` pixels from `pixel` on.
    ///
    /// # Safety
    /// They are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store<const V: usize, const N: usize, const RESIDUAL: bool>(
        &self,
        acc: &[[__m512i; V]; N],
        pixel: usize,
        residual: Option<ResidualWords>,
    ) {
        let some = 4 / V;
        // SAFETY: the caller's promise. Not a loop, over which the compiler would keep the sums in memory.
        unsafe {
            self.store_four::<V, N, RESIDUAL>(acc, 0, pixel, residual);
            if N > some {
                self.store_four::<V, N, RESIDUAL>(acc, some, pixel, residual);
            }
            if N > 2 * some {
                self.store_four::<V, N, RESIDUAL>(acc, 2 * some, pixel, residual);
            }
            if N > 3 * some {
                self.store_four::<V, N, RESIDUAL>(acc, 3 * some, pixel, residual);
            }
        }
    }

    /// Four vectors, from the pixel `first` of them on.
    ///
    /// # Safety
    /// As of `store`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn store_four<const V: usize, const N: usize, const RESIDUAL: bool>(
        &self,
        acc: &[[__m512i; V]; N],
        first: usize,
        pixel: usize,
        added: Option<ResidualWords>,
    ) {
        let Finish { to, residual, stride, constants, added: more, .. } = self;
        let (to, residual) = (to.wrapping_add(pixel * stride), residual.wrapping_add(pixel * stride));
        let mut sums = [_mm512_setzero_si512(); 4];
        // The last pixel stands for those that are not there.
        let place = |i: usize| ((first + i / V).min(N - 1), i % V);
        for (i, sum) in sums.iter_mut().enumerate() {
            let (p, v) = place(i);
            *sum = constants[v].scale(acc[p][v]);
        }
        let [a, b, c, d] = sums;
        let mut both = [words(a, b), words(c, d)];
        if let Some(added) = added {
            for (i, words) in both.iter_mut().enumerate() {
                let [(p, _), (next, _)] = [place(2 * i), place(2 * i + 1)];
                // SAFETY: the caller's promise.
                let elems = unsafe {
                    let at = |p: usize| residual.wrapping_add(p * stride);
                    match V == 2 || next > p && *stride == 16 {
                        true => _mm256_loadu_si256(at(p).cast()),
                        false => _mm256_loadu2_m128i(at(next).cast(), at(p).cast()),
                    }
                };
                *words = added.add(*words, elems);
            }
        }
        let bytes = bytes(Twice::whole(both[0], *more), Twice::whole(both[1], *more));
        let to = |p: usize| to.wrapping_add((first + p) * stride);
        // SAFETY: the caller's promise, for as many pixels as there are.
        unsafe {
            if first + 4 / V <= N && *stride == 16 * V {
                _mm512_storeu_si512(to(0).cast(), bytes);
            } else if V == 1 {
                _mm_storeu_si128(to(0).cast(), _mm512_castsi512_si128(bytes));
                if first + 1 < N {
                    _mm_storeu_si128(to(1).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                }
                if first + 2 < N {
                    _mm_storeu_si128(to(2).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                }
                if first + 3 < N {
                    _mm_storeu_si128(to(3).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
                }
            } else {
                _mm256_storeu_si256(to(0).cast(), _mm512_castsi512_si256(bytes));
                if first + 1 < N {
                    _mm256_storeu_si256(to(1).cast(), _mm512_extracti64x4_epi64::<1>(bytes));
                }
            }
        }
    }

    /// A pixel's two vectors.
    ///
    /// # Safety
    /// Its channels of `masks` are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline(never)]
    unsafe fn store_any(&self, constants: &[Sixteen; 2], sums: [__m512i; 2], pixel: usize, residual: bool) {
        let shift = Shift::new(self.shift);
        for (v, sum) in sums.into_iter().enumerate() {
            let (mask, constants) = (self.masks[v], &constants[v]);
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
