//! AVX-512 VNNI for the 3×3 convolution of a picture that is upsampled to twice its size, from pixels to bytes.
//!
//! Each pixel is multiplied with all nine taps once, 9 products for the 36 of the four pixels that become of it, and what a kernel row
//! adds to pixels beside each other is added where it is computed. A lane is a channel, sixteen at a time; a tile is eight pixels by the
//! three taps of a kernel row, so that 24 multiply-adds have 11 reads.

use super::super::{Picture, Requantization};
use super::direct512::{LIMITS, WEIGHTS, WINDOW};
use super::order512::{VECTOR, line};
use super::picture512::{Lines, flip};
use super::requantize512::{Sixteen, bytes, whole, words};
use super::rows512::{Shift, first16};
use core::arch::x86_64::*;
use core::ops::Range;

/// Input pixels of a tile.
const PIXELS: usize = 8;

/// Bytes of a step of weights, of 32 channels.
const STEP: usize = 2 * VECTOR;

/// Bytes of the sums: for each kernel row those of two input rows, two vectors a pixel.
const SUMS: usize = 6 * 2 * VECTOR * LIMITS.up_width;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_up_bytes(out: &mut [i8], out_c: usize, picture: Picture<'_>, weights: &[i8], k: Requantization<'_>) {
    let Picture { elems, size: [h, w, c], from: [top, left], out: [rows, row_pixels], .. } = picture;
    let channels = k.channels[0].bias.len();
    let is_up = picture.kernel == [3, 3] && picture.stride == 1 && left == -1 && row_pixels == 2 * w && top >= -1;
    let fits = (1..=LIMITS.up_width).contains(&w) && (1..=LIMITS.patch / 9).contains(&c) && c.is_multiple_of(4);
    if !is_up || !fits {
        return;
    }
    let first = (top + 1) as usize;
    let Some(end) = first.checked_add(rows).filter(|&end| end > first && end <= h.saturating_mul(2)) else { return };
    // Input rows that are there, one above the first and one below the last among them.
    let inside = (first / 2).saturating_sub((first % 2 == 0) as usize)..h.min(end / 2 + 1);
    let Some(elems) = elems.get(inside.start.saturating_mul(w * c)..inside.end.saturating_mul(w * c)) else { return };
    let groups = 9 * c / 4;
    let weighed = channels.next_multiple_of(4).saturating_mul(4 * groups) <= weights.len();
    let out_len = (rows.saturating_mul(row_pixels) - 1).saturating_mul(out_c).saturating_add(channels);
    let given = k.residual.and_then(|residual| residual.elems);
    let room = out_c >= channels && out_len <= out.len() && given.is_none_or(|elems| out_len <= elems.len());
    if elems.len() > LIMITS.window || !weighed || !room {
        return;
    }
    let to = out.as_mut_ptr();
    let residual = given.map_or(to.cast_const(), <[i8]>::as_ptr);
    let mut flipped = Lines::<WINDOW>::new();
    let mut lined = Lines::<WEIGHTS>::new();
    let mut sums = Lines::<SUMS>::new();
    let (pixels, lined, sums) = (flipped.start(), lined.start(), sums.start());
    // SAFETY: the window and 64 more fit.
    unsafe { flip(pixels, elems.as_ptr(), elems.len()) };
    for at in (0..channels).step_by(16) {
        let vector = at % 32 / 16;
        // SAFETY (of all of it): `weighed`, and `LIMITS.patch` has room for four groups more; rows that are read are `inside` or padding;
        // channels and pixels of the output are there: `room`.
        unsafe {
            if vector == 0 {
                line::<2>(lined, weights.as_ptr().add(at * 4 * groups), groups, (channels - at).min(32));
            }
            let constants = Sixteen::new(&k, at, false);
            let w = Weights { c, from: lined.wrapping_add(VECTOR * vector), bias: constants.source.bias };
            let places = (to.wrapping_add(at), residual.wrapping_add(at), out_c);
            let finish = Finish { places, mask: first16(channels - at), constants, shift: k.channels[0].shift };
            let inside = inside.start as isize..inside.end as isize;
            let mut rows = Rows {
                pixels,
                inside,
                width: picture.size[1],
                sums,
                pads: w.pads(picture.zero_point),
                w,
                have: [[-2; 2]; 3],
            };
            for row in first..end {
                let mut from = [sums.cast_const(); 3];
                for (ky, from) in from.iter_mut().enumerate() {
                    *from = rows.line(ky, (row + ky) as isize - 1 >> 1);
                }
                let pixel = (row - first) * row_pixels;
                match (finish.shift == 0 && channels - at >= 16, k.residual.is_some()) {
                    (true, false) => finish.row::<true, false>(from, pixel, row_pixels),
                    (true, true) => finish.row::<true, true>(from, pixel, row_pixels),
                    (false, false) => finish.row::<false, false>(from, pixel, row_pixels),
                    (false, true) => finish.row::<false, true>(from, pixel, row_pixels),
                }
            }
        }
    }
}

/// Of sixteen channels.
struct Weights {
    /// Input channels.
    c: usize,
    /// Groups of four elements, [`STEP`] from each to the next, a tap's behind the last one's.
    from: *const i8,
    bias: __m512i,
}

impl Weights {
    /// Products of a pixel of padding with each tap.
    ///
    /// # Safety
    /// The weights are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn pads(&self, zero_point: i8) -> [[__m512i; 3]; 3] {
        let pad = _mm512_set1_epi8(zero_point ^ -128);
        let mut pads = [[_mm512_setzero_si512(); 3]; 3];
        let tap = self.c / 4 * STEP;
        for (ky, pads) in pads.iter_mut().enumerate() {
            for at in (0..tap).step_by(STEP) {
                for (kx, sum) in pads.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    let taps = unsafe { _mm512_loadu_si512(self.from.add((3 * ky + kx) * tap + at).cast()) };
                    *sum = _mm512_dpbusd_epi32(*sum, pad, taps);
                }
            }
        }
        pads
    }
}

/// What kernel rows add to the pixels of a row, which begins and ends with padding.
struct Rows {
    /// Those of the input that are `inside`, with 128 more each.
    pixels: *const i8,
    inside: Range<isize>,
    width: usize,
    w: Weights,
    pads: [[__m512i; 3]; 3],
    /// `[kernel row][row % 2][2·width]` vectors, and which rows those are.
    sums: *mut i8,
    have: [[isize; 2]; 3],
}

impl Rows {
    /// Vectors of what kernel row `ky` adds where it lies on row `row` of the input.
    ///
    /// # Safety
    /// Pixels `inside`, weights, and room for sums are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn line(&mut self, ky: usize, row: isize) -> *const i8 {
        let half = (row & 1) as usize;
        let to = self.sums.wrapping_add((2 * ky + half) * 2 * self.width * VECTOR);
        if self.have[ky][half] != row {
            self.have[ky][half] = row;
            // SAFETY: the caller's promise.
            unsafe { self.fill(to, ky, row) };
        }
        to
    }

    /// # Safety
    /// As of `line`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn fill(&self, to: *mut i8, ky: usize, row: isize) {
        let [a, b, c] = self.pads[ky];
        let (width, row_len) = (self.width, self.width * self.w.c);
        // The middle row alone is added to every pixel, and is never padding.
        let bias = if ky == 1 { self.w.bias } else { _mm512_setzero_si512() };
        // SAFETY: the caller's promise.
        unsafe {
            if !self.inside.contains(&row) {
                let all = _mm512_add_epi32(_mm512_add_epi32(a, b), c);
                for x in 0..2 * width {
                    _mm512_storeu_si512(to.add(x * VECTOR).cast(), all);
                }
                return;
            }
            let pixels = self.pixels.add((row - self.inside.start) as usize * row_len);
            let w = self.w.from.add(3 * ky * (self.w.c / 4) * STEP);
            let size = width.div_ceil(width.div_ceil(PIXELS));
            let mut left = a;
            for x in (0..width).step_by(size) {
                let (from, to) = (pixels.add(x * self.w.c), to.add(2 * x * VECTOR));
                left = match (width - x).min(size) {
                    1 => self.tile::<1>(from, w, bias, to, left, x > 0),
                    2 => self.tile::<2>(from, w, bias, to, left, x > 0),
                    3 => self.tile::<3>(from, w, bias, to, left, x > 0),
                    4 => self.tile::<4>(from, w, bias, to, left, x > 0),
                    5 => self.tile::<5>(from, w, bias, to, left, x > 0),
                    6 => self.tile::<6>(from, w, bias, to, left, x > 0),
                    7 => self.tile::<7>(from, w, bias, to, left, x > 0),
                    _ => self.tile::<8>(from, w, bias, to, left, x > 0),
                };
            }
            add(to.add((2 * width - 1) * VECTOR), c);
        }
    }

    /// What `N` pixels from `x` on add, to vectors from `to` on, and, where there are some before these, to the one before; of the last
    /// vector what the pixel behind adds is missing. `left` are the products of the pixel before with the first tap; returns the last one's.
    ///
    /// # Safety
    /// Pixels, weights from `w` on, and room for the vectors are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn tile<const N: usize>(
        &self,
        x: *const i8,
        w: *const i8,
        bias: __m512i,
        to: *mut i8,
        mut left: __m512i,
        some_before: bool,
    ) -> __m512i {
        let c = self.w.c;
        let tap = c / 4 * STEP;
        let zero = _mm512_setzero_si512();
        let mut acc = [[zero, bias, zero]; N];
        let mut from = [x; N];
        for (i, from) in from.iter_mut().enumerate() {
            *from = x.wrapping_add(i * c);
        }
        let mut w = w;
        // SAFETY: the caller's promise.
        unsafe {
            for k in (0..c).step_by(4) {
                let taps = [
                    _mm512_loadu_si512(w.cast()),
                    _mm512_loadu_si512(w.add(tap).cast()),
                    _mm512_loadu_si512(w.add(2 * tap).cast()),
                ];
                for (acc, from) in acc.iter_mut().zip(from) {
                    let elems = _mm512_set1_epi32(from.add(k).cast::<i32>().read_unaligned());
                    acc[0] = _mm512_dpbusd_epi32(acc[0], elems, taps[0]);
                    acc[1] = _mm512_dpbusd_epi32(acc[1], elems, taps[1]);
                    acc[2] = _mm512_dpbusd_epi32(acc[2], elems, taps[2]);
                }
                w = w.wrapping_add(STEP);
            }
            if some_before {
                add(to.sub(VECTOR), acc[0][2]);
            }
            for i in 0..N {
                let [a, b, c] = acc[i];
                let behind = if i + 1 < N { acc[i + 1][2] } else { zero };
                let (even, odd) = (_mm512_add_epi32(b, c), _mm512_add_epi32(a, b));
                _mm512_storeu_si512(to.add(2 * i * VECTOR).cast(), _mm512_add_epi32(even, left));
                _mm512_storeu_si512(to.add((2 * i + 1) * VECTOR).cast(), _mm512_add_epi32(odd, behind));
                left = a;
            }
        }
        left
    }
}

/// # Safety
/// A vector is there.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn add(to: *mut i8, more: __m512i) {
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_si512(to.cast(), _mm512_add_epi32(_mm512_loadu_si512(to.cast()), more)) };
}

/// From sums of sixteen channels to bytes.
struct Finish {
    /// The first pixel's in the output and the residual, and elements from one pixel to the next.
    places: (*mut i8, *const i8, usize),
    /// The channels that are there, a bit each.
    mask: __mmask16,
    constants: Sixteen,
    shift: u32,
}

impl Finish {
    /// `count` pixels from `pixel` on, whose sums are three lines' together; all channels without a shift, or whatever they need.
    ///
    /// # Safety
    /// Lines and pixels are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn row<const PLAIN: bool, const RESIDUAL: bool>(&self, from: [*const i8; 3], pixel: usize, count: usize) {
        let shift = Shift::new(self.shift);
        let mask = if PLAIN { !0 } else { self.mask };
        let stride = self.places.2;
        // SAFETY: the caller's promise; what is masked off is neither read nor written.
        unsafe {
            let (to, residual) = (self.places.0.add(pixel * stride), self.places.1.wrapping_add(pixel * stride));
            for x in (0..count).step_by(4) {
                let mut sums = [_mm512_setzero_si512(); 4];
                for (i, to) in sums.iter_mut().enumerate() {
                    // The last pixel stands for those that are not there.
                    let at = (x + i).min(count - 1);
                    let [a, b, c] = from;
                    let sum = _mm512_add_epi32(
                        _mm512_loadu_si512(a.add(at * VECTOR).cast()),
                        _mm512_loadu_si512(b.add(at * VECTOR).cast()),
                    );
                    let sum = _mm512_add_epi32(sum, _mm512_loadu_si512(c.add(at * VECTOR).cast()));
                    let sum = if PLAIN { sum } else { shift.of(sum) };
                    let elems = match RESIDUAL {
                        true => _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, residual.add(at * stride))),
                        false => _mm512_setzero_si512(),
                    };
                    *to = self.constants.scale::<RESIDUAL>(sum, elems);
                }
                let [a, b, c, d] = sums;
                let bytes = bytes(whole(words(a, b)), whole(words(c, d)));
                let to = to.add(x * stride);
                _mm_mask_storeu_epi8(to, mask, _mm512_castsi512_si128(bytes));
                _mm_mask_storeu_epi8(to.add(stride), mask, _mm512_extracti32x4_epi32::<1>(bytes));
                if x + 2 < count {
                    _mm_mask_storeu_epi8(to.add(2 * stride), mask, _mm512_extracti32x4_epi32::<2>(bytes));
                    _mm_mask_storeu_epi8(to.add(3 * stride), mask, _mm512_extracti32x4_epi32::<3>(bytes));
                }
            }
        }
    }
}
