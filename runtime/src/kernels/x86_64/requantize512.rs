//! AVX-512, from sums to int8: as `requantize`, sixteen channels a vector, the last ones masked.

use super::super::{Channels, Requantization, Residual};
use super::requantize::pixels;
use super::rows512::{Multiplier, Shift, first16, load};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Constants of sixteen channels of a source.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) bias: __m512i,
    pub(super) multiplier: Multiplier,
}

impl Source {
    /// With a number that is added behind.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(channels: Channels<'_>, first: usize, more: i32) -> Source {
        let [bias, m] =
            [channels.bias, channels.multiplier].map(|constants| load(constants.get(first..).unwrap_or_default()));
        Source { bias, multiplier: Multiplier::adding(m, more) }
    }
}

/// Constants of sixteen channels.
#[derive(Clone, Copy)]
pub(super) struct Sixteen {
    pub(super) source: Source,
    /// The residual's multiplier in two parts, as in `requantize`, and what is added to the lower product: its half, and the zero point's.
    high: __m512i,
    low: __m512i,
    below: __m512i,
}

impl Sixteen {
    /// Channels from `first` on, where a second source is to come or not.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(k: &Requantization<'_>, first: usize, two: bool) -> Sixteen {
        let (zero, m) = k.residual.map_or((0, 0), |residual| (residual.zero_point, residual.multiplier));
        let [high, low] = [m >> 15, m & 0x7fff];
        // Half of what the last shift drops is added together with the first product's half, and so is what the residual's zero point
        // takes; and the output's where nothing can take the sum out of 32 bits: a product is below 2³⁰, a residual below 2²³.
        let added = if two { 0 } else { k.zero_point << SUM_FRACTION_BITS };
        let more = added.wrapping_add(1 << (SUM_FRACTION_BITS - 1)).wrapping_sub(zero.wrapping_mul(high));
        let below = _mm512_set1_epi32((1i32 << 14).wrapping_sub(zero.wrapping_mul(low)));
        let (high, low) = (_mm512_set1_epi32(high & 0xffff), _mm512_set1_epi32(low));
        Sixteen { source: Source::new(k.channels[0], first, more), high, low, below }
    }

    /// Of sums with their biases, shifted, and the residual's elements: with fraction bits.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn scale<const RESIDUAL: bool>(&self, sum: __m512i, elems: __m512i) -> __m512i {
        self.add::<RESIDUAL>(self.source.multiplier.mul_round(sum), elems)
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn add<const RESIDUAL: bool>(&self, sum: __m512i, elems: __m512i) -> __m512i {
        if !RESIDUAL {
            return sum;
        }
        let below = _mm512_srai_epi32::<15>(_mm512_dpwssd_epi32(self.below, elems, self.low));
        _mm512_dpwssd_epi32(_mm512_add_epi32(below, sum), elems, self.high)
    }
}

/// Sixteen channels whose sums are not shifted, by twice the multiplier that others have: the upper half of a product is twice what has to be
/// rounded then, so that the half is added in words, with all else, not to each product.
#[derive(Clone, Copy)]
pub(super) struct Twice {
    pub(super) bias: __m512i,
    even: __m512i,
    odd: __m512i,
}

impl Twice {
    /// Channels from `first` on; and whether all multipliers have room for it.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(channels: &Channels<'_>, first: usize) -> (Twice, bool) {
        let bias = load(channels.bias.get(first..).unwrap_or_default());
        let m = load(channels.multiplier.get(first..).unwrap_or_default());
        let fits = _mm512_cmplt_epu32_mask(_mm512_abs_epi32(m), _mm512_set1_epi32(1 << 29)) == 0xffff;
        let even = _mm512_slli_epi32::<2>(m);
        (Twice { bias, even, odd: _mm512_shuffle_epi32::<0b11_11_01_01>(even) }, fits)
    }

    /// Twice the sums with fraction bits, rounded down.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn scale(&self, sum: __m512i) -> __m512i {
        let odd = _mm512_mul_epi32(_mm512_shuffle_epi32::<0b11_11_01_01>(sum), self.odd);
        _mm512_mask_shuffle_epi32::<0b11_11_01_01>(odd, 0b0101_0101_0101_0101, _mm512_mul_epi32(sum, self.even))
    }

    /// What is then to be added to words, where the zero point is a byte's: the half that rounds a product, that of the fraction bits, and the
    /// zero point, all of it twice.
    pub(super) fn added(zero_point: i32) -> Option<i16> {
        i8::try_from(zero_point)
            .ok()
            .map(|zero| 1 + (1 << SUM_FRACTION_BITS) + (i16::from(zero) << (SUM_FRACTION_BITS + 1)))
    }

    /// Words to what they are without fraction bits. One that was saturated before is far from a byte's range, as it was.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn whole(words: __m512i, added: __m512i) -> __m512i {
        _mm512_srai_epi16::<{ SUM_FRACTION_BITS + 1 }>(_mm512_adds_epi16(words, added))
    }
}

/// Sums of two vectors, as words that saturate: four of the first and four of the second to a quarter.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn words(a: __m512i, b: __m512i) -> __m512i {
    _mm512_packs_epi32(a, b)
}

/// Words with fraction bits to what they are without, as [`Twice::whole`] does.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn whole(words: __m512i) -> __m512i {
    _mm512_srai_epi16::<{ SUM_FRACTION_BITS }>(words)
}

/// Words of two and two vectors to bytes, sixteen of each behind the last one's.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
pub(super) fn bytes(ab: __m512i, cd: __m512i) -> __m512i {
    let by_lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(by_lanes, _mm512_packs_epi16(ab, cd))
}

/// A residual in words, where its factor is below 2: then it is below 2¹³, twice it below 2¹⁴, and a sum of [`Twice`] that was saturated before
/// it is added stays out of a byte's range.
#[derive(Clone, Copy)]
pub(super) struct ResidualWords {
    zero: __m512i,
    high: __m512i,
    low: __m512i,
}

impl ResidualWords {
    /// None where it is not so.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(residual: &Residual<'_>) -> Option<ResidualWords> {
        let Residual { zero_point, multiplier: m, .. } = *residual;
        let fits = (-128..128).contains(&zero_point) && m.unsigned_abs() < 1 << 20;
        let [zero, high, low] = [zero_point, m >> 15, m & 0x7fff].map(|x| _mm512_set1_epi16(x as i16));
        fits.then_some(ResidualWords { zero, high, low })
    }

    /// Adds twice the residual to `words`; its elements are sixteen of the first vector and sixteen of the second.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn add(&self, words: __m512i, elems: __m256i) -> __m512i {
        let elems = _mm256_permutevar8x32_epi32(elems, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let elems = _mm512_sub_epi16(_mm512_cvtepi8_epi16(elems), self.zero);
        // As `mul_round` of elements shifted by 16 bits: of its multiplier's upper part, and, rounded, of its lower 15 bits.
        let low = _mm512_mulhrs_epi16(elems, self.low);
        let residual = _mm512_add_epi16(_mm512_mullo_epi16(elems, self.high), low);
        _mm512_adds_epi16(words, _mm512_add_epi16(residual, residual))
    }
}

/// The place of some channels of all pixels.
struct Block<'a> {
    /// Of the first pixel, in the sums of each source.
    sums: [*const i32; 2],
    residual: *const i8,
    out: *mut i8,
    pixels: usize,
    out_c: usize,
    /// The first, and how many.
    first: usize,
    lanes: usize,
    k: &'a Requantization<'a>,
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn requantize(out: &mut [i8], out_c: usize, [first, second]: [&mut [i32]; 2], k: Requantization<'_>) {
    let pixels = pixels(out, out_c, [first, second], &k);
    let c = k.channels[0].bias.len();
    let to = out.as_mut_ptr();
    let residual = k.residual.and_then(|residual| residual.elems).map_or(to.cast_const(), <[i8]>::as_ptr);
    for at in (0..if pixels > 0 { c } else { 0 }).step_by(16) {
        let lanes = (c - at).min(16);
        // SAFETY (of the block too): pixels below `pixels` have c channels in the sums, the output and the residual, and these are
        // `lanes` of them.
        unsafe {
            let sums = [&*first, &*second].map(|sums| sums.as_ptr().wrapping_add(at));
            let block =
                Block { sums, residual: residual.add(at), out: to.add(at), pixels, out_c, first: at, lanes, k: &k };
            match (second.is_empty(), k.residual.is_none()) {
                (true, true) => block.run::<false, false>(),
                (true, false) => block.run::<false, true>(),
                (false, true) => block.run::<true, false>(),
                (false, false) => block.run::<true, true>(),
            }
        }
    }
}

impl Block<'_> {
    /// With a second source or without, with a residual or without.
    ///
    /// # Safety
    /// Each pixel has `lanes` channels, at most 16, from `first` on.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn run<const TWO: bool, const RESIDUAL: bool>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.lanes {
                16 => self.lanes::<TWO, RESIDUAL, true>(),
                _ => self.lanes::<TWO, RESIDUAL, false>(),
            }
        }
    }

    /// All sixteen lanes, or fewer.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn lanes<const TWO: bool, const RESIDUAL: bool, const ALL: bool>(&self) {
        let c = self.k.channels[0].bias.len();
        let first = Sixteen::new(self.k, self.first, TWO);
        let second = Source::new(self.k.channels[1], self.first, 0);
        let shift = self.k.channels.map(|channels| Shift::new(channels.shift));
        let zero_point = _mm512_set1_epi32(self.k.zero_point);
        let mask = if ALL { !0 } else { first16(self.lanes) };
        for p in 0..self.pixels {
            // SAFETY: the caller's promise; other lanes are masked off.
            let load_sums = |source: usize, bias: __m512i| unsafe {
                let sum = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, self.sums[source].add(p * c)), bias);
                if self.k.channels[source].shift > 0 { shift[source].of(sum) } else { sum }
            };
            let elems = match RESIDUAL {
                // SAFETY: as above.
                true => unsafe { _mm_maskz_loadu_epi8(mask, self.residual.add(p * self.out_c)) },
                false => _mm_setzero_si128(),
            };
            let mut sum = first.scale::<RESIDUAL>(load_sums(0, first.source.bias), _mm512_cvtepi8_epi32(elems));
            if TWO {
                sum = _mm512_add_epi32(sum, second.multiplier.mul_round(load_sums(1, second.bias)));
            }
            sum = _mm512_srai_epi32::<{ SUM_FRACTION_BITS }>(sum);
            if TWO {
                sum = _mm512_add_epi32(sum, zero_point);
            }
            let bytes = _mm512_cvtsepi32_epi8(sum);
            // SAFETY: as above.
            unsafe {
                let to = self.out.add(p * self.out_c);
                if ALL { _mm_storeu_si128(to.cast(), bytes) } else { _mm_mask_storeu_epi8(to, mask, bytes) }
            }
        }
    }
}
