//! AVX-512 VNNI for 1×1 convolutions of two pictures of few channels: from pixels to bytes in one pass.
//!
//! A lane is a channel, and sixteen channels' weights stay in registers, a vector for each group of four elements; so nothing is
//! ordered or copied before, which takes longer than so few products. Sums are scaled where they are computed.

use super::super::{Pixels, Requantization};
use super::requantize512::{Source, bytes_of_four};
use super::rows512::{Shift, first16};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Pixels at a time, whose bytes may be one vector.
const PIXELS: usize = 4;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn conv_pixels(out: &mut [i8], out_c: usize, sources: [Pixels<'_>; 2], k: Requantization<'_>) {
    let [first, second] = sources;
    let channels = k.channels[0].bias.len();
    let pixels = first.elems.len() / first.c.max(1);
    let out_len = pixels.saturating_sub(1).saturating_mul(out_c).saturating_add(channels);
    let there = second.elems.len() / second.c.max(1) >= pixels && out_len <= out.len() && out_c >= channels;
    let weighed =
        [first, second].iter().all(|side| channels.next_multiple_of(4).saturating_mul(side.c) <= side.weights.len());
    if pixels == 0 || !there || !weighed || k.residual.is_some() {
        return;
    }
    let job = Job { sides: [first.elems, second.elems].map(<[i8]>::as_ptr), to: out.as_mut_ptr(), out_c, pixels };
    let weights = [first.weights, second.weights].map(<[i8]>::as_ptr);
    for at in (0..channels).step_by(16) {
        let lanes = (channels - at).min(16);
        // SAFETY: pixels and outputs are `there`, weights `weighed`; A and B are quarters of their lengths.
        unsafe {
            match [first.c, second.c].map(|c| c / 4) {
                [4, 4] => job.run(&Lanes::<4, 4>::new(&k, weights, at, lanes)),
                [8, 4] => job.run(&Lanes::<8, 4>::new(&k, weights, at, lanes)),
                [8, 8] => job.run(&Lanes::<8, 8>::new(&k, weights, at, lanes)),
                _ => return,
            }
        }
    }
}

/// Constants and weights of sixteen channels: `A` groups of four elements of the first picture, `B` of the second.
struct Lanes<const A: usize, const B: usize> {
    rows: ([__m512i; A], [__m512i; B]),
    sources: [Source; 2],
    shift: Option<Shift>,
    zero_point: __m512i,
    /// The first, and those that are there, a bit each.
    first: usize,
    mask: __mmask16,
}

impl<const A: usize, const B: usize> Lanes<A, B> {
    /// # Safety
    /// Weights of `lanes` channels from `first` on are there, rounded up to blocks of four channels.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn new(k: &Requantization<'_>, [a, b]: [*const i8; 2], first: usize, lanes: usize) -> Self {
        // Half of what the last shift drops.
        let more = [1 << (SUM_FRACTION_BITS - 1), 0];
        Lanes {
            // SAFETY: the caller's promise.
            rows: unsafe { (rows(a, first, lanes), rows(b, first, lanes)) },
            sources: [0, 1].map(|i| Source::new(k.channels[i], first, more[i])),
            shift: (k.channels[0].shift > 0).then(|| Shift::new(k.channels[0].shift)),
            zero_point: _mm512_set1_epi32(k.zero_point),
            first,
            mask: first16(lanes),
        }
    }
}

/// The pixels of both pictures, and their outputs.
struct Job {
    sides: [*const i8; 2],
    to: *mut i8,
    /// Elements from one output pixel to the next.
    out_c: usize,
    pixels: usize,
}

impl Job {
    /// Some channels of all pixels.
    ///
    /// # Safety
    /// `pixels` pixels of 4·A and 4·B elements are there, and their outputs.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const A: usize, const B: usize>(&self, of: &Lanes<A, B>) {
        let mut p = 0;
        while p < self.pixels {
            // The last ones one after the other.
            let count = if p + PIXELS <= self.pixels { PIXELS } else { 1 };
            // SAFETY: the caller's promise: pixels from p on are there.
            unsafe {
                let to = self.to.add(p * self.out_c + of.first);
                if count == 1 {
                    let [sum] = self.sums::<A, B, 1>(of, p);
                    _mm_mask_storeu_epi8(to, of.mask, _mm512_cvtsepi32_epi8(sum));
                } else {
                    let bytes = bytes_of_four(self.sums::<A, B, PIXELS>(of, p));
                    let each = [
                        _mm512_castsi512_si128(bytes),
                        _mm512_extracti32x4_epi32::<1>(bytes),
                        _mm512_extracti32x4_epi32::<2>(bytes),
                        _mm512_extracti32x4_epi32::<3>(bytes),
                    ];
                    match of.mask {
                        0xffff if self.out_c == 16 => _mm512_storeu_si512(to.cast(), bytes),
                        0xffff => {
                            for (i, bytes) in each.into_iter().enumerate() {
                                _mm_storeu_si128(to.add(i * self.out_c).cast(), bytes);
                            }
                        }
                        mask => {
                            for (i, bytes) in each.into_iter().enumerate() {
                                _mm_mask_storeu_epi8(to.add(i * self.out_c), mask, bytes);
                            }
                        }
                    }
                }
            }
            p += count;
        }
    }

    /// Outputs of `COUNT` pixels from `p` on, in 32 bits.
    ///
    /// # Safety
    /// As of `run`; the pixels are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn sums<const A: usize, const B: usize, const COUNT: usize>(
        &self,
        of: &Lanes<A, B>,
        p: usize,
    ) -> [__m512i; COUNT] {
        let [a, b] = &of.sources;
        // SAFETY: the caller's promise.
        let (first, second) = unsafe {
            let first = products::<A, COUNT>(self.sides[0].add(p * 4 * A), a.bias, &of.rows.0);
            (first, products::<B, COUNT>(self.sides[1].add(p * 4 * B), b.bias, &of.rows.1))
        };
        let mut sums = first;
        for (sum, second) in sums.iter_mut().zip(second) {
            let [x, y] = [*sum, second].map(|sum| of.shift.map_or(sum, |shift| shift.of(sum)));
            let both = _mm512_add_epi32(a.multiplier.mul_round(x), b.multiplier.mul_round(y));
            *sum = _mm512_add_epi32(_mm512_srai_epi32::<{ SUM_FRACTION_BITS }>(both), of.zero_point);
        }
        sums
    }
}

/// Products of `COUNT` pixels of 4·G elements, with 128 more each, and their weights, added to `bias`.
///
/// # Safety
/// The pixels are there.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn products<const G: usize, const COUNT: usize>(
    x: *const i8,
    bias: __m512i,
    rows: &[__m512i; G],
) -> [__m512i; COUNT] {
    let sign = _mm512_set1_epi32(i32::from_ne_bytes([0x80; 4]));
    let mut acc = [bias; COUNT];
    for (group, &row) in rows.iter().enumerate() {
        for (p, acc) in acc.iter_mut().enumerate() {
            // SAFETY: four elements of the pixel.
            let elems = unsafe { x.add(4 * (p * G + group)).cast::<i32>().read_unaligned() };
            *acc = _mm512_dpbusd_epi32(*acc, _mm512_xor_si512(_mm512_set1_epi32(elems), sign), row);
        }
    }
    acc
}

/// Weights of `lanes` channels from `first` on, a vector for each of `G` groups of four elements; zeros of channels that are not there.
///
/// # Safety
/// They are there, rounded up to blocks of four channels.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
unsafe fn rows<const G: usize>(weights: *const i8, first: usize, lanes: usize) -> [__m512i; G] {
    let mut rows = [_mm512_setzero_si512(); G];
    for (group, row) in rows.iter_mut().enumerate() {
        let mut blocks = [_mm_setzero_si128(); 4];
        for (block, to) in blocks.iter_mut().enumerate().take(lanes.div_ceil(4)) {
            // SAFETY: a block's group.
            *to = unsafe { _mm_loadu_si128(weights.add((first + 4 * block) * 4 * G + 16 * group).cast()) };
        }
        let [a, b] = [_mm256_set_m128i(blocks[1], blocks[0]), _mm256_set_m128i(blocks[3], blocks[2])];
        *row = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
    }
    rows
}
