//! From the sums of `direct512`'s tiles to bytes.

use super::super::Requantization;
use super::requantize512::{ResidualWords, Sixteen, Twice, bytes, words};
use super::rows512::{Shift, first16};
use crate::quant::SUM_FRACTION_BITS;
use core::arch::x86_64::*;

/// What becomes of the sums of two vectors of channels.
pub(super) struct Finish {
    pub(super) kind: Kind,
    /// The first channels of the first pixel.
    to: *mut i8,
    residual: *const i8,
    /// Elements from one pixel to the next.
    stride: usize,
    /// The channels that are there, a bit each.
    masks: [__mmask16; 2],
    pub(super) constants: [Twice; 2],
    /// What `Twice` has added.
    added: __m512i,
    shift: u32,
}

#[allow(clippy::large_enum_variant)] // one a call, on the stack
pub(super) enum Kind {
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
    pub(super) fn new(
        k: &Requantization<'_>,
        (to, residual, stride): (*mut i8, *const i8, usize),
        [first, lanes]: [usize; 2],
    ) -> Finish {
        let shift = k.channels[0].shift;
        let [(a, a_fits), (b, b_fits)] = [Twice::new(&k.channels[0], first), Twice::new(&k.channels[0], first + 16)];
        let added = Twice::added(k.zero_point);
        let plain = shift == 0 && (lanes == 16 || lanes == 32) && a_fits && b_fits && added.is_some();
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

impl Finish {
    /// All channels of `N` pixels from `pixel` on.
    ///
    /// # Safety
    /// They are there.
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    #[inline]
    pub(super) unsafe fn store<const V: usize, const N: usize, const RESIDUAL: bool>(
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
    pub(super) unsafe fn store_any(&self, constants: &[Sixteen; 2], sums: [__m512i; 2], pixel: usize, residual: bool) {
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
