//! AVX-512 VNNI for the 3×3 convolution of a picture that is upsampled to twice its size, from pixels to bytes.
//!
//! Each pixel is multiplied with all nine taps once, 9 products for the 36 of the four pixels that become of it. Of three taps beside each
//! other the middle one's products belong to both of a pixel's outputs, the others' to what lies between two pixels, where the left one's of one
//! and the right one's of the other are one sum; and rows are as columns. So an output is four sums, and its neighbours share two of each pair.
//! A lane is a channel, sixteen at a time; a tile is eight pixels by the three taps of a kernel row, so that 24 multiply-adds have 11 reads.

use super::super::{Picture, Requantization};
use super::direct512::LIMITS;
use super::order512::{VECTOR, line};
use super::picture512::{Lines, flip};
use super::requantize512::{Sixteen, Twice, bytes, whole, words};
use super::rows512::{Shift, first16};
use core::arch::x86_64::*;
use core::ops::Range;

/// Input pixels of a tile.
const PIXELS: usize = 8;

/// Bytes of weights of sixteen channels, where `line` writes three groups more.
const WEIGHTS: usize = (9 * LIMITS.up_channels / 4 + 3) * VECTOR;

/// Bytes of an input row, and of what may be written behind.
const ROW: usize = LIMITS.up_width * LIMITS.up_channels + VECTOR;

/// Bytes of three lines of sums, two vectors a pixel.
const SUMS: usize = 3 * 2 * VECTOR * LIMITS.up_width;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_up_bytes(out: &mut [i8], out_c: usize, picture: Picture<'_>, weights: &[i8], k: Requantization<'_>) {
    let Picture { elems, size: [h, w, c], from: [top, left], out: [rows, row_pixels], .. } = picture;
    let channels = k.channels[0].bias.len();
    let fits = (1..=LIMITS.up_width).contains(&w) && (1..=LIMITS.up_channels).contains(&c) && c.is_multiple_of(4);
    let is_up = picture.kernel == [3, 3] && picture.stride == 1 && left == -1 && top >= -1;
    if !fits || !is_up || row_pixels != 2 * w {
        return;
    }
    let first = top.wrapping_add(1) as usize;
    let Some(end) = first.checked_add(rows).filter(|&end| end > first && end <= h.saturating_mul(2)) else { return };
    let groups = 9 * c / 4;
    let weighed = channels.next_multiple_of(4).saturating_mul(4 * groups) <= weights.len();
    let out_len = (rows.saturating_mul(row_pixels) - 1).saturating_mul(out_c).saturating_add(channels);
    let given = k.residual.and_then(|residual| residual.elems);
    let room = out_c >= channels && out_len <= out.len() && given.is_none_or(|elems| out_len <= elems.len());
    if h.saturating_mul(w * c) > elems.len() || !weighed || !room {
        return;
    }
    let to = out.as_mut_ptr();
    let residual = given.map_or(to.cast_const(), <[i8]>::as_ptr);
    let (mut flipped, mut lined, mut sums) =
        (Lines::<{ 2 * ROW }>::new(), Lines::<WEIGHTS>::new(), Lines::<SUMS>::new());
    let (pixels, lined, sums) = (flipped.start(), lined.start(), sums.start());
    for at in (0..channels).step_by(16) {
        let lanes = (channels - at).min(16);
        // SAFETY (of all of it): `weighed`; rows of the input are there or padding; channels and pixels of the output are there: `room`.
        unsafe {
            line::<1>(lined, weights.as_ptr().add(at * 4 * groups), groups, lanes);
            let (twice, fits) = Twice::new(&k.channels[0], at);
            let added = Twice::added(k.zero_point);
            let plain = fits && added.is_some() && k.channels[0].shift == 0 && lanes == 16 && k.residual.is_none();
            let places = (to.wrapping_add(at), residual.wrapping_add(at), out_c);
            let finish = Finish {
                places,
                mask: first16(lanes),
                twice,
                added: _mm512_set1_epi16(added.unwrap_or_default()),
                constants: Sixteen::new(&k, at, false),
                shift: k.channels[0].shift,
            };
            let (w, elems) = (lined.cast_const(), elems.as_ptr());
            let pads = pads(w, c, picture.zero_point);
            let job = Job { elems, size: picture.size, pixels, w, pads, sums, finish };
            match (plain, k.residual.is_some()) {
                (true, _) => job.run::<true, false>(first..end),
                (false, false) => job.run::<false, false>(first..end),
                (false, true) => job.run::<false, true>(first..end),
            }
        }
    }
}

/// Products of a pixel of padding with each tap.
///
/// # Safety
/// Weights of `c` elements are there.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pads(w: *const i8, c: usize, zero_point: i8) -> [[__m512i; 3]; 3] {
    let (pad, tap) = (_mm512_set1_epi8(zero_point ^ -128), c / 4 * VECTOR);
    let mut pads = [[_mm512_setzero_si512(); 3]; 3];
    for at in (0..tap).step_by(VECTOR) {
        for (i, sum) in pads.as_flattened_mut().iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *sum = _mm512_dpbusd_epi32(*sum, pad, unsafe { _mm512_loadu_si512(w.add(i * tap + at).cast()) });
        }
    }
    pads
}

/// Sixteen channels of some rows.
struct Job {
    /// The input, around which is padding: rows, pixels of each, channels.
    elems: *const i8,
    size: [usize; 3],
    /// `[row % 2]` of its rows, with 128 more each element.
    pixels: *mut i8,
    /// Vectors of groups of four elements, a tap's behind the last one's.
    w: *const i8,
    pads: [[__m512i; 3]; 3],
    /// Three lines of `2·width` vectors.
    sums: *mut i8,
    finish: Finish,
}

/// Which kernel rows are added.
#[derive(Clone, Copy)]
enum Taps {
    /// The first and the last, to what lies between input rows: to the second output row of the upper and to the first of the lower one.
    Outer,
    /// The middle one, to both output rows of an input row, with the bias.
    Inner,
}

impl Job {
    /// # Safety
    /// Pixels, weights and the outputs of these rows are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run<const PLAIN: bool, const RESIDUAL: bool>(&self, rows: Range<usize>) {
        let width = 2 * self.size[1];
        let line = |i: usize| self.sums.wrapping_add(i * width * VECTOR);
        let mut have = [usize::MAX; 2];
        for y in rows.start / 2..rows.end.div_ceil(2) {
            // SAFETY: the caller's promise.
            unsafe {
                // Of the rows that follow each other here two are there, this one and the one before, then the one behind.
                if y == rows.start / 2 {
                    self.flip(y.wrapping_sub(1));
                    self.flip(y);
                }
                self.fill(line(2), Taps::Inner, y);
                for row in [2 * y, 2 * y + 1] {
                    let outer = row.div_ceil(2);
                    if row % 2 == 1 {
                        self.flip(y + 1);
                    }
                    if !rows.contains(&row) {
                        continue;
                    }
                    if have[outer % 2] != outer {
                        have[outer % 2] = outer;
                        self.fill(line(outer % 2), Taps::Outer, outer);
                    }
                    let pixel = (row - rows.start) * width;
                    self.finish.row::<PLAIN, RESIDUAL>([line(outer % 2), line(2)], pixel, width);
                }
            }
        }
    }

    /// Brings a row of the input to its place, where it is one.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn flip(&self, row: usize) {
        let [h, w, c] = self.size;
        if row < h {
            // SAFETY: the row is there.
            unsafe { flip(self.pixels.add(row % 2 * ROW), self.elems.add(row * w * c), w * c) };
        }
    }

    /// What taps add to a row of outputs: of input row `y`, or of that and the one before.
    ///
    /// # Safety
    /// As of `run`; there is room for the sums.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn fill(&self, to: *mut i8, taps: Taps, y: usize) {
        let width = self.size[1];
        let size = width.div_ceil(width.div_ceil(PIXELS));
        for x in (0..width).step_by(size) {
            let to = to.wrapping_add(2 * x * VECTOR);
            // SAFETY: the caller's promise.
            unsafe {
                match (width - x).min(size) {
                    1 => self.tile::<1>(to, taps, [y, x]),
                    2 => self.tile::<2>(to, taps, [y, x]),
                    3 => self.tile::<3>(to, taps, [y, x]),
                    4 => self.tile::<4>(to, taps, [y, x]),
                    5 => self.tile::<5>(to, taps, [y, x]),
                    6 => self.tile::<6>(to, taps, [y, x]),
                    7 => self.tile::<7>(to, taps, [y, x]),
                    _ => self.tile::<8>(to, taps, [y, x]),
                }
            }
        }
    }

    /// As `fill`, to both outputs of `N` pixels from `x` on. Taps of the middle column are added to both, those beside it to what lies between
    /// pixels: to the second output of the left and to the first of the right one.
    ///
    /// # Safety
    /// As of `fill`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn tile<const N: usize>(&self, to: *mut i8, taps: Taps, [y, x]: [usize; 2]) {
        let zero = _mm512_setzero_si512();
        let [h, width, c] = self.size;
        // The upper input row, its kernel row, and how many there are; the next kernel row is two further.
        let (upper, first, count, start) = match taps {
            Taps::Inner => (y, 1, 1, self.finish.twice.bias),
            Taps::Outer => (y.wrapping_sub(1), 0, 2, zero),
        };
        let (mut middle, mut beside, mut last) = ([start; N], [zero; N], zero);
        let tap = c / 4 * VECTOR;
        for i in 0..count {
            let (row, ky) = (upper.wrapping_add(i), first + 2 * i);
            let [left, centre, right] = self.pads[ky];
            if row >= h {
                let both = _mm512_add_epi32(left, right);
                for i in 0..N {
                    middle[i] = _mm512_add_epi32(middle[i], centre);
                    beside[i] = _mm512_add_epi32(beside[i], both);
                }
                last = _mm512_add_epi32(last, both);
                continue;
            }
            let pixel = self.pixels.wrapping_add(row % 2 * ROW + x * c).cast_const();
            let w = self.w.wrapping_add(3 * ky * tap);
            // SAFETY: the caller's promise.
            unsafe {
                let before = if x == 0 { left } else { self.one(pixel.sub(c), w) };
                let behind = if x + N == width { right } else { self.one(pixel.add(N * c), w.add(2 * tap)) };
                beside[0] = _mm512_add_epi32(beside[0], before);
                last = _mm512_add_epi32(last, behind);
                let mut from = [pixel; N];
                for (i, from) in from.iter_mut().enumerate() {
                    *from = pixel.wrapping_add(i * c);
                }
                let mut w = w;
                for k in (0..c).step_by(4) {
                    let taps = [
                        _mm512_loadu_si512(w.cast()),
                        _mm512_loadu_si512(w.add(tap).cast()),
                        _mm512_loadu_si512(w.add(2 * tap).cast()),
                    ];
                    for i in 0..N {
                        let elems = _mm512_set1_epi32(from[i].add(k).cast::<i32>().read_unaligned());
                        middle[i] = _mm512_dpbusd_epi32(middle[i], elems, taps[1]);
                        beside[i] = _mm512_dpbusd_epi32(beside[i], elems, taps[2]);
                        let next = if i + 1 < N { &mut beside[i + 1] } else { &mut last };
                        *next = _mm512_dpbusd_epi32(*next, elems, taps[0]);
                    }
                    w = w.wrapping_add(VECTOR);
                }
            }
        }
        for i in 0..N {
            let next = if i + 1 < N { beside[i + 1] } else { last };
            // SAFETY: room for two vectors a pixel.
            unsafe {
                _mm512_storeu_si512(to.add(2 * i * VECTOR).cast(), _mm512_add_epi32(middle[i], beside[i]));
                _mm512_storeu_si512(to.add((2 * i + 1) * VECTOR).cast(), _mm512_add_epi32(middle[i], next));
            }
        }
    }

    /// A pixel's products with a tap.
    ///
    /// # Safety
    /// Both are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn one(&self, pixel: *const i8, w: *const i8) -> __m512i {
        let mut sum = _mm512_setzero_si512();
        for k in (0..self.size[2]).step_by(4) {
            // SAFETY: the caller's promise.
            unsafe {
                let elems = _mm512_set1_epi32(pixel.add(k).cast::<i32>().read_unaligned());
                sum = _mm512_dpbusd_epi32(sum, elems, _mm512_loadu_si512(w.add(k / 4 * VECTOR).cast()));
            }
        }
        sum
    }
}

/// From sums of sixteen channels to bytes.
struct Finish {
    /// The first pixel's in the output and the residual, and elements from one pixel to the next.
    places: (*mut i8, *const i8, usize),
    /// The channels that are there, a bit each.
    mask: __mmask16,
    /// Where all channels are there and need neither a shift nor a residual, and what it has added; or whatever they need.
    twice: Twice,
    added: __m512i,
    constants: Sixteen,
    shift: u32,
}

impl Finish {
    /// `count` pixels from `pixel` on, whose sums are two lines' together; all channels without a shift, or whatever they need.
    ///
    /// # Safety
    /// Lines and pixels are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn row<const PLAIN: bool, const RESIDUAL: bool>(&self, from: [*mut i8; 2], pixel: usize, count: usize) {
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
                    let sum = _mm512_add_epi32(
                        _mm512_loadu_si512(from[0].add(at * VECTOR).cast()),
                        _mm512_loadu_si512(from[1].add(at * VECTOR).cast()),
                    );
                    if PLAIN {
                        *to = self.twice.scale(sum);
                        continue;
                    }
                    let elems = match RESIDUAL {
                        true => _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, residual.add(at * stride))),
                        false => _mm512_setzero_si512(),
                    };
                    *to = self.constants.scale::<RESIDUAL>(shift.of(sum), elems);
                }
                let [a, b, c, d] = sums;
                let [ab, cd] = [words(a, b), words(c, d)];
                let bytes = match PLAIN {
                    true => bytes(Twice::whole(ab, self.added), Twice::whole(cd, self.added)),
                    false => bytes(whole(ab), whole(cd)),
                };
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
