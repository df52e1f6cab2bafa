//! AVX-512 VNNI where a call has enough pixels to bring weights and window into the order in which they are read.
//!
//! A lane is a channel: weights lie as vectors of sixteen channels by four elements, one or two beside each other, which meet four elements
//! of a pixel, broadcast. So nothing has to be added in the end, which of 288 products a sum takes a tenth of the time, and no input is
//! permuted. Of three taps beside each other a pixel's elements are read once. The window's copy has its signs flipped.

use super::super::{ByteLimits, Picture, Requantization};
use super::finish512::{Finish, Kind};
use super::order512::{VECTOR, add_run, arrange, load_rows};
use super::picture512::{Lines, SLACK, Shape, load};
use core::arch::x86_64::*;
use core::ops::Range;

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
        let row_pixels = self.shape.row_pixels;
        // Tiles of nearly equal size; sixteen pixels where all are of sixteen.
        let size = match V == 1 && row_pixels.is_multiple_of(16) {
            true => 16,
            false => row_pixels.div_ceil(row_pixels.div_ceil(PIXELS)),
        };
        let whole = row_pixels / size * size;
        // SAFETY: the caller's promise.
        unsafe {
            self.tiles::<V>(size, 0..whole);
            self.tiles::<V>(row_pixels - whole, whole..row_pixels);
        }
    }

    /// Some pixels of each row, `size` of them at a time.
    ///
    /// # Safety
    /// As of `run`; they are a multiple of the size.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tiles<const V: usize>(&self, size: usize, pixels: Range<usize>) {
        // SAFETY: the caller's promise.
        unsafe {
            match size {
                0 => {}
                1 => self.tiles_of::<V, 1>(pixels),
                2 => self.tiles_of::<V, 2>(pixels),
                3 => self.tiles_of::<V, 3>(pixels),
                4 => self.tiles_of::<V, 4>(pixels),
                5 => self.tiles_of::<V, 5>(pixels),
                6 => self.tiles_of::<V, 6>(pixels),
                7 => self.tiles_of::<V, 7>(pixels),
                8 => self.tiles_of::<V, 8>(pixels),
                _ => self.tiles_of::<1, 16>(pixels),
            }
        }
    }

    /// As `tiles`. With a jump for each tile a small net's step took up to 1.02 times as long, by where the code lay.
    ///
    /// # Safety
    /// As of `tiles`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn tiles_of<const V: usize, const N: usize>(&self, pixels: Range<usize>) {
        let &Shape { rows, row_pixels, row_stride, pixel_stride, .. } = self.shape;
        for row in 0..rows {
            for p in pixels.clone().step_by(N) {
                let x = self.x.wrapping_add(row * row_stride + p * pixel_stride);
                // SAFETY: the caller's promise.
                unsafe { self.tile::<V, N>(x, row * row_pixels + p) };
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
