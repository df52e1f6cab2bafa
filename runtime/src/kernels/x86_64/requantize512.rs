//! AVX-512, from sums to int8: as `requantize`, sixteen channels a vector, the last ones masked.

use super::super::{Channels, Requantization};
use super::requantize::pixels;
use super::rows512::{Multiplier, Shift, first16, load};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Constants of sixteen channels of a source.
#[derive(Clone, Copy)]
struct Source {
    bias: __m512i,
    multiplier: Multiplier,
    /// None where nothing is shifted, as in most layers.
    shift: Option<Shift>,
}

impl Source {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn new(channels: Channels<'_>, first: usize, more: i32) -> Source {
        let [bias, m] =
            [channels.bias, channels.multiplier].map(|constants| load(constants.get(first..).unwrap_or_default()));
        let shift = (channels.shift > 0).then(|| Shift::new(channels.shift));
        Source { bias, multiplier: Multiplier::adding(m, more), shift }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    fn scale(self, sum: __m512i) -> __m512i {
        let sum = _mm512_add_epi32(sum, self.bias);
        self.multiplier.mul_round(self.shift.map_or(sum, |shift| shift.of(sum)))
    }
}

/// Constants of sixteen channels, with a second source or without, with a residual or without.
#[derive(Clone, Copy)]
pub(super) struct Sixteen<const TWO: bool, const RESIDUAL: bool> {
    sources: [Source; 2],
    /// The residual's zero point, and its multiplier in two parts, as in `requantize`.
    residual: [__m512i; 3],
    zero_point: __m512i,
}

impl<const TWO: bool, const RESIDUAL: bool> Sixteen<TWO, RESIDUAL> {
    /// Channels from `first` on.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn new(k: &Requantization<'_>, first: usize) -> Self {
        // Half of what the last shift drops is added together with the first product's half, and so is the zero point where nothing can
        // take the sum out of 32 bits.
        let alone = !TWO && !RESIDUAL;
        let more = if alone { k.zero_point << SUM_FRACTION_BITS } else { 0 } + (1 << (SUM_FRACTION_BITS - 1));
        let sources = [(k.channels[0], more), (k.channels[1], 0)];
        let sources = sources.map(|(channels, more)| Source::new(channels, first, more));
        let (zero, m) = k.residual.map_or((0, 0), |residual| (residual.zero_point, residual.multiplier));
        let residual = [zero, (m >> 15) & 0xffff, m & 0x7fff].map(|x| _mm512_set1_epi32(x));
        Sixteen { sources, residual, zero_point: _mm512_set1_epi32(k.zero_point) }
    }

    /// Of the sums, and the residual's elements.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn bytes(&self, sums: [__m512i; 2], elems: __m128i) -> __m128i {
        let mut sum = self.sources[0].scale(sums[0]);
        if TWO {
            sum = _mm512_add_epi32(sum, self.sources[1].scale(sums[1]));
        }
        if RESIDUAL {
            let [zero, high, low] = self.residual;
            let centred = _mm512_sub_epi32(_mm512_cvtepi8_epi32(elems), zero);
            let below = _mm512_dpwssd_epi32(_mm512_set1_epi32(1 << 14), centred, low);
            let below = _mm512_add_epi32(_mm512_srai_epi32::<15>(below), sum);
            sum = _mm512_dpwssd_epi32(below, centred, high);
        }
        sum = _mm512_srai_epi32::<{ SUM_FRACTION_BITS }>(sum);
        if TWO || RESIDUAL {
            sum = _mm512_add_epi32(sum, self.zero_point);
        }
        _mm512_cvtsepi32_epi8(sum)
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
        let constants = Sixteen::<TWO, RESIDUAL>::new(self.k, self.first);
        let mask = if ALL { !0 } else { first16(self.lanes) };
        for p in 0..self.pixels {
            // SAFETY: the caller's promise; other lanes are masked off.
            unsafe {
                let mut sums = [_mm512_maskz_loadu_epi32(mask, self.sums[0].add(p * c)); 2];
                let mut elems = _mm_setzero_si128();
                if TWO {
                    sums[1] = _mm512_maskz_loadu_epi32(mask, self.sums[1].add(p * c));
                }
                if RESIDUAL {
                    elems = _mm_maskz_loadu_epi8(mask, self.residual.add(p * self.out_c));
                }
                let bytes = constants.bytes(sums, elems);
                let to = self.out.add(p * self.out_c);
                if ALL { _mm_storeu_si128(to.cast(), bytes) } else { _mm_mask_storeu_epi8(to, mask, bytes) }
            }
        }
    }
}
