//! AVX2, from sums to int8: sixteen channels keep their constants in registers while pixels pass.
//!
//! In three passes, as other cores do it, sums are loaded and stored so often that it takes as long as all the products of a layer
//! of 16 channels.

use super::super::{Channels, Requantization};
use super::rows::{Multiplier, Shift, eight, load};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// Pixels that are whole in everything a kernel reads and writes, `c` channels each, `out_c` apart in the output and the residual.
pub(super) fn pixels(out: &[i8], out_c: usize, sums: [&[i32]; 2], k: &Requantization<'_>) -> usize {
    let c = k.channels[0].bias.len();
    if c == 0 || out_c < c {
        return 0;
    }
    let apart = |elems: &[i8]| elems.len().saturating_add(out_c - c) / out_c;
    let residual = k.residual.and_then(|residual| residual.elems).map_or(usize::MAX, apart);
    let second = if sums[1].is_empty() { usize::MAX } else { sums[1].len() / c };
    (sums[0].len() / c).min(second).min(apart(out)).min(residual)
}

/// Constants of eight channels of a source.
#[derive(Clone, Copy)]
struct Source {
    bias: __m256i,
    multiplier: Multiplier,
    /// None where nothing is shifted, as in most layers.
    shift: Option<Shift>,
}

impl Source {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(channels: Channels<'_>, first: usize, more: i32) -> Source {
        let [bias, multiplier] = [channels.bias, channels.multiplier].map(|constants| load(&eight(constants, first)));
        let shift = (channels.shift > 0).then(|| Shift::new(channels.shift));
        Source { bias, multiplier: Multiplier::adding(multiplier, more), shift }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn scale(self, sum: __m256i) -> __m256i {
        let sum = _mm256_add_epi32(sum, self.bias);
        self.multiplier.mul_round(self.shift.map_or(sum, |shift| shift.of(sum)))
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

#[target_feature(enable = "avx2")]
pub(super) fn requantize(out: &mut [i8], out_c: usize, [first, second]: [&mut [i32]; 2], k: Requantization<'_>) {
    let pixels = pixels(out, out_c, [first, second], &k);
    let c = k.channels[0].bias.len();
    let to = out.as_mut_ptr();
    let residual = k.residual.and_then(|residual| residual.elems).map_or(to.cast_const(), <[i8]>::as_ptr);
    let mut at = 0;
    while at < c && pixels > 0 {
        let lanes = if c - at >= 16 { 16 } else { (c - at).min(8) };
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
        at += lanes;
    }
}

impl Block<'_> {
    /// With a second source or without, with a residual or without.
    ///
    /// # Safety
    /// Each pixel has `lanes` channels, 16 or at most 8, from `first` on.
    #[target_feature(enable = "avx2")]
    unsafe fn run<const TWO: bool, const RESIDUAL: bool>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.lanes {
                16 => self.vectors::<TWO, RESIDUAL, 2>(),
                _ => self.vectors::<TWO, RESIDUAL, 1>(),
            }
        }
    }

    /// `V` vectors of eight channels; fewer in the last of one.
    ///
    /// # Safety
    /// As of `run`.
    #[target_feature(enable = "avx2")]
    unsafe fn vectors<const TWO: bool, const RESIDUAL: bool, const V: usize>(&self) {
        let (c, k) = (self.k.channels[0].bias.len(), self.k);
        // Half of what the last shift drops is added together with the first product's half.
        let sources = [(k.channels[0], 1 << (SUM_FRACTION_BITS - 1)), (k.channels[1], 0)];
        let sources = sources.map(|(channels, more)| {
            core::array::from_fn::<_, V, _>(|v| Source::new(channels, self.first + 8 * v, more))
        });
        // `mul_round` of an element q less its zero point z, shifted left by 16, is ((q − z)·m + 2¹⁴) >> 15. With m in two halves of
        // 15 bits that is (q − z)·high + (((q − z)·low + 2¹⁴) >> 15), all of it 32 bits.
        let (zero, m) = k.residual.map_or((0, 0), |residual| (residual.zero_point, residual.multiplier));
        let [zero, high, low] = [zero, (m >> 15) & 0xffff, m & 0x7fff].map(|x| _mm256_set1_epi32(x));
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(self.lanes as i32), lane);
        let out_zero = _mm256_set1_epi16(k.zero_point as i16);
        for p in 0..self.pixels {
            let mut sums = [_mm256_setzero_si256(); V];
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's promise; other lanes are not read.
                let load_sums = |sums: *const i32| unsafe {
                    let sums = sums.add(p * c + 8 * v);
                    if V > 1 { _mm256_loadu_si256(sums.cast()) } else { _mm256_maskload_epi32(sums, mask) }
                };
                *sum = sources[0][v].scale(load_sums(self.sums[0]));
                if TWO {
                    *sum = _mm256_add_epi32(*sum, sources[1][v].scale(load_sums(self.sums[1])));
                }
                if RESIDUAL {
                    // SAFETY: as above.
                    let elems = unsafe { load_bytes(self.residual.add(p * self.out_c + 8 * v), self.lanes) };
                    let centred = _mm256_sub_epi32(_mm256_cvtepi8_epi32(elems), zero);
                    let below = _mm256_add_epi32(_mm256_madd_epi16(centred, low), _mm256_set1_epi32(1 << 14));
                    let below = _mm256_add_epi32(_mm256_srai_epi32::<15>(below), *sum);
                    *sum = _mm256_add_epi32(_mm256_madd_epi16(centred, high), below);
                }
                *sum = _mm256_srai_epi32::<{ SUM_FRACTION_BITS as i32 }>(*sum);
            }
            // Saturated twice, which a zero point between them does not change.
            let words = _mm256_adds_epi16(_mm256_packs_epi32(sums[0], sums[V - 1]), out_zero);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            // SAFETY: the caller's promise.
            unsafe {
                let to = self.out.add(p * self.out_c);
                if V > 1 {
                    _mm_storeu_si128(to.cast(), _mm_shuffle_epi32::<0b11_01_10_00>(bytes));
                } else {
                    let eight = _mm_cvtsi128_si64(_mm_shuffle_epi32::<0b11_01_10_00>(bytes)).to_le_bytes();
                    match self.lanes {
                        8 => to.cast::<[u8; 8]>().write(eight),
                        lanes => core::ptr::copy_nonoverlapping(eight.as_ptr().cast(), to, lanes),
                    }
                }
            }
        }
    }
}

/// Eight bytes, or `lanes` of them and zeros.
///
/// # Safety
/// They are there.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_bytes(elems: *const i8, lanes: usize) -> __m128i {
    // SAFETY: the caller's promise.
    unsafe {
        if lanes >= 8 {
            return _mm_loadl_epi64(elems.cast());
        }
        let mut bytes = [0i8; 8];
        core::ptr::copy_nonoverlapping(elems, bytes.as_mut_ptr(), lanes);
        _mm_loadl_epi64(bytes.as_ptr().cast())
    }
}
